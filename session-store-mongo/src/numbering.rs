//! How entries of the log get their numbers: outside the change, when the log is read.
//!
//! A change appends its entries with an `order`, the version of its user that they belong to, and
//! no number. A reader that finds such entries decides their numbers for all readers: it writes
//! them as a list of marks into one document, the head, by a compare-and-swap on the last number
//! given. What the head says is then done to the entries, in the order of their numbers; any reader
//! can do that, and doing it twice changes nothing. The next batch is decided only when this one is
//! done. So:
//!
//! - a number is given once, to one entry, and the numbers have no holes, whenever a reader dies;
//! - an entry is never seen before one with a lower number;
//! - a read that begins after a change has been acknowledged finds its entry pending or numbered;
//! - readers write log entries and the head only, so no sign-in meets them.
//!
//! Giving each entry the newest number plus one, with the unique index as the only fence, would
//! leave holes: a writer whose first entry was numbered by another in between matches nothing
//! there, which is no error, and its second entry gets a number after one that no entry has.
//!
//! # The order of one user's entries
//! An order is larger than those of the user's earlier entries. A single scan may still pass the
//! place of a first change before it is committed and meet a second one, committed later. So
//! pending entries are read twice, and from the second read only those are numbered whose user had
//! an entry of the same or a larger order in the first. Everything before it had been committed
//! when the first read saw it, so the second read has it.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use session_core::InvalidField;

use crate::collections::Collections;
use crate::error::{Failed, is_duplicate};
use crate::record;
use crate::transaction::Tries;

/// An entry without a number.
struct Pending {
    mark: i64,
    tag: i64,
    order: i64,
}

/// The last decision about numbers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head {
    /// The last number that was given.
    last: i64,
    /// The entries that have the numbers up to that one.
    batch: Vec<i64>,
}

impl Collections {
    /// Numbers every entry that was there when the call began, or many of them: returns whether
    /// some may be left.
    pub(crate) async fn number_pending(&self) -> Result<bool, Failed> {
        let mut tries = Tries::new(self.options.timeout);
        let mut done = 0;
        for _ in 0..ROUNDS {
            let mut before = self.pending(doc! { "$gt": 0_i64 }, BATCH).await?;
            let Some(last) = before.last() else { return Ok(false) };
            let up_to = doc! { "$gt": 0_i64, "$lte": last.order };
            let all = before.len() < BATCH;
            let head = self.head().await?;
            let newest = self.newest().await?.number;
            if newest < head.last && done < head.last {
                self.give(&head).await?;
                done = head.last;
                continue;
            }
            // After the head: what is decided by then has its number and is not read here.
            let again = self.pending(up_to, 2 * BATCH).await?;
            let read_all = again.len() < 2 * BATCH;
            let batch = in_order(&mut before, again);
            if batch.is_empty() {
                continue;
            }
            let count = i64::try_from(batch.len()).unwrap_or_default();
            let next = Head { last: head.last.max(newest) + count, batch };
            if self.decide(&head, &next).await? {
                self.give(&next).await?;
                done = next.last;
                if all && read_all {
                    return Ok(false);
                }
            } else if !tries.another().await {
                return Err(Failed::Conflict);
            }
        }
        Ok(true)
    }

    async fn pending(&self, order: Document, limit: usize) -> Result<Vec<Pending>, Failed> {
        let find = self.log.find(doc! { "order": order }).sort(doc! { "order": 1 });
        let find = find.limit(i64::try_from(limit).unwrap_or(i64::MAX));
        // Causal, so that on a sharded cluster the read waits for transactions that are just being
        // committed.
        let mut session = self.session().await?;
        let find = find.projection(doc! { "order": 1, "tag": 1 });
        let mut found = find.session(&mut session).await?;
        let found: Vec<Document> = found.stream(&mut session).try_collect().await?;
        self.has_seen(&session);
        Ok(found.iter().map(Pending::parse).collect::<Result<_, _>>()?)
    }

