//! Accesses that are written back.

use std::collections::HashSet;

use mongodb::bson::{Document, doc};
use mongodb::options::{UpdateOneModel, WriteModel};
use session_core::session::note_ip_address;
use session_core::store::{Touch, UserTag};
use session_core::{SessionId, Timestamp};

use crate::error::Failed;
use crate::read::{by_tag, only, sessions_in};
use crate::record::{self, field};
use crate::store::{MongoStore, NEVER};
use crate::transaction::Tries;

impl MongoStore {
    /// Never makes a record. Answers which sessions are gone.
    pub(crate) async fn write_accesses(&self, batch: &[Touch]) -> Result<Vec<SessionId>, Failed> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let gone = match self.bulk {
            true => self.touch_at_once(batch).await?,
            false => self.touch_each_collection(batch).await?,
        };
        let with_addresses = batch.iter().filter(|touch| !touch.ip_addresses.is_empty());
        for touch in with_addresses.filter(|touch| !gone.contains(&touch.id)) {
            self.merge_addresses(touch).await?;
        }
        Ok(batch.iter().map(|touch| touch.id).filter(|id| gone.contains(id)).collect())
    }

    /// All times, in the users' documents and in the list, by one command.
    async fn touch_at_once(&self, batch: &[Touch]) -> Result<HashSet<SessionId>, Failed> {
        let model = |namespace, (filter, update): (Document, Document)| -> WriteModel {
            UpdateOneModel::builder()
                .namespace(namespace)
                .filter(filter)
                .update(update)
                .build()
                .into()
        };
        let users = batch.iter().map(|touch| model(self.users.namespace(), self.of_user(touch)));
        let list = batch.iter().map(|touch| model(self.list.namespace(), self.of_list(touch)));
        let written = self.client.bulk_write(users.chain(list)).ordered(false);
        let written =
            written.write_concern(self.options.write_concern.clone()).verbose_results().await?;
        let found = |n: usize| written.update_results.get(&n).is_some_and(|r| r.matched_count > 0);
        let numbered = batch.iter().enumerate();
        Ok(numbered.filter(|(n, _)| !found(*n)).map(|(_, touch)| touch.id).collect())
    }

    /// For servers before MongoDB 8.0: a command for each collection, and a read where it says
    /// that some were not found.
    async fn touch_each_collection(&self, batch: &[Touch]) -> Result<HashSet<SessionId>, Failed> {
        let mut matched = Vec::new();
        for (collection, updates) in [
            (&self.users, batch.iter().map(|touch| self.of_user(touch)).collect::<Vec<_>>()),
            (&self.list, batch.iter().map(|touch| self.of_list(touch)).collect()),
        ] {
            let namespace = collection.namespace();
            let updates: Vec<_> = updates
                .into_iter()
                .map(|(filter, update)| doc! { "q": filter, "u": update })
                .collect();
            let command = doc! { "update": &namespace.coll, "updates": updates, "ordered": false };
            let answer = self.client.database(&namespace.db).run_command(command).await?;
            matched.push(answer.get_i32("n").unwrap_or(0));
        }
        if usize::try_from(matched[0]).is_ok_and(|matched| matched == batch.len()) {
            return Ok(HashSet::new());
        }
        let there = self.read_sessions(batch.iter().map(|touch| touch.id)).await?;
        let ids = batch.iter().map(|touch| touch.id);
        Ok(ids.filter(|id| !there.contains_key(id)).collect())
    }

    fn of_user(&self, touch: &Touch) -> (Document, Document) {
        let mut filter = by_tag(UserTag::of(touch.id));
        filter.insert(field(touch.id, ""), doc! { "$exists": true });
        let at = touch.last_accessed;
        let mut later = doc! { field(touch.id, ".last_accessed"): at.as_micros() };
        self.later_until(&mut later, at);
        (filter, doc! { "$max": later, "$inc": { "accesses": 1_i64 } })
    }

    fn of_list(&self, touch: &Touch) -> (Document, Document) {
        let at = touch.last_accessed;
        let mut later = doc! { "last_accessed": at.as_micros() };
        self.later_until(&mut later, at);
        (doc! { "_id": record::name(touch.id) }, doc! { "$max": later })
    }

    fn later_until(&self, later: &mut Document, at: Timestamp) {
        let until = self.until(at, None, at);
        if until != NEVER {
            later.insert("until", until);
        }
    }

    async fn merge_addresses(&self, touch: &Touch) -> Result<(), Failed> {
        let mut tries = Tries::new(self.options.timeout);
        let tag = UserTag::of(touch.id);
        loop {
            let find = self.users.find_one(by_tag(tag)).projection(only([touch.id]));
            let session = find.await?.as_ref().map(sessions_in).transpose()?;
            let Some(session) = session.and_then(|mut sessions| sessions.pop()) else {
                return Ok(());
            };
            let mut merged = session.ip_addresses.clone();
            touch.ip_addresses.iter().for_each(|ip| note_ip_address(&mut merged, *ip));
            if merged == session.ip_addresses {
                return Ok(());
            }
            let place = field(touch.id, ".ip_addresses");
            let mut as_read = by_tag(tag);
            as_read.insert(&place, record::addresses(&session.ip_addresses));
            let mut set = doc! { "$set": { place: record::addresses(&merged) } };
            set.insert("$inc", doc! { "accesses": 1_i64 });
            let written = self.users.update_one(as_read, set).await?;
            if written.matched_count > 0 {
                return Ok(());
            }
            if !tries.another().await {
                return Err(Failed::Conflict);
            }
        }
    }
}
