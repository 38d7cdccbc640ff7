//! Changes without transactions: what has to follow a change waits in the user's document, put
//! there by the same compare-and-swap, until it is in the log and the list.
//!
//! The node that made the change delivers it before it is acknowledged. A read of the user that finds
//! it undelivered delivers it first: a caller that tries a change again because its answer was lost,
//! and finds it done, has waited for what the first try would have waited for. Should the node die, a
//! reader of the log delivers the change a little later. Delivering twice does no harm: a log entry's
//! mark is unique, and the list is only where sessions are looked for, not what says that they exist.

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc};
use session_core::InvalidField;

use crate::change::{empty, forgotten};
use crate::error::{Failed, is_duplicate};
use crate::read::version_of;
use crate::record;
use crate::store::MongoStore;

/// When other nodes may assume that the author is dead and deliver the change.
pub(crate) fn due(items: usize) -> DateTime {
    let items = i64::try_from(items).unwrap_or(i64::MAX / PATIENCE_MILLIS);
    DateTime::from_millis(
        DateTime::now().timestamp_millis() + PATIENCE_MILLIS + items * EACH_MILLIS,
    )
}

/// The users whose changes wait for longer than that.
pub(crate) fn overdue() -> Document {
    doc! { "due": { "$lte": DateTime::now() } }
}

const PATIENCE_MILLIS: i64 = 5000;
const EACH_MILLIS: i64 = 20;
/// How many changes a node that takes over is given time for.
const TAKEN_OVER: usize = 3000;
/// How many users' changes one read of the log delivers.
const USERS: i64 = 100;
/// Items that are delivered by one command.
const CHUNK: usize = 100;

impl MongoStore {
    /// Delivers what dead nodes have left.
    pub(crate) async fn deliver_overdue(&self) -> Result<(), Failed> {
        let due = self.users.find(overdue()).projection(doc! { "_id": 1 }).limit(USERS);
        let due: Vec<Document> = due.await?.try_collect().await?;
        for user in due {
            // One reader takes it over, not all of them.
            let mut overdue = overdue();
            let user = record::number(&user, "_id")?;
            overdue.insert("_id", user);
            let take = doc! { "$set": { "due": self::due(TAKEN_OVER) } };
            if self.users.update_one(overdue, take).await?.matched_count > 0 {
                self.deliver(user).await?;
            }
        }
        Ok(())
    }

    /// Delivers the user's outbox, if it has one, before the document is used.
    pub(crate) async fn settled(&self, user: Option<&Document>) -> Result<(), Failed> {
        match user {
            Some(user) if user.contains_key("due") => {
                self.deliver(record::number(user, "_id")?).await
            }
            _ => Ok(()),
        }
    }

    /// Delivers what waits in the user's document of this tag.
    pub(crate) async fn deliver(&self, tag: i64) -> Result<(), Failed> {
        if self.empty_outbox(doc! { "_id": tag }).await? {
            self.users.update_many(empty([tag]), forgotten()).await?;
        }
        Ok(())
    }

    /// Returns whether a session has ended.
    async fn empty_outbox(&self, user: Document) -> Result<bool, Failed> {
        let find = self.users.find_one(user.clone()).projection(doc! { "outbox": 1, "version": 1 });
        let Some(found) = find.await? else { return Ok(false) };
        let Ok(outbox) = found.get_array("outbox") else { return Ok(false) };
        let items: Vec<_> = outbox.iter().filter_map(Bson::as_document).collect();
        for items in items.chunks(CHUNK) {
            self.deliver_items(items).await?;
        }
        let ended = items.iter().any(|item| item.contains_key("unlist"));
        // Mostly no other change has come in between.
        let mut as_read = user.clone();
        as_read.insert("version", version_of(&found)?.0);
        let empty = doc! { "$unset": { "outbox": "", "due": "" } };
        if self.users.update_one(as_read, empty.clone()).await?.matched_count > 0 {
            return Ok(ended);
        }
        let marks = items.iter().map(|item| record::number(entry(item)?, "_id"));
        let delivered = marks.collect::<Result<Vec<_>, _>>()?;
        let pull = doc! { "$pull": { "outbox": { "entry._id": { "$in": delivered } } } };
        self.users.update_one(user.clone(), pull).await?;
        let mut done = user;
        done.insert("outbox", Bson::Array(Vec::new()));
        self.users.update_one(done, empty).await?;
        Ok(ended)
    }

    /// The log comes first: where the list already shows a change, so does the log.
    async fn deliver_items(&self, items: &[&Document]) -> Result<(), Failed> {
        let entries = items.iter().map(|item| entry(item).cloned());
        self.append_once(&entries.collect::<Result<Vec<_>, _>>()?).await?;
        let listed: Vec<_> =
            items.iter().filter_map(|item| item.get_document("list").ok().cloned()).collect();
        if !listed.is_empty() {
            match self.list.insert_many(&listed).ordered(false).await {
                // Those that are there have been delivered before.
                Err(error) if !is_duplicate(&error) => return Err(error.into()),
                _ => {}
            }
        }
        let unlisted: Vec<_> =
            items.iter().filter_map(|item| item.get_str("unlist").ok()).collect();
        if !unlisted.is_empty() {
            self.list.delete_many(doc! { "_id": { "$in": unlisted } }).await?;
        }
        Ok(())
    }
}

fn entry(item: &Document) -> Result<&Document, InvalidField> {
    item.get_document("entry").map_err(|_| record::malformed("outbox"))
}