    async fn head(&self) -> Result<Head, Failed> {
        let found = self.agreement.find_one(doc! { "_id": HEAD }).await?;
        Ok(found.as_ref().map(Head::parse).transpose()?.unwrap_or_default())
    }

    /// Replaces one decision by the next; false where another reader has decided.
    async fn decide(&self, head: &Head, next: &Head) -> Result<bool, Failed> {
        let as_read = doc! { "_id": HEAD, "last": head.last };
        let set = doc! { "$set": { "last": next.last, "batch": &next.batch } };
        // The first one makes it.
        let write = self.agreement.update_one(as_read, set).upsert(*head == Head::default());
        match write.await {
            Ok(written) => Ok(written.matched_count > 0 || written.upserted_id.is_some()),
            Err(error) if is_duplicate(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Does what the head says.
    async fn give(&self, head: &Head) -> Result<(), Failed> {
        let first = head.last + 1 - i64::try_from(head.batch.len()).unwrap_or_default();
        let numbered = (first..).zip(&head.batch);
        let update = |(number, mark): (i64, &i64)| {
            let give = doc! { "$set": { "number": number }, "$unset": { "order": "", "tag": "" } };
            doc! { "q": { "_id": mark, "order": { "$exists": true } }, "u": give }
        };
        let updates: Vec<_> = numbered.map(update).collect();
        for updates in updates.chunks(COMMAND) {
            self.update_each(&self.log, updates, &mut None).await?;
        }
        Ok(())
    }

    /// Up to which number a reader has decided.
    pub(crate) async fn decided(&self) -> Result<i64, Failed> {
        Ok(self.head().await?.last)
    }

    /// How many entries have no number yet; counts no further than a few thousand.
    pub(crate) async fn count_pending(&self) -> Result<u64, Failed> {
        let count = self.log.count_documents(doc! { "order": { "$gt": 0_i64 } });
        Ok(count.limit(COUNTED).await?)
    }
}

/// The marks to number: entries of the second read whose user had an entry of the same or a larger
/// order in the first.
fn in_order(before: &mut Vec<Pending>, again: Vec<Pending>) -> Vec<i64> {
    let newest: HashMap<_, _> = before.drain(..).map(|entry| (entry.tag, entry.order)).collect();
    let settled = |entry: &Pending| newest.get(&entry.tag).is_some_and(|n| entry.order <= *n);
    again.into_iter().filter(settled).map(|entry| entry.mark).collect()
}

impl Pending {
    fn parse(document: &Document) -> Result<Self, InvalidField> {
        Ok(Self {
            mark: record::number(document, "_id")?,
            tag: record::number(document, "tag")?,
            order: record::number(document, "order")?,
        })
    }
}

impl Head {
    fn parse(document: &Document) -> Result<Self, InvalidField> {
        let batch = document.get_array("batch").map_err(|_| record::malformed("batch"))?;
        let marks = batch.iter().map(Bson::as_i64).collect::<Option<_>>();
        let batch = marks.ok_or(record::malformed("batch"))?;
        Ok(Self { last: record::number(document, "last")?, batch })
    }
}

/// The `_id` of the head, in the collection of what all nodes agree on.
const HEAD: &str = "log";
/// The most entries of one decision, about.
const BATCH: usize = 500;
/// Entries that one command numbers.
const COMMAND: usize = 100;
/// How often one read of the log decides.
const ROUNDS: usize = 10;
/// How far pending entries are counted.
const COUNTED: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(entries: &[(i64, i64)]) -> Vec<Pending> {
        let entry = |&(tag, order): &(i64, i64)| Pending { mark: tag * 100 + order, tag, order };
        entries.iter().map(entry).collect()
    }

    /// The first scan met a user's second change and had passed the place of the first one; the
    /// second scan had passed the place of another user's.
    #[test]
    fn what_a_scan_may_have_passed_is_left_for_the_next_round() {
        let again = entries(&[(1, 1), (1, 2), (2, 4), (1, 5)]);
        assert_eq!(in_order(&mut entries(&[(1, 2)]), again), [101, 102]);
    }
}
