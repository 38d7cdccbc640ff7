//! The log as readers see it: entries numbered without holes.
//!
//! A change appends its entries without numbers; [`numbering`](crate::numbering) gives them theirs
//! when the log is read. An entry's `_id`, a random mark, tells it from another of the same number
//! after a failover or a restored backup.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use session_core::store::record::{Fields, read_event};
use session_core::store::{Cursor, Entries, LogPage, LogPosition, PageQuery};
use session_core::{InvalidField, Timestamp};

use crate::collections::Collections;
use crate::error::{Failed, duplicate_at};
use crate::record::{self, Stored};
use crate::transaction::{Step, in_session};

impl Collections {
    /// Appends entries that do not have their numbers yet.
    pub(crate) async fn append(
        &self,
        entries: &[&Document],
        session: &mut Step<'_>,
    ) -> Result<(), Failed> {
        if session.is_none() {
            return self.append_once(entries).await;
        }
        in_session!(session.as_mut(), self.log.insert_many(entries.iter().copied()))?;
        Ok(())
    }

    /// Appends entries outside a transaction in their order, each unless it is there.
    async fn append_once(&self, entries: &[&Document]) -> Result<(), Failed> {
        let mut rest = entries.to_vec();
        while !rest.is_empty() {
            match self.log.insert_many(rest.iter().copied()).await {
                Ok(_) => break,
                Err(error) => {
                    let Some(at) = duplicate_at(&error) else { return Err(error.into()) };
                    rest.drain(..=at.min(rest.len() - 1));
                    if rest.is_empty() {
                        break;
                    }
                    let there = self.appended(&rest).await?;
                    rest.retain(|entry| {
                        !there.iter().any(|known| known.get("_id") == entry.get("_id"))
                    });
                }
            }
        }
        Ok(())
    }

    /// Those of the entries that are there, by their marks alone.
    async fn appended(&self, entries: &[&Document]) -> Result<Vec<Document>, Failed> {
        let marks: Vec<_> = entries.iter().filter_map(|entry| entry.get("_id")).collect();
        let find = self.log.find(doc! { "_id": { "$in": marks } }).projection(doc! { "_id": 1 });
        Ok(find.await?.try_collect().await?)
    }

