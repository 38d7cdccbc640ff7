//! Accesses that are written back.

use mongodb::bson::{Document, doc};
use session_core::session::note_ip_address;
use session_core::store::record::{Fields, address_list, parse_addresses};
use session_core::store::{Touch, UserTag};
use session_core::{SessionId, StoreError};

use crate::collections::Collections;
use crate::error::Failed;
use crate::read::by_tag;
use crate::record::{self, Stored, field};
use crate::transaction::Tries;

impl Collections {
    /// Never makes a record. Answers which sessions are gone.
    pub(crate) async fn write_accesses(&self, batch: &[Touch]) -> Result<Vec<SessionId>, Failed> {
        let mut gone = Vec::new();
        for batch in batch.chunks(BATCH) {
            gone.extend(self.touch(batch).await?);
        }
        Ok(gone)
    }

    /// One command for the users' documents, one for the list. They are read where there are
    /// addresses to merge, and where the answer says that some sessions were not found as expected.
    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, Failed> {
        let mut tries = Tries::new(self.options.timeout);
        let mut read = batch.iter().any(|touch| !touch.ip_addresses.is_empty());
        loop {
            let stored = match read {
                true => Some(self.stored_sessions(batch.iter().map(|touch| touch.id)).await?),
                false => None,
            };
            let is_there =
                |touch: &&Touch| stored.as_ref().is_none_or(|s| s.contains_key(&touch.id));
            let (there, gone): (Vec<_>, Vec<_>) = batch.iter().partition(is_there);
            let session = |id| stored.as_ref().and_then(|stored| stored.get(&id));
            let updates = there.iter().map(|touch| of_user(touch, session(touch.id)));
            let updates: Vec<_> = updates.collect();
            if self.update_each(&self.users, &updates, &mut None).await? == updates.len() {
                let updates: Vec<_> = there.iter().map(|touch| of_list(touch)).collect();
                self.update_each(&self.list, &updates, &mut None).await?;
                return Ok(gone.iter().map(|touch| touch.id).collect());
            }
            read = true;
            if !tries.another().await {
                return Err(Failed::Conflict);
            }
        }
    }
}

/// With the session as it was read, its addresses are merged, unless they cannot be read, or have
/// changed by then.
fn of_user(touch: &Touch, as_read: Option<&Document>) -> Document {
    let mut filter = by_tag(UserTag::of(touch.id));
    filter.insert(field(touch.id, ""), doc! { "$exists": true });
    let path = |name: String| field(touch.id, &format!(".{name}"));
    let later = raised(touch).into_iter().map(|(name, value)| (path(name), value));
    let mut update = doc! { "$max": later.collect::<Document>() };
    if let Some((known, merged)) = as_read.and_then(|s| merge(touch, &Stored(s)).ok()?) {
        let place = field(touch.id, ".ip_addresses");
        filter.insert(&place, known);
        update.insert("$set", doc! { place: merged });
    }
    doc! { "q": filter, "u": update }
}

/// What only rises, whichever write-back comes first.
fn raised(touch: &Touch) -> Document {
    let Touch { id: _, last_accessed, deadline, claimed, ip_addresses: _ } = touch;
    let (last_accessed, deadline) = (last_accessed.as_micros(), deadline.as_micros());
    doc! {
        "last_accessed": last_accessed,
        "deadline": deadline,
        "claimed": i64::from(*claimed),
    }
}

fn of_list(touch: &Touch) -> Document {
    let mut later = raised(touch);
    later.remove("claimed");
    doc! { "q": { "_id": record::name(touch.id) }, "u": { "$max": later } }
}

/// A session's addresses as they were read, and with those of the write-back; none where they are
/// there already.
fn merge(touch: &Touch, session: &Stored<'_>) -> Result<Option<(String, String)>, StoreError> {
    let as_read = session.text("ip_addresses")?.ok_or(record::malformed("ip_addresses"))?;
    let mut addresses = parse_addresses(&as_read)?;
    touch.ip_addresses.iter().for_each(|ip| note_ip_address(&mut addresses, *ip));
    let merged = address_list(&addresses);
    Ok((merged != as_read).then(|| (as_read.into_owned(), merged)))
}

/// Sessions that one command writes.
const BATCH: usize = 100;
