//! The log: a stream for each shard.
//!
//! An entry's id is its number and a random mark. A position remembers the last id read of each
//! stream, and every read begins with the entry it remembers: where that is missing or has another
//! mark the stream has been cut, or has come back from the past.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::cmd;
use session_core::store::record::read_event;
use session_core::store::{Cursor, Entries, LogPage, LogPosition, limit_within};
use session_core::{Event, InvalidField, StoreError, Timestamp};

use crate::link::Call;
use crate::placement::Shard;
use crate::record::{BEGINNING, Entry};
use crate::store::RedisStore;

/// The id of an entry, and its names and values.
pub(crate) type Told = (String, Vec<Vec<u8>>);

impl RedisStore {
    pub(crate) async fn begin_logs(&self) -> Result<(), StoreError> {
        try_join_all(self.placement.shards().map(|shard| self.begin_log(shard))).await?;
        Ok(())
    }

    /// Where the shard's log ends; begins it where it is gone, with all there was.
    async fn begin_log(&self, shard: Shard) -> Result<LogPosition, StoreError> {
        let mut call = Call::new(&self.scripts.begin, &self.placement, shard);
        call.key(self.placement.log(shard)).number(mark()?).arg(BEGINNING);
        parse_id(&self.link.run::<String>(&call).await?)
    }

    /// How long the log keeps entries beyond its cap: a node that cannot read it for shorter than
    /// `max_staleness` goes on where it was.
    pub(crate) fn log_keep(&self) -> Duration {
        self.needs().max_staleness.saturating_mul(KEPT)
    }

    pub(crate) async fn read_log(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        let shards = self.placement.shards();
        let Some(positions) = cursor.and_then(|cursor| parse(cursor, shards.len())) else {
            return self.end_of_log(cursor.is_some()).await;
        };
        let limit = limit_within(limit, LogPage::MAX_LIMIT) as usize;
        let read = shards.zip(&positions).map(|(shard, position)| async move {
            let mut read = cmd("XRANGE");
            read.arg(self.placement.log(shard)).arg(id_of(*position)).arg("+");
            // The entry it remembers, and one to know whether there is more.
            read.arg("COUNT").arg(limit + 2);
            self.link.query::<Vec<Told>>(&read).await
        });
        let streams = try_join_all(read).await?;
        let mut next = positions.clone();
        let (mut events, mut read, mut more) = (Vec::new(), 0, false);
        // Another shard begins each time, so that a busy one keeps none waiting.
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        for n in 0..streams.len() {
            let shard = (first + n) % streams.len();
            let Some((at, told)) = streams[shard].split_first() else {
                return self.end_of_log(true).await;
            };
            if parse_id(&at.0)? != positions[shard] {
                return self.end_of_log(true).await;
            }
            more |= told.len() > limit - read;
            for (id, fields) in told.iter().take(limit - read) {
                events.extend(event(fields, entries));
                next[shard] = parse_id(id)?;
                read += 1;
            }
        }
        Ok(LogPage::new(events, cursor_of(&next), more))
    }

    async fn end_of_log(&self, gap: bool) -> Result<LogPage, StoreError> {
        if gap {
            self.agree_again().await?;
        }
        let ends = try_join_all(self.placement.shards().map(|shard| self.begin_log(shard))).await?;
        Ok(LogPage::at_end(cursor_of(&ends), gap))
    }

    pub(crate) async fn trim(&self, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        let limit = limit.max(1);
        let mut trimmed = 0;
        for shard in self.placement.shards() {
            let mut call = Call::new(&self.scripts.trim, &self.placement, shard);
            call.key(self.placement.log(shard)).number(before.as_micros());
            call.number((limit - trimmed).min(MOST_TRIMMED)).arg(BEGINNING);
            trimmed += self.link.run::<u32>(&call).await?;
            if trimmed >= limit {
                break;
            }
        }
        Ok(trimmed)
    }
}

/// What an entry tells a reader; nothing where it is the mark at the beginning, or not wanted.
fn event(fields: &[Vec<u8>], entries: Entries) -> Option<Result<Event, StoreError>> {
    let entry = Entry(fields);
    let kind = entry.kind();
    if kind == Some(BEGINNING) {
        return None;
    }
    let is_known_and_unwanted = entries == Entries::Invalidations
        && kind.is_some_and(|kind| {
            kind.parse().is_ok_and(|kind: session_core::EventKind| !kind.invalidates())
        });
    (!is_known_and_unwanted).then(|| read_event(&entry))
}

fn parse_id(id: &str) -> Result<LogPosition, StoreError> {
    let malformed = || InvalidField::malformed("log", "a number and a mark");
    let (number, mark) = id.split_once('-').ok_or_else(malformed)?;
    let parse = |text: &str| text.parse().map_err(|_| malformed());
    Ok(LogPosition { number: parse(number)?, mark: parse(mark)? })
}

fn id_of(position: LogPosition) -> String {
    format!("{}-{}", position.number, position.mark)
}

fn cursor_of(positions: &[LogPosition]) -> Cursor {
    Cursor(positions.iter().flat_map(|position| position.cursor().0).collect())
}

fn parse(cursor: &Cursor, shards: usize) -> Option<Vec<LogPosition>> {
    let positions = cursor.0.chunks(16).map(|bytes| {
        let position = LogPosition::parse(&Cursor(bytes.to_vec()))?;
        // No entry has a negative number or mark.
        (position.number >= 0 && position.mark >= 0).then_some(position)
    });
    let positions: Vec<_> = positions.collect::<Option<_>>()?;
    (positions.len() == shards).then_some(positions)
}

/// A script that trims more would block its server.
const MOST_TRIMMED: u32 = 1000;

/// Entries stay for this many times `max_staleness`, whatever the cap.
const KEPT: u32 = 4;

/// Tells a log entry from another of the same number in a log that went another way.
pub(crate) fn mark() -> Result<u64, StoreError> {
    let drawn = getrandom::u64().map_err(|error| StoreError::internal(error.to_string()))?;
    // A mark is a signed number elsewhere.
    Ok(drawn >> 1)
}
