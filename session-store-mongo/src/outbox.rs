//! Changes without transactions: what has to follow a change waits in the user's document, put
//! there by the same compare-and-swap, until it is in the list and the log.
//!
//! Whoever made the change delivers it before it is acknowledged. Should that node die, a reader of
//! the log delivers it a little later. Delivering twice does no harm: a log entry's mark is unique, and
//! the list is only where sessions are looked for, not what says that they exist.

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc};
use session_core::store::UserTag;

use crate::error::{Failed, is_duplicate};
use crate::read::{CHUNK, by_id, by_tag, empty, version_of};
use crate::record;
use crate::store::MongoStore;

/// When others may think that whoever made the change has died.
pub(crate) fn due(items: usize) -> DateTime {
    let items = i64::try_from(items).unwrap_or(i64::MAX / PATIENCE_MILLIS);
    DateTime::from_millis(
        DateTime::now().timestamp_millis() + PATIENCE_MILLIS + items * EACH_MILLIS,
    )
}

/// Whose changes wait for longer than that.
pub(crate) fn overdue() -> Document {
    doc! { "due": { "$lte": DateTime::now() } }
}

const PATIENCE_MILLIS: i64 = 5000;
const EACH_MILLIS: i64 = 20;
/// How many changes whoever takes over is given time for.
const TAKEN_OVER: usize = 3000;

impl MongoStore {
    /// Delivers what somebody has left.
    pub(crate) async fn deliver_all(&self) -> Result<(), Failed> {
        let due = self.users.find(overdue()).projection(doc! { "_id": 1 });
        let due: Vec<Document> = due.await?.try_collect().await?;
        for user in due {
            // One reader takes it over, not all of them.
            let mut overdue = overdue();
            let user = record::number(&user, "_id")?;
            overdue.insert("_id", user);
            let take = doc! { "$set": { "due": self::due(TAKEN_OVER) } };
            if self.users.update_one(overdue, take).hint(by_id()).await?.matched_count > 0 {
                self.deliver_by(doc! { "_id": user }).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn deliver(&self, tag: UserTag) -> Result<(), Failed> {
        self.deliver_by(by_tag(tag)).await?;
        // A user without sessions is forgotten.
        self.users.delete_one(empty(tag)).hint(by_id()).await?;
        Ok(())
    }

    async fn deliver_by(&self, user: Document) -> Result<(), Failed> {
        let find = self.users.find_one(user.clone()).projection(doc! { "outbox": 1, "version": 1 });
        let Some(found) = find.await? else { return Ok(()) };
        let Ok(outbox) = found.get_array("outbox") else { return Ok(()) };
        let items: Vec<_> = outbox.iter().filter_map(Bson::as_document).collect();
        for items in items.chunks(CHUNK) {
            self.deliver_items(items).await?;
        }
        // Mostly nobody has come in between.
        let mut as_read = user.clone();
        as_read.insert("version", version_of(&found)?.0);
        let empty = doc! { "$unset": { "outbox": "", "due": "" } };
        if self.users.update_one(as_read, empty.clone()).hint(by_id()).await?.matched_count > 0 {
            return Ok(());
        }
        let marks = items.iter().map(|item| record::number(item, "mark"));
        let delivered = marks.collect::<Result<Vec<_>, _>>()?;
        let pull = doc! { "$pull": { "outbox": { "mark": { "$in": delivered } } } };
        self.users.update_one(user.clone(), pull).await?;
        let mut done = user;
        done.insert("outbox", Bson::Array(Vec::new()));
        self.users.update_one(done, empty).await?;
        Ok(())
    }

    async fn deliver_items(&self, items: &[&Document]) -> Result<(), Failed> {
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
        let entry = |item: &&Document| {
            item.get_document("entry").cloned().map_err(|_| record::malformed("outbox"))
        };
        let entries = items.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        self.append_once(&entries).await
    }
}
