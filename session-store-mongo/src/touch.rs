//! Accesses that are written back.

use mongodb::bson::{Document, doc};
use session_core::session::note_ip_address;
use session_core::store::record::{Fields, address_list, parse_addresses};
use session_core::store::{Touch, UserTag};
use session_core::{SessionId, StoreError, Timestamp};

use crate::error::Failed;
use crate::read::by_tag;
use crate::record::{self, Stored, field};
use crate::store::{MongoStore, NEVER};
use crate::transaction::Tries;

impl MongoStore {
    /// Never makes a record. Answers which sessions are gone.
    pub(crate) async fn write_accesses(&self, batch: &[Touch]) -> Result<Vec<SessionId>, Failed> {
        let mut gone = Vec::new();
        for batch in batch.chunks(BATCH) {
            gone.extend(self.touch(batch).await?);
        }
        Ok(gone)
    }

    /// One command for the users' documents, one for the list, and a read where the answer says that
    /// some sessions were not found.
    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, Failed> {
        let of_users: Vec<_> = batch.iter().map(|touch| self.of_user(touch)).collect();
        let found = self.update_each(&self.users, &of_users, &mut None).await?;
        let of_list: Vec<_> = batch.iter().map(|touch| self.of_list(touch)).collect();
        self.update_each(&self.list, &of_list, &mut None).await?;
        let with_addresses = batch.iter().filter(|touch| !touch.ip_addresses.is_empty());
        self.merge_addresses(&with_addresses.collect::<Vec<_>>()).await?;
        if found == batch.len() {
            return Ok(Vec::new());
        }
        let there = self.stored_sessions(batch.iter().map(|touch| touch.id)).await?;
        let ids = batch.iter().map(|touch| touch.id);
        Ok(ids.filter(|id| !there.contains_key(id)).collect())
    }

    fn of_user(&self, touch: &Touch) -> Document {
        let mut filter = by_tag(UserTag::of(touch.id));
        filter.insert(field(touch.id, ""), doc! { "$exists": true });
        let at = touch.last_accessed;
        let mut later = doc! { field(touch.id, ".last_accessed"): at.as_micros() };
        self.later_until(&mut later, at);
        doc! { "q": filter, "u": { "$max": later } }
    }

    fn of_list(&self, touch: &Touch) -> Document {
        let at = touch.last_accessed;
        let mut later = doc! { "last_accessed": at.as_micros() };
        self.later_until(&mut later, at);
        doc! { "q": { "_id": record::name(touch.id) }, "u": { "$max": later } }
    }

    fn later_until(&self, later: &mut Document, at: Timestamp) {
        let until = self.until(at, None, at);
        if until != NEVER {
            later.insert("until", until);
        }
    }

    /// One read and one command, again for those whose addresses changed in between.
    async fn merge_addresses(&self, touches: &[&Touch]) -> Result<(), Failed> {
        if touches.is_empty() {
            return Ok(());
        }
        let mut tries = Tries::new(self.options.timeout);
        loop {
            let stored = self.stored_sessions(touches.iter().map(|touch| touch.id)).await?;
            let mut updates = Vec::new();
            for touch in touches {
                let Some(session) = stored.get(&touch.id) else { continue };
                updates.extend(merged(touch, &Stored(session))?);
            }
            if updates.is_empty()
                || self.update_each(&self.users, &updates, &mut None).await? == updates.len()
            {
                return Ok(());
            }
            if !tries.another().await {
                return Err(Failed::Conflict);
            }
        }
    }
}

/// The update that merges addresses into those that were read; none where they are there.
fn merged(touch: &Touch, session: &Stored<'_>) -> Result<Option<Document>, StoreError> {
    let as_read = session.text("ip_addresses")?.ok_or(record::malformed("ip_addresses"))?;
    let mut addresses = parse_addresses(&as_read)?;
    touch.ip_addresses.iter().for_each(|ip| note_ip_address(&mut addresses, *ip));
    let addresses = address_list(&addresses);
    if addresses == as_read {
        return Ok(None);
    }
    let place = field(touch.id, ".ip_addresses");
    let mut filter = by_tag(UserTag::of(touch.id));
    filter.insert(&place, &*as_read);
    Ok(Some(doc! { "q": filter, "u": { "$set": { place: addresses } } }))
}

/// Sessions that one command writes.
const BATCH: usize = 100;
