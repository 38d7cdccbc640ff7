//! The log: a stream for each shard.
//!
//! An entry's id is its number and a random mark. A position remembers the last id read of each
//! stream, and every read begins with the entry it remembers: where that is missing or has another
//! mark the stream has been cut, or has come back from the past.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use futures_util::future::try_join_all;
use redis::cmd;
use session_core::store::{Cursor, LogPage};
use session_core::{InvalidField, StoreError, StoreErrorKind, Timestamp};

use crate::link::Call;
use crate::placement::Shard;
use crate::record::{self, BEGINNING};
use crate::store::RedisStore;

/// An entry's number and mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    seq: u64,
    mark: u64,
}

type Entry = (String, HashMap<String, Vec<u8>>);

impl RedisStore {
    pub(crate) async fn begin_logs(&self) -> Result<(), StoreError> {
        let begin = self.placement.shards().map(|shard| async move {
            let mut call = Call::new(&self.scripts.begin, &self.placement, shard);
            call.key(self.placement.log(shard)).number(mark()?).arg(BEGINNING);
            self.link.run::<()>(&call).await
        });
        try_join_all(begin).await?;
        Ok(())
    }

    pub(crate) async fn read_log(
        &self,
        cursor: Option<&Cursor>,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        let shards = self.placement.shards();
        let Some(positions) = cursor.and_then(|cursor| parse(cursor, shards.len())) else {
            return self.end_of_log(cursor.is_some()).await;
        };
        let limit = limit as usize;
        let read = shards.zip(&positions).map(|(shard, position)| async move {
            let mut read = cmd("XRANGE");
            read.arg(self.placement.log(shard)).arg(position.to_string()).arg("+");
            // The entry it remembers, and one to know whether there is more.
            read.arg("COUNT").arg(limit + 2);
            self.link.query::<Vec<Entry>>(&read).await
        });
        let streams = try_join_all(read).await?;
        let mut page =
            LogPage { events: Vec::new(), next: Cursor(Vec::new()), more: false, gap: false };
        let mut next = positions.clone();
        // Another shard begins each time, so that a busy one keeps nobody waiting.
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        for n in 0..streams.len() {
            let shard = (first + n) % streams.len();
            let continues =
                streams[shard].first().map(|(id, _)| Position::parse(id)).transpose()?;
            if continues != Some(positions[shard]) {
                return self.end_of_log(true).await;
            }
            for (id, fields) in &streams[shard][1..] {
                if page.events.len() == limit {
                    page.more = true;
                    break;
                }
                // An entry of a newer version must not stop the reader: it counts as missed.
                match record::event(fields) {
                    Ok(event) => page.events.extend(event),
                    Err(_) => page.gap = true,
                }
                next[shard] = Position::parse(id)?;
            }
        }
        page.next = cursor_of(&next);
        Ok(page)
    }

    async fn end_of_log(&self, gap: bool) -> Result<LogPage, StoreError> {
        if gap {
            self.agree_again().await?;
        }
        let read = self.placement.shards().map(|shard| async move { self.newest(shard).await });
        let next = cursor_of(&try_join_all(read).await?);
        Ok(LogPage { events: Vec::new(), next, more: false, gap })
    }

    async fn newest(&self, shard: Shard) -> Result<Position, StoreError> {
        let mut read = cmd("XREVRANGE");
        read.arg(self.placement.log(shard)).arg("+").arg("-").arg("COUNT").arg(1);
        let newest: Vec<Entry> = self.link.query(&read).await?;
        match newest.first() {
            Some((id, _)) => Ok(Position::parse(id)?),
            None => {
                // The stream is gone, with all there was: it begins anew.
                let mut call = Call::new(&self.scripts.begin, &self.placement, shard);
                let mark = mark()?;
                call.key(self.placement.log(shard)).number(mark).arg(BEGINNING);
                self.link.run::<()>(&call).await?;
                Ok(Position { seq: 1, mark })
            }
        }
    }

    pub(crate) async fn trim(&self, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
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

impl Position {
    fn parse(id: &str) -> Result<Self, InvalidField> {
        let malformed = InvalidField::malformed("log", "a number and a mark");
        let (seq, mark) = id.split_once('-').ok_or(malformed.clone())?;
        let number = |text: &str| text.parse().map_err(|_| malformed.clone());
        Ok(Self { seq: number(seq)?, mark: number(mark)? })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.seq, self.mark)
    }
}

fn cursor_of(positions: &[Position]) -> Cursor {
    let numbers = positions.iter().flat_map(|position| [position.seq, position.mark]);
    Cursor(numbers.flat_map(u64::to_be_bytes).collect())
}

fn parse(cursor: &Cursor, shards: usize) -> Option<Vec<Position>> {
    let positions = cursor.0.chunks_exact(16);
    let read = |bytes: &[u8]| {
        let (seq, mark) = bytes.split_at(8);
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).ok();
        Some(Position { seq: number(seq)?, mark: number(mark)? })
    };
    let fits = positions.remainder().is_empty() && positions.len() == shards;
    fits.then(|| positions.map(read).collect()).flatten()
}

/// A script that trims more would block its server.
const MOST_TRIMMED: u32 = 1000;

/// Tells a log entry from another of the same number in a log that went another way.
pub(crate) fn mark() -> Result<u64, StoreError> {
    let drawn = getrandom::u64();
    drawn.map_err(|error| StoreError::new(StoreErrorKind::Internal, error.to_string()))
}
