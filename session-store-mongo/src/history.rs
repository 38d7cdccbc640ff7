//! The history: what is kept of sessions that have ended.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use session_core::store::record::{ending_fields, read_ended_session};
use session_core::store::{
    EndedSession, Ending, Forget, HistoryPage, HistoryQuery, PageQuery, limit_within,
};
use session_core::{SessionId, Timestamp, UserKey};

use crate::collections::Collections;
use crate::error::Failed;
use crate::record::{self, Stored};
use crate::transaction::Tries;
use crate::walk::{Part, Walk};

impl Collections {
    /// The record of the history for a session as it is stored.
    pub(crate) fn remembered(
        &self,
        id: SessionId,
        stored: &Document,
        ending: &Ending,
    ) -> Option<Document> {
        let mut document = stored.clone();
        document.extend(record::document(ending_fields(ending)));
        document.insert("_id", record::name(id));
        self.keeps_history.load(Ordering::Relaxed).then_some(document)
    }

    pub(crate) async fn read_ended(&self, id: SessionId) -> Result<Option<EndedSession>, Failed> {
        let mut session = self.session().await?;
        let find = self.history.find_one(doc! { "_id": record::name(id) });
        let found = find.session(&mut session).await?;
        Ok(found.as_ref().map(|found| read_ended_session(&Stored(found))).transpose()?)
    }

    /// Whether one of these sessions has ended.
    pub(crate) async fn has_ended(&self, ids: &[SessionId]) -> Result<bool, Failed> {
        let names: Vec<_> = ids.iter().map(|id| record::name(*id)).collect();
        let mut session = self.session().await?;
        let find = self.history.find_one(doc! { "_id": { "$in": names } });
        Ok(find.projection(doc! { "_id": 1 }).session(&mut session).await?.is_some())
    }

    pub(crate) async fn read_history(&self, query: &HistoryQuery) -> Result<HistoryPage, Failed> {
        let limit = limit_within(query.limit, PageQuery::MAX_LIMIT) as usize;
        let after = query.after.map(Into::into);
        let Part { found, next } =
            self.walk(&self.history, &Walk::ended(query), after, limit).await?;
        let sessions = found.iter().filter_map(|found| read_ended_session(&Stored(found)).ok());
        Ok(HistoryPage { sessions: sessions.collect(), next: next.map(Into::into) })
    }

    /// When the session ended that is kept for the longest time.
    pub(crate) async fn history_from(&self) -> Result<Option<Timestamp>, Failed> {
        let oldest = self.history.find_one(doc! {}).sort(oldest_first());
        let oldest = oldest.projection(doc! { "ended": 1 }).await?;
        let at = oldest.map(|ended| record::number(&ended, "ended")).transpose()?;
        Ok(at.map(Timestamp::from_micros))
    }

    /// Chooses again where another call has deleted all that was chosen: zero says that none is left.
    pub(crate) async fn forget_ended(&self, forget: &Forget, limit: u32) -> Result<u32, Failed> {
        let mut tries = Tries::new(self.options.timeout);
        loop {
            let chosen = match forget {
                Forget::OlderThan(age) => self.ended_before(*age, limit).await?,
                Forget::User(owner) => self.ended_of(owner, limit).await?,
            };
            if chosen.is_empty() {
                return Ok(0);
            }
            let names: Vec<_> = chosen.iter().filter_map(|ended| ended.get("_id")).collect();
            let gone = self.history.delete_many(doc! { "_id": { "$in": names } }).await?;
            if gone.deleted_count > 0 {
                return Ok(u32::try_from(gone.deleted_count).unwrap_or(u32::MAX));
            }
            if !tries.another().await {
                return Err(Failed::Conflict);
            }
        }
    }

    /// Ages go by the server's clock as of the statement that finds the records; nothing changes
    /// them.
    async fn ended_before(&self, age: Duration, limit: u32) -> Result<Vec<Document>, Failed> {
        let stages = [
            doc! { "$sort": oldest_first() },
            doc! { "$limit": i64::from(limit) },
            doc! { "$project": { "ended": 1, "clock": "$$NOW" } },
        ];
        let mut oldest: Vec<Document> = self.history.aggregate(stages).await?.try_collect().await?;
        let clock = oldest.first().map(|ended| record::time(ended, "clock")).transpose()?;
        let line = clock.map(|clock| clock.minus(age).as_micros());
        oldest.retain(|ended| ended.get_i64("ended").ok() < line);
        Ok(oldest)
    }

    async fn ended_of(&self, owner: &UserKey, limit: u32) -> Result<Vec<Document>, Failed> {
        let query = HistoryQuery::user(owner.clone());
        let mut walk = Walk::ended(&query);
        walk.whole = false;
        let mut after = None;
        loop {
            let part = self.walk(&self.history, &walk, after, limit as usize).await?;
            if !part.found.is_empty() || part.next.is_none() {
                return Ok(part.found);
            }
            after = part.next;
        }
    }
}

pub(crate) fn oldest_first() -> Document {
    doc! { "ended": 1, "_id": -1 }
}