    pub(crate) async fn read_log(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, Failed> {
        let invalidations_only = entries == Entries::Invalidations;
        self.hints.invalidations_only.store(invalidations_only, Ordering::Relaxed);
        if !self.transactional {
            self.deliver_overdue().await?;
        }
        let pending = self.number_pending().await?;
        let (newest, clock) = self.newest_and_clock().await?;
        let clock = match clock {
            Some(clock) => clock,
            None => self.clock().await?,
        };
        self.known_clock.heard(clock);
        let end = |gap| LogPage { more: pending, ..LogPage::at_end(newest.cursor(), gap, clock) };
        let Some(seen) = cursor.and_then(LogPosition::parse) else {
            return self.checked(end(cursor.is_some())).await;
        };
        if seen == newest {
            return Ok(end(false));
        }
        let upper = newest.number.min(seen.number.saturating_add(PageQuery::MAX_EXAMINED.into()));
        let found = self.log_entries(seen.number, upper, entries, limit).await?;
        let first = found.first().map(position).transpose()?;
        if !seen.continues_at(first) {
            return self.checked(end(true)).await;
        }
        let rest = if first == Some(seen) { &found[1..] } else { &found[..] };
        let cut = rest.len() > limit as usize;
        let rest = &rest[..rest.len().min(limit as usize)];
        let Some(next) = rest.last().map(position).transpose()? else {
            // The entry at the upper end has gone in between: the log is being cut.
            return self.checked(end(true)).await;
        };
        let more = cut || pending || next.number < newest.number;
        let read = rest.iter().map(|entry| read_event(&Stored(entry)));
        // Those at both ends are read for their positions.
        let wanted = |event: &Result<_, _>| event.as_ref().map_or(true, |e| entries.cover(e));
        Ok(LogPage::new(read.filter(wanted), next.cursor(), more, clock))
    }

    /// The entries from one number to another that a reader wants, and those of both ends, which
    /// say whether the log reaches there.
    async fn log_entries(
        &self,
        from: i64,
        to: i64,
        entries: Entries,
        limit: u32,
    ) -> Result<Vec<Document>, Failed> {
        let mut stages = vec![doc! { "$match": between(from, to) }];
        if entries == Entries::Invalidations {
            stages.push(doc! { "$match": invalidations(from, to) });
        }
        stages.push(doc! { "$sort": { "number": 1 } });
        stages.push(doc! { "$limit": i64::from(limit) + 2 });
        let mut session = self.session().await?;
        let mut found = self.log.aggregate(stages).session(&mut session).await?;
        let found = found.stream(&mut session).try_collect().await?;
        self.has_seen(&session);
        Ok(found)
    }

    /// A gap can mean that the collections are gone.
    async fn checked(&self, page: LogPage) -> Result<LogPage, Failed> {
        if page.gap {
            self.agree_again().await?;
        }
        Ok(page)
    }

    /// The numbered entry with the largest number.
    pub(crate) async fn newest(&self) -> Result<LogPosition, Failed> {
        Ok(self.newest_and_clock().await?.0)
    }

    /// The numbered entry with the largest number and, where there is one, the server's clock as of
    /// this read.
    async fn newest_and_clock(&self) -> Result<(LogPosition, Option<Timestamp>), Failed> {
        let known = self.newest.load(Ordering::Relaxed);
        let mut found = self.last_of(known).await?;
        if found.is_none() && known > 0 {
            // The log has come back from the past.
            found = self.last_of(0).await?;
        }
        let newest = found.as_ref().map(position).transpose()?.unwrap_or(LogPosition::START);
        self.newest.store(newest.number, Ordering::Relaxed);
        let clock = found.as_ref().map(|found| record::time(found, "clock")).transpose()?;
        Ok((newest, clock))
    }

    /// What is read after it is read as of it, also where a follower begins here and reads no entry.
    async fn last_of(&self, from: i64) -> Result<Option<Document>, Failed> {
        let stages = [
            doc! { "$match": since(from) },
            doc! { "$sort": { "number": -1 } },
            doc! { "$limit": 1 },
            doc! { "$project": { "number": 1, "clock": "$$NOW" } },
        ];
        let mut session = self.session().await?;
        let mut found = self.log.aggregate(stages).session(&mut session).await?;
        let last = found.stream(&mut session).try_next().await?;
        self.has_seen(&session);
        Ok(last)
    }

    /// Numbers pending entries first: only numbered entries form a prefix. Ages go by the server's
    /// clock at the moment that the entries are chosen.
    pub(crate) async fn trim(&self, older_than: Duration, limit: u32) -> Result<u32, Failed> {
        self.number_pending().await?;
        let stages = [
            doc! { "$match": since(0) },
            doc! { "$sort": { "number": 1 } },
            doc! { "$limit": i64::from(limit) + 1 },
            doc! { "$project": { "number": 1, "at": 1, "clock": "$$NOW" } },
        ];
        let mut oldest: Vec<Document> = self.log.aggregate(stages).await?.try_collect().await?;
        // The newest stays.
        oldest.pop();
        let mut last = None;
        for entry in &oldest {
            let line = record::time(entry, "clock")?.minus(older_than).as_micros();
            // One that cannot be read is as old as its neighbours.
            let at = Stored(entry).integer("at").ok().flatten();
            if at.is_some_and(|at| at >= line) {
                break;
            }
            last = Some(record::number(entry, "number")?);
        }
        let Some(last) = last else { return Ok(0) };
        let gone = self.log.delete_many(doc! { "number": { "$lte": last } }).await?;
        Ok(u32::try_from(gone.deleted_count).unwrap_or(u32::MAX))
    }

    /// When the oldest entry was written.
    pub(crate) async fn log_from(&self) -> Result<Option<Timestamp>, Failed> {
        let mut oldest = self.log.find_one(since(0)).sort(doc! { "number": 1 }).await?;
        if oldest.is_none() {
            oldest = self.log.find_one(doc! { "order": { "$gt": 0_i64 } }).await?;
        }
        let at = oldest.as_ref().map(|entry| record::number(entry, "at")).transpose()?;
        Ok(at.map(Timestamp::from_micros))
    }
}

/// The entries from a number on.
pub(crate) fn since(number: i64) -> Document {
    doc! { "number": { "$gte": number } }
}

/// The entries from one number to another.
pub(crate) fn between(from: i64, to: i64) -> Document {
    doc! { "number": { "$gte": from, "$lte": to } }
}

/// Of the entries in a range the invalidations, and both ends. Kinds that are not known here are
/// wanted: they count as missed.
fn invalidations(from: i64, to: i64) -> Document {
    let harmless: Vec<_> = Entries::Invalidations.unwanted_kinds().map(Bson::from).collect();
    let ends = doc! { "number": { "$in": [from.max(1), to] } };
    doc! { "$or": [ends, { "kind": { "$nin": harmless } }] }
}

fn position(entry: &Document) -> Result<LogPosition, InvalidField> {
    let (number, mark) = (record::number(entry, "number")?, record::number(entry, "_id")?);
    Ok(LogPosition { number, mark })
}
