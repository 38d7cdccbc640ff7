//! What follows a change of a user's document: entries of the log, the list and the history.
//!
//! In a transaction it follows in the same atomic step. Without transactions it waits in the user's
//! document, the outbox, put there by the compare-and-swap that makes the change. What is set at a
//! place, a policy or a block, has its entry in the outbox of the place's document.
//!
//! The node that made the change delivers it before it is acknowledged. A read of the user that
//! finds it undelivered delivers it first: a caller that tries a change again because its answer
//! was lost, and finds it done, has waited for what the first try would have waited for. Should the
//! node die, a reader of the log delivers the change a little later. Delivering twice does no harm:
//! an entry of the log has a unique mark, a record of the history the session's id, and the list is
//! only where sessions are looked for, not what says that they exist.

use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Bson, DateTime, Document, doc};
use session_core::InvalidField;

use crate::collections::Collections;
use crate::error::{Failed, is_duplicate};
use crate::record;
use crate::rewrite::{ENTRY, HISTORY, LATER, LIST, parts, unlisted};
use crate::transaction::{Step, in_session};

impl Collections {
    /// Carries out what follows a change, in order. The log comes first: where the list already
    /// shows a change, so does the log.
    pub(crate) async fn follow(
        &self,
        items: &[Document],
        session: &mut Step<'_>,
    ) -> Result<(), Failed> {
        self.append(&parts(items, ENTRY), session).await?;
        self.insert(&self.list, parts(items, LIST), session).await?;
        let later: Vec<_> = parts(items, LATER).into_iter().map(later).collect();
        self.update_each(&self.list, &later, session).await?;
        let ended: Vec<_> = parts(items, HISTORY).into_iter().map(remember).collect();
        self.update_each(&self.history, &ended, session).await?;
        let unlisted = unlisted(items);
        if !unlisted.is_empty() {
            let unlist = self.list.delete_many(doc! { "_id": { "$in": unlisted } });
            in_session!(session.as_mut(), unlist)?;
        }
        Ok(())
    }

