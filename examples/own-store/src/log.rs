//! The log. One transaction writes at a time, so numbers that are drawn inside it are in the order
//! of the commits, and have no holes.

use redb::{Error, ReadTransaction, ReadableTable};
use session_core::store::record::{decode_event, encode_event};
use session_core::store::{Cursor, Entries, LogPage, LogPosition, limit_within};
use session_core::{Event, Timestamp};

use crate::file::{Bytes, LOG, Tables};

/// A table of the log, in either kind of transaction.
type Entry = (i64, i64, Bytes);

impl Tables<'_> {
    /// Appends an entry and answers its number.
    pub(crate) fn append(&mut self, event: &Event) -> Result<i64, Error> {
        let number = end(&self.log)?.number + 1;
        let mark = getrandom::u64().map_err(std::io::Error::from)?.cast_signed();
        let entry = (mark, event.at.as_micros(), &*encode_event(event));
        self.log.insert(number, entry)?;
        Ok(number)
    }

    /// Deletes old entries from the oldest on; none where nothing is old. The last one stays, and
    /// with it the number that the next one counts from.
    pub(crate) fn trim(&mut self, before: Timestamp, limit: u32) -> Result<Option<u32>, Error> {
        let last = end(&self.log)?.number;
        let mut trimmed = 0;
        while trimmed < limit.max(1)
            && self.log.first()?.is_some_and(|(number, entry)| {
                number.value() < last && entry.value().1 < before.as_micros()
            })
        {
            self.log.pop_first()?;
            trimmed += 1;
        }
        Ok((trimmed > 0).then_some(trimmed))
    }
}

pub(crate) fn since(
    file: &ReadTransaction,
    cursor: Option<&Cursor>,
    entries: Entries,
    limit: u32,
) -> Result<LogPage, Error> {
    let log = file.open_table(LOG)?;
    let Some(cursor) = cursor else { return Ok(LogPage::at_end(end(&log)?.cursor(), false)) };
    if let Some(seen) = LogPosition::parse(cursor) {
        let first = log.range(seen.number..)?.next().transpose()?;
        let first = first.map(|(number, entry)| position(number.value(), entry.value()));
        if seen.continues_at(first) {
            return read(&log, seen, entries, limit);
        }
    }
    Ok(LogPage::at_end(end(&log)?.cursor(), true))
}

/// When the oldest entry was written.
pub(crate) fn begins_at(log: &impl ReadableTable<i64, Entry>) -> Result<Option<Timestamp>, Error> {
    let first = log.first()?;
    Ok(first.map(|(_, entry)| Timestamp::from_micros(entry.value().1)))
}

fn read(
    log: &impl ReadableTable<i64, Entry>,
    seen: LogPosition,
    wanted: Entries,
    limit: u32,
) -> Result<LogPage, Error> {
    let limit = limit_within(limit, LogPage::MAX_LIMIT) as usize;
    let mut found = log.range(seen.number + 1..)?;
    let (mut next, mut events) = (seen, Vec::new());
    for entry in found.by_ref().take(limit) {
        let (number, entry) = entry?;
        next = position(number.value(), entry.value());
        events.push(decode_event(entry.value().2));
    }
    events.retain(|event| event.as_ref().map_or(true, |event| wanted.cover(event)));
    let more = found.next().transpose()?.is_some();
    Ok(LogPage::new(events, next.cursor(), more))
}

fn end(log: &impl ReadableTable<i64, Entry>) -> Result<LogPosition, Error> {
    let last = log.last()?;
    Ok(last.map_or(LogPosition::START, |(number, entry)| position(number.value(), entry.value())))
}

fn position(number: i64, (mark, _, _): (i64, i64, &[u8])) -> LogPosition {
    LogPosition { number, mark }
}
