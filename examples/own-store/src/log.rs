//! The log. One transaction writes at a time, so numbers that are drawn inside it are in the order
//! of the commits, and have no holes.

use redb::{Error, ReadTransaction, ReadableTable};
use session_core::store::record::{decode_event, encode_event};
use session_core::store::{Cursor, Entries, LogPage, LogPosition, limit_within};
use session_core::{Event, Timestamp};

use crate::file::{Entry, LOG, Tables};

impl Tables<'_> {
    /// Appends an entry and answers its number.
    pub(crate) fn append(&mut self, event: &Event) -> Result<i64, Error> {
        let last = end(&self.log)?;
        let mark = getrandom::u64().map_err(std::io::Error::from)?.cast_signed();
        let entry = (mark, last.mark, event.at.as_micros(), &*encode_event(event));
        self.log.insert(last.number + 1, entry)?;
        Ok(last.number + 1)
    }

    /// Deletes old entries from the oldest on; none where nothing is old. The last one stays, and
    /// with it the number that the next one counts from.
    pub(crate) fn trim(&mut self, before: Timestamp, limit: u32) -> Result<Option<u32>, Error> {
        let last = end(&self.log)?.number;
        let mut trimmed = 0;
        while trimmed < limit.max(1)
            && self.log.first()?.is_some_and(|(number, entry)| {
                number.value() < last && entry.value().2 < before.as_micros()
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
    let end = end(&log)?;
    let Some(cursor) = cursor else { return Ok(LogPage::at_end(end.cursor(), false)) };
    match LogPosition::parse(cursor) {
        Some(seen) if goes_on(&log, seen, end)? => read(&log, seen, entries, limit),
        _ => Ok(LogPage::at_end(end.cursor(), true)),
    }
}

/// Whether the log goes on behind this entry. A mark tells it from another one of its number, in a
/// copy of the file that was restored.
fn goes_on(
    log: &impl ReadableTable<i64, Entry>,
    seen: LogPosition,
    end: LogPosition,
) -> Result<bool, Error> {
    let Some(next) = seen.number.checked_add(1) else { return Ok(false) };
    let Some((number, entry)) = log.range(next..)?.next().transpose()? else {
        return Ok(seen == end);
    };
    Ok(number.value() == next && entry.value().1 == seen.mark)
}

/// When the oldest entry was written.
pub(crate) fn begins_at(log: &impl ReadableTable<i64, Entry>) -> Result<Option<Timestamp>, Error> {
    let first = log.first()?;
    Ok(first.map(|(_, entry)| Timestamp::from_micros(entry.value().2)))
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
        events.push(decode_event(entry.value().3));
    }
    events.retain(|event| event.as_ref().map_or(true, |event| wanted.cover(event)));
    let more = found.next().transpose()?.is_some();
    Ok(LogPage::new(events, next.cursor(), more))
}

fn end(log: &impl ReadableTable<i64, Entry>) -> Result<LogPosition, Error> {
    let last = log.last()?;
    Ok(last.map_or(LogPosition::START, |(number, entry)| position(number.value(), entry.value())))
}

fn position(number: i64, (mark, ..): (i64, i64, i64, &[u8])) -> LogPosition {
    LogPosition { number, mark }
}
