//! The history: what is kept of sessions that have ended.

use std::sync::atomic::Ordering;

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use session_core::store::record::{ended_fields, read_ended_session, read_session};
use session_core::store::{
    EndedSession, Forget, HistoryPage, HistoryQuery, PageQuery, limit_within,
};
use session_core::{Actor, DeviceInfo, EndCause, SessionId, Timestamp, UserKey};

use crate::error::Failed;
use crate::record::{self, Stored};
use crate::store::MongoStore;
use crate::walk::{Part, Walk};

/// How sessions end.
#[derive(Clone, Copy)]
pub(crate) struct Ending<'e> {
    pub(crate) cause: EndCause,
    pub(crate) at: Timestamp,
    pub(crate) by: &'e Actor,
    pub(crate) from: Option<&'e DeviceInfo>,
}

impl MongoStore {
    /// The record of the history for a session as it is stored. One that cannot be read has none.
    pub(crate) fn remembered(&self, stored: &Document, ending: &Ending<'_>) -> Option<Document> {
        if !self.keeps_history.load(Ordering::Relaxed) {
            return None;
        }
        let session = read_session(&Stored(stored)).ok()?;
        let name = record::name(session.id);
        let Ending { cause, at, by, from } = *ending;
        let (by, from) = (by.clone(), from.cloned());
        let ended = EndedSession { session, ended: at, cause, by, from };
        let mut document = record::document(ended_fields(&ended));
        document.insert("_id", name);
        Some(document)
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
        let sessions = found.iter().map(|found| read_ended_session(&Stored(found)));
        Ok(HistoryPage {
            sessions: sessions.collect::<Result<_, _>>()?,
            next: next.map(Into::into),
        })
    }

    /// Ages go by the server's clock at the moment that the records are chosen: nothing changes them.
    pub(crate) async fn forget_ended(&self, forget: &Forget, limit: u32) -> Result<u32, Failed> {
        let limit = i64::from(limit);
        let names: Vec<Document> = match forget {
            Forget::OlderThan(age) => {
                let stages = [
                    doc! { "$sort": oldest_first() },
                    doc! { "$limit": limit },
                    doc! { "$project": { "ended": 1, "clock": "$$NOW" } },
                ];
                let oldest: Vec<Document> =
                    self.history.aggregate(stages).await?.try_collect().await?;
                let mut old = Vec::new();
                for ended in oldest {
                    let line = record::time(&ended, "clock")?.minus(*age).as_micros();
                    if record::number(&ended, "ended")? < line {
                        old.push(ended);
                    }
                }
                old
            }
            Forget::User(owner) => {
                let find = self.history.find(self.ended_of(owner)).limit(limit);
                find.projection(doc! { "_id": 1 }).await?.try_collect().await?
            }
        };
        let names: Vec<_> = names.iter().filter_map(|ended| ended.get("_id")).collect();
        if names.is_empty() {
            return Ok(0);
        }
        let gone = self.history.delete_many(doc! { "_id": { "$in": names } }).await?;
        Ok(u32::try_from(gone.deleted_count).unwrap_or(u32::MAX))
    }

    /// Everything of one user. Their ids begin with the user's tag, so this passes no namesakes of other
    /// tenants.
    pub(crate) fn ended_of(&self, owner: &UserKey) -> Document {
        let first = const_hex::encode(self.tags.tag(owner).as_bytes());
        let beyond = format!("{first}g");
        doc! {
            "user_id": owner.user.as_str(),
            "tenant": owner.tenant_text(),
            "_id": { "$gte": first, "$lt": beyond },
        }
    }
}

pub(crate) fn oldest_first() -> Document {
    doc! { "ended": 1, "_id": -1 }
}
