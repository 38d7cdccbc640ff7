//! The log: entries numbered without holes.
//!
//! An entry's number is one more than that of the newest entry, and numbers are unique: so of two
//! writers at once one begins again, and no entry is ever seen before one of a lower number. Its
//! `_id`, a random mark, tells an entry from another of the same number after a failover or a
//! restored backup.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use session_core::store::{Cursor, LogPage};
use session_core::{Event, InvalidField, Timestamp};

use crate::error::{Failed, is_duplicate};
use crate::record::{self, random};
use crate::store::MongoStore;
use crate::transaction::{Step, Tries};

/// The last entry that a reader has read, or 0 and 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    number: i64,
    mark: i64,
}

impl MongoStore {
    /// Appends entries of one step, as its last action.
    pub(crate) async fn append(
        &self,
        events: &[Event],
        session: &mut Step<'_>,
    ) -> Result<(), Failed> {
        let entries = events.iter().map(|event| Ok(record::event(event, random()?)));
        let mut entries = entries.collect::<Result<Vec<_>, Failed>>()?;
        let Some(step) = session.as_mut() else { return self.append_once(&entries).await };
        step.turn = Some(Arc::clone(&self.turn).lock_owned().await);
        // Not as of the beginning of the transaction: who has committed since then is no conflict.
        let newest = self.newest().await?;
        count_on(newest, &mut entries);
        self.log.insert_many(&entries).session(&mut step.session).await?;
        Ok(())
    }

    /// Appends entries outside a transaction, each unless it is there: all by one command, or where
    /// others are in the way, one by one.
    pub(crate) async fn append_once(&self, entries: &[Document]) -> Result<(), Failed> {
        if entries.len() > 1 {
            let mut numbered = entries.to_vec();
            count_on(self.newest().await?, &mut numbered);
            match self.log.insert_many(&numbered).await {
                Ok(_) => return Ok(()),
                Err(error) if is_duplicate(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for entry in entries {
            self.append_one(entry).await?;
        }
        Ok(())
    }

    async fn append_one(&self, entry: &Document) -> Result<(), Failed> {
        let mark = record::number(entry, "_id")?;
        let mut tries = Tries::new(self.options.timeout);
        loop {
            let mut entry = [entry.clone()];
            count_on(self.newest().await?, &mut entry);
            match self.log.insert_one(&entry[0]).await {
                Ok(_) => return Ok(()),
                Err(error) if is_duplicate(&error) => {
                    if self.log.find_one(doc! { "_id": mark }).await?.is_some() {
                        return Ok(());
                    }
                    if !tries.another().await {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) async fn read_log(
        &self,
        cursor: Option<&Cursor>,
        limit: u32,
    ) -> Result<LogPage, Failed> {
        if !self.transactional {
            self.deliver_all().await?;
        }
        let Some(seen) = cursor.and_then(parse) else {
            return self.end_of_log(cursor.is_some()).await;
        };
        // The entry that it remembers, and one to know whether there is more.
        let most = i64::from(limit) + 2;
        let find = self.log.find(since(seen.number)).sort(doc! { "number": 1 }).limit(most);
        let found: Vec<Document> = find.await?.try_collect().await?;
        let rest = match found.split_first() {
            Some((first, rest)) if position(first)? == seen => rest,
            Some((first, _)) if seen == Position::default() && position(first)?.number == 1 => {
                &found[..]
            }
            None if seen == Position::default() => &[],
            // Cut, or come back from the past.
            _ => return self.end_of_log(true).await,
        };
        let more = rest.len() > limit as usize;
        let rest = &rest[..rest.len().min(limit as usize)];
        let next = rest.last().map(position).transpose()?.unwrap_or(seen);
        let (events, unreadable): (Vec<_>, Vec<_>) =
            rest.iter().map(record::parse_event).partition(Result::is_ok);
        // An entry of a newer version must not stop the reader: it counts as missed.
        let gap = !unreadable.is_empty();
        let events = events.into_iter().flatten().collect();
        Ok(LogPage { events, next: next.cursor(), more, gap })
    }

    async fn end_of_log(&self, gap: bool) -> Result<LogPage, Failed> {
        if gap {
            self.agree_again().await?;
        }
        let next = self.newest().await?.cursor();
        Ok(LogPage { events: Vec::new(), next, more: false, gap })
    }

    async fn newest(&self) -> Result<Position, Failed> {
        let newest = |from: i64| self.log.find_one(since(from)).sort(doc! { "number": -1 });
        let mut found = newest(self.seen.load(Ordering::Relaxed)).await?;
        if found.is_none() {
            // The log has come back from the past, or has no entry yet.
            found = newest(0).await?;
        }
        let newest = found.as_ref().map(position).transpose()?.unwrap_or_default();
        self.seen.store(newest.number, Ordering::Relaxed);
        Ok(newest)
    }

    pub(crate) async fn trim(&self, before: Timestamp, limit: u32) -> Result<u32, Failed> {
        let find = self.log.find(since(0)).sort(doc! { "number": 1 }).limit(i64::from(limit) + 1);
        let mut oldest: Vec<Document> =
            find.projection(doc! { "number": 1, "at": 1 }).await?.try_collect().await?;
        // The newest stays.
        oldest.pop();
        let mut last = None;
        for entry in &oldest {
            if record::number(entry, "at")? >= before.as_micros() {
                break;
            }
            last = Some(record::number(entry, "number")?);
        }
        let Some(last) = last else { return Ok(0) };
        let gone = self.log.delete_many(doc! { "number": { "$lte": last } }).await?;
        Ok(u32::try_from(gone.deleted_count).unwrap_or(u32::MAX))
    }
}

/// Numbers entries from the newest one on.
fn count_on(newest: Position, entries: &mut [Document]) {
    for (number, entry) in (newest.number + 1..).zip(entries) {
        entry.insert("number", number);
    }
}

/// The entries from a number on.
pub(crate) fn since(number: i64) -> Document {
    doc! { "number": { "$gte": number } }
}

fn position(entry: &Document) -> Result<Position, InvalidField> {
    Ok(Position { number: record::number(entry, "number")?, mark: record::number(entry, "_id")? })
}

impl Position {
    fn cursor(self) -> Cursor {
        Cursor([self.number.to_be_bytes(), self.mark.to_be_bytes()].concat())
    }
}

fn parse(cursor: &Cursor) -> Option<Position> {
    let bytes: [u8; 16] = cursor.0.as_slice().try_into().ok()?;
    let (number, mark) = bytes.split_at(8);
    let parse = |bytes: &[u8]| bytes.try_into().map(i64::from_be_bytes).ok();
    Some(Position { number: parse(number)?, mark: parse(mark)? })
}
