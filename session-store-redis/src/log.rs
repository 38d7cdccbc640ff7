//! The log: a stream for each shard.
//!
//! An entry's id is its number and a random mark. A position remembers the last id read of each
//! stream, and every read begins with the entry it remembers: where that is missing or has another
//! mark the stream has been cut, or has come back from the past.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::{Cmd, cmd};
use session_core::store::record::read_event;
use session_core::store::{Cursor, Entries, LogPage, LogPosition, limit_within};
use session_core::{Event, InvalidField, StoreError, Timestamp};
use tokio::time::Instant;

use crate::active::{NEVER, UNSETTLED};
use crate::entry::{BEGINNING, Entry};
use crate::link::Call;
use crate::placement::Shard;
use crate::store::RedisStore;

/// How far a reader has come in a shard's log, and at which mark the shard is settled.
#[derive(Clone, Copy)]
struct Reached {
    position: LogPosition,
    settled: u64,
}

/// What was read of each shard, where it was read, and when that began.
struct Read {
    streams: Vec<Option<Vec<Told>>>,
    begun: Instant,
    clock: Timestamp,
}

/// What one statement reads: the first entries of the first shard's log, the clock of its server, and
/// all shards' marks.
struct First {
    told: Vec<Told>,
    clock: Timestamp,
    marks: Vec<u64>,
}

/// The id of an entry, and its names and values.
pub(crate) type Told = (String, Vec<Vec<u8>>);

impl RedisStore {
    pub(crate) async fn begin_logs(&self) -> Result<(), StoreError> {
        try_join_all(self.placement.shards().map(|shard| self.begin_log(shard))).await?;
        Ok(())
    }

    /// Where the shard's log ends, and the clock of its server; begins it where it is gone, with
    /// all there was.
    async fn begin_log(&self, shard: Shard) -> Result<(LogPosition, Timestamp), StoreError> {
        let mut call = Call::new(&self.scripts.begin, &self.placement, shard);
        call.key(self.placement.log(shard)).number(mark()?).arg(BEGINNING);
        let (newest, clock): (String, i64) = self.log.run(&call).await?;
        Ok((parse_id(&newest)?, Timestamp::from_micros(clock)))
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
        let count = self.placement.shards().len();
        let Some(places) = cursor.and_then(|cursor| parse(cursor, count)) else {
            return self.end_of_log(cursor.is_some()).await;
        };
        let limit = limit_within(limit, LogPage::MAX_LIMIT) as usize;
        // As many shards have more entries as the last page has left some of.
        let share = limit.div_ceil(self.behind.load(Ordering::Relaxed).max(1));
        let Read { streams, begun, clock } = self.read_streams(&places, share).await?;
        let mut next = places.clone();
        let (mut events, mut room, mut behind) = (Vec::new(), limit, 0);
        // Another shard begins each time, so that a busy one keeps none waiting.
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        for n in 0..count {
            let shard = (first + n) % count;
            let Some(stream) = &streams[shard] else { continue };
            let Some((at, told)) = stream.split_first() else {
                return self.end_of_log(true).await;
            };
            if parse_id(&at.0)? != places[shard].position {
                return self.end_of_log(true).await;
            }
            let taken = told.len().min(share).min(room);
            for (id, fields) in &told[..taken] {
                events.extend(event(fields, entries));
                next[shard].position = parse_id(id)?;
            }
            let is_cut = told.len() > taken;
            next[shard].settled =
                if is_cut { UNSETTLED } else { self.active.settled(shard, begun) };
            behind += usize::from(is_cut);
            room -= taken;
        }
        self.behind.store(behind, Ordering::Relaxed);
        Ok(LogPage::new(events, cursor_of(&next), behind > 0, clock))
    }

    /// Reads the first shard's log, and of the others those that may have changed: of each its share of
    /// the page.
    async fn read_streams(&self, places: &[Reached], share: usize) -> Result<Read, StoreError> {
        // The entry it remembers, and one to know whether there is more.
        let count = share + 2;
        let few = count.min(FEW);
        let First { told, clock, marks } = self.read_first(places[0].position, few).await?;
        let begun = Instant::now();
        let settled: Vec<_> = places.iter().map(|place| place.settled).collect();
        let mut due = self.active.due(&settled, &marks, begun);
        due.shards[Shard::FIRST.0] = told.len() == few && few < count;
        let told = &told;
        let shards = self.placement.shards().zip(places).zip(due.shards);
        let read = shards.map(|((shard, place), is_due)| async move {
            if !is_due {
                return Ok((shard == Shard::FIRST).then(|| told.clone()));
            }
            self.log
                .query::<Vec<Told>>(&range(&self.placement.log(shard), place.position, count))
                .await
                .map(Some)
        });
        let streams = try_join_all(read).await?;
        self.active.read(due.lost);
        Ok(Read { streams, begun, clock })
    }