    /// Inserts documents; outside a transaction each unless it is there.
    async fn insert(
        &self,
        collection: &Collection<Document>,
        documents: Vec<&Document>,
        session: &mut Step<'_>,
    ) -> Result<(), Failed> {
        if documents.is_empty() {
            return Ok(());
        }
        let alone = session.is_none();
        let insert = collection.insert_many(documents).ordered(!alone);
        match in_session!(session.as_mut(), insert) {
            // Those that are there have been delivered before.
            Err(error) if !(alone && is_duplicate(&error)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Delivers what dead nodes have left.
    pub(crate) async fn deliver_overdue(&self) -> Result<(), Failed> {
        let list = doc! { "$cond": [{ "$isArray": "$outbox" }, "$outbox", []] };
        let items = doc! { "$size": list };
        let stages = [
            doc! { "$match": waiting() },
            doc! { "$sort": { "waiting": 1 } },
            doc! { "$limit": AUTHORS },
            doc! { "$project": { "waiting": 1, "items": items, "clock": "$$NOW" } },
        ];
        // Policies and blocks are set rarely: what waits there is delivered by the first reader.
        for (authors, patience) in [(&self.users, PATIENCE), (&self.places, Duration::ZERO)] {
            let found = authors.aggregate(stages.clone()).await?;
            for author in found.try_collect::<Vec<_>>().await? {
                self.deliver_if_overdue(authors, &author, patience).await?;
            }
        }
        Ok(())
    }

    async fn deliver_if_overdue(
        &self,
        authors: &Collection<Document>,
        author: &Document,
        patience: Duration,
    ) -> Result<(), Failed> {
        let items = author.get_i32("items").map_err(|_| record::malformed("items"))?;
        let overdue = record::time(author, "waiting")?.plus(patience + EACH * items.unsigned_abs());
        if overdue > record::time(author, "clock")? {
            return Ok(());
        }
        // One reader takes it over, not all of them.
        let id = author.get("_id");
        let as_read = doc! { "_id": id, "waiting": author.get("waiting") };
        let take = doc! { "$currentDate": { "waiting": true } };
        if authors.update_one(as_read, take).await?.matched_count == 0 {
            return Ok(());
        }
        match self.deliver(authors, doc! { "_id": id }).await {
            Err(failed) if failed.is_corrupt() => {
                tracing::warn!(?id, error = ?failed, "changes cannot be delivered");
                Ok(())
            }
            delivered => delivered,
        }
    }

    /// Delivers the user's outbox, if it has one, before the document is used.
    pub(crate) async fn settled(&self, user: Option<&Document>) -> Result<(), Failed> {
        match user {
            Some(user) if user.contains_key("waiting") => {
                self.deliver(&self.users, doc! { "_id": user.get("_id") }).await
            }
            _ => Ok(()),
        }
    }

    /// Delivers what waits in this document, a user's or a place's.
    pub(crate) async fn deliver(
        &self,
        authors: &Collection<Document>,
        author: Document,
    ) -> Result<(), Failed> {
        let find = authors.find_one(author.clone()).projection(doc! { "outbox": 1, "version": 1 });
        let Some(found) = find.await? else { return Ok(()) };
        let Ok(outbox) = found.get_array("outbox") else { return Ok(()) };
        let items: Vec<_> = outbox.iter().filter_map(Bson::as_document).cloned().collect();
        for items in items.chunks(CHUNK) {
            self.follow(items, &mut None).await?;
        }
        // Mostly no other change of a user has come in between. A place has no version.
        if let Some(version) = found.get("version") {
            let mut as_read = author.clone();
            as_read.insert("version", version.clone());
            if authors.update_one(as_read, emptied()).await?.matched_count > 0 {
                return Ok(());
            }
        }
        let marks = parts(&items, ENTRY).into_iter().map(|entry| record::number(entry, "_id"));
        let delivered = marks.collect::<Result<Vec<_>, InvalidField>>()?;
        let pull = doc! { "$pull": { "outbox": { "entry._id": { "$in": delivered } } } };
        authors.update_one(author.clone(), pull).await?;
        let mut done = author;
        done.insert("outbox", Bson::Array(Vec::new()));
        authors.update_one(done, emptied()).await?;
        Ok(())
    }
}

/// The users, or the places, whose changes wait for their delivery.
pub(crate) fn waiting() -> Document {
    doc! { "waiting": { "$gt": DateTime::from_millis(0) } }
}

/// An update of the list for a deadline that is later now.
fn later(later: &Document) -> Document {
    let (id, deadline) = (later.get("_id"), later.get("deadline"));
    doc! { "q": { "_id": id }, "u": { "$max": { "deadline": deadline } } }
}

/// Puts a record into the history, also where that knows the session already: a restored dump whose
/// collections are of different moments has records of sessions that live.
fn remember(ended: &Document) -> Document {
    doc! { "q": { "_id": ended.get("_id") }, "u": ended, "upsert": true }
}

/// Takes the outbox out of a document. A user without sessions is forgotten some time later; a place
/// has none.
fn emptied() -> Vec<Document> {
    let none = doc! { "$eq": ["$sessions", { "$literal": {} }] };
    let until = doc! { "$cond": [none, forgotten_at(), "$$REMOVE"] };
    vec![doc! { "$unset": ["outbox", "waiting"] }, doc! { "$set": { "until": until } }]
}

/// Those of the users' documents that have neither sessions nor anything to deliver.
pub(crate) fn empty(tags: impl IntoIterator<Item = i64>) -> Document {
    let tags: Vec<_> = tags.into_iter().collect();
    doc! { "_id": { "$in": tags }, "sessions": {}, "waiting": { "$exists": false } }
}

/// A user without sessions is forgotten, but only once the log's entries surely have their numbers:
/// until then its versions go on where they were.
pub(crate) fn forgotten() -> Vec<Document> {
    vec![doc! { "$set": { "until": forgotten_at() } }]
}

/// An hour from now by the server's clock.
fn forgotten_at() -> Document {
    const REMEMBERED_MILLIS: i64 = 3_600_000;
    doc! { "$add": ["$$NOW", REMEMBERED_MILLIS] }
}

/// How long other nodes wait before they assume that the author is dead and deliver the change,
const PATIENCE: Duration = Duration::from_secs(5);
/// and for each of its items.
const EACH: Duration = Duration::from_millis(20);
/// How many users' changes one read of the log delivers, and how many places'.
const AUTHORS: i64 = 100;
/// Items that are delivered by one command.
const CHUNK: usize = 100;
