//! Accesses that are written back.

use std::collections::HashMap;

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
    /// addresses to merge, and where the answer says that some sessions were not found as expected or
    /// cannot be written. What cannot be read is passed over.
    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, Failed> {
        let mut tries = Tries::new(self.options.timeout);
        let mut read = batch.iter().any(|touch| !touch.ip_addresses.is_empty());
        loop {
            let stored = match read {
                true => Some(self.stored_sessions(&ids(batch)).await?),
                false => None,
            };
            let (there, gone) = sorted(batch, stored.as_ref());
            let updates: Vec<_> = there.iter().map(|(touch, read)| of_user(touch, *read)).collect();
            match self.update_independently(&self.users, &updates).await {
                Ok(found) if found == updates.len() => {
                    let updates: Vec<_> = there.iter().map(|(touch, _)| of_list(touch)).collect();
                    self.update_independently(&self.list, &updates).await?;
                    return Ok(gone);
                }
                Err(failed) if read || !failed.is_refused() => return Err(failed),
                _ => read = true,
            }
            if !tries.another().await {
                return Err(Failed::Conflict);
            }
        }
    }
}

fn ids(batch: &[Touch]) -> Vec<SessionId> {
    batch.iter().map(|touch| touch.id).collect()
}

/// Those whose sessions are there, with the session as it was read, and those whose sessions are gone.
/// One that cannot be read is neither. Before the read, all are taken to be there.
fn sorted<'b>(
    batch: &'b [Touch],
    stored: Option<&'b HashMap<SessionId, Option<Document>>>,
) -> (Vec<(&'b Touch, Option<&'b Document>)>, Vec<SessionId>) {
    let Some(stored) = stored else {
        return (batch.iter().map(|touch| (touch, None)).collect(), Vec::new());
    };
    let (mut there, mut gone) = (Vec::new(), Vec::new());
    for touch in batch {
        match stored.get(&touch.id) {
            Some(Some(session)) => there.push((touch, Some(session))),
            Some(None) => {}
            None => gone.push(touch.id),
        }
    }
    (there, gone)
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