    async fn read_first(&self, from: LogPosition, count: usize) -> Result<First, StoreError> {
        let mut call = Call::new(&self.scripts.follow, &self.placement, Shard::FIRST);
        call.key(self.placement.log(Shard::FIRST)).key(self.placement.active());
        call.arg(id_of(from)).number(count);
        let (told, clock, marks): (_, i64, HashMap<usize, u64>) = self.log.run(&call).await?;
        let mark = |shard: Shard| marks.get(&shard.0).copied().unwrap_or(NEVER);
        let marks = self.placement.shards().map(mark).collect();
        Ok(First { told, clock: Timestamp::from_micros(clock), marks })
    }

    async fn end_of_log(&self, gap: bool) -> Result<LogPage, StoreError> {
        if gap {
            self.agree_again().await?;
        }
        // Before the ends: what is acknowledged after that has another mark.
        let marks: HashMap<usize, u64> =
            self.log.query(cmd("HGETALL").arg(self.placement.active())).await?;
        let ends = try_join_all(self.placement.shards().map(|shard| self.begin_log(shard))).await?;
        let clock = ends[0].1;
        let reached = ends.into_iter().enumerate().map(|(shard, (position, _))| {
            let settled = if marks.contains_key(&shard) { UNSETTLED } else { NEVER };
            Reached { position, settled }
        });
        Ok(LogPage::at_end(cursor_of(&reached.collect::<Vec<_>>()), gap, clock))
    }

    /// Of the shards in their order. One that has nothing old is asked for its first entries alone.
    pub(crate) async fn trim(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        let limit = limit_within(limit, MOST_TRIMMED);
        let mut trimmed = 0;
        for shard in self.placement.shards() {
            let mut call = Call::new(&self.scripts.trim, &self.placement, shard);
            call.key(self.placement.log(shard)).number(older_than.as_micros());
            call.number(limit - trimmed).arg(BEGINNING);
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
    kind.is_none_or(|kind| entries.want(kind)).then(|| read_event(&entry))
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

fn cursor_of(reached: &[Reached]) -> Cursor {
    let bytes = |reached: &Reached| {
        [reached.position.cursor().0, reached.settled.to_be_bytes().to_vec()].concat()
    };
    Cursor(reached.iter().flat_map(bytes).collect())
}

fn parse(cursor: &Cursor, shards: usize) -> Option<Vec<Reached>> {
    let reached = cursor.0.chunks(24).map(|bytes| {
        let (position, settled) = bytes.split_last_chunk()?;
        let position = LogPosition::parse(&Cursor(position.to_vec()))?;
        let settled = u64::from_be_bytes(*settled);
        // No entry has a negative number or mark.
        let is_possible = position.number >= 0 && position.mark >= 0;
        is_possible.then_some(Reached { position, settled })
    });
    let reached: Vec<_> = reached.collect::<Option<_>>()?;
    (reached.len() == shards).then_some(reached)
}

/// Reads a stream from a place on, that entry included.
fn range(log: &str, from: LogPosition, count: usize) -> Cmd {
    let mut read = cmd("XRANGE");
    read.arg(log).arg(id_of(from)).arg("+").arg("COUNT").arg(count);
    read
}

/// So many entries of the first shard come with the statement that is made in any case. More are read by a
/// command of their own: a script takes nine times as long for an entry.
const FEW: usize = 10;

/// The most entries that one call trims: a script that trims more would block its server.
const MOST_TRIMMED: u32 = 1000;

/// Entries stay for this many times `max_staleness`, beyond the cap.
const KEPT: u32 = 4;

/// A random number that distinguishes log entries with the same number, after a restore.
pub(crate) fn mark() -> Result<u64, StoreError> {
    let drawn = getrandom::u64().map_err(|error| StoreError::internal(error.to_string()))?;
    // A mark is a signed number elsewhere.
    Ok(drawn >> 1)
}
