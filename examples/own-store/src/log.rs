//! The log. One transaction writes at a time: numbers drawn inside it are in the order of commits.

use std::time::Duration;

use redb::ReadableTable;
use session_core::store::record::{decode_event, encode_event};
use session_core::store::{Cursor, Entries, LogPage, LogPosition, PageQuery, limit_within};
use session_core::{Event, Timestamp};

use crate::file::{Entry, LOG, Read, Result, Write};
use crate::settings::clock;

/// Appends an entry and answers its number.
pub(crate) fn append(file: &Write, event: &Event) -> Result<i64> {
    let mut log = file.open_table(LOG)?;
    let last = end(&log)?;
    let mark = getrandom::u64().map_err(std::io::Error::from)?.cast_signed();
    let entry = (mark, last.mark, event.at.as_micros(), &*encode_event(event));
    log.insert(last.number + 1, entry)?;
    Ok(last.number + 1)
}

/// Reads on from an entry that was seen. Each entry knows the mark of the one before it, so one
/// that follows on another log, in a copy of the file that was restored, is noticed.
pub(crate) fn since(
    file: &Read,
    (cursor, wanted, limit): &(Option<Cursor>, Entries, u32),
) -> Result<LogPage> {
    let log = file.open_table(LOG)?;
    let at_end = |gap| Ok(LogPage::at_end(end(&log)?.cursor(), gap, clock()));
    let Some(cursor) = cursor else { return at_end(false) };
    let seen = LogPosition::parse(cursor).filter(|seen| seen.number < i64::MAX);
    let Some(mut seen) = seen else { return at_end(true) };
    let mut rows = log.range(seen.number + 1..)?;
    let mut events = Vec::new();
    for row in rows.by_ref().take(limit_within(*limit, LogPage::MAX_LIMIT) as usize) {
        let (number, entry) = row?;
        let (mark, before, _, event) = entry.value();
        if (seen.number + 1, seen.mark) != (number.value(), before) {
            return at_end(true);
        }
        seen = LogPosition { number: number.value(), mark };
        events.push(decode_event(event));
    }
    let more = rows.next().transpose()?.is_some();
    if !more && seen != end(&log)? {
        return at_end(true);
    }
    events.retain(|event| event.as_ref().map_or(true, |event| wanted.cover(event)));
    Ok(LogPage::new(events, seen.cursor(), more, clock()))
}

/// Deletes old entries from the oldest on. The last one stays: the next number is one more.
pub(crate) fn trim(file: &Write, (age, limit): &(Duration, u32)) -> Result<Option<u32>> {
    let (mut log, before) = (file.open_table(LOG)?, clock().minus(*age));
    let (last, mut trimmed) = (end(&log)?.number, 0);
    while trimmed < limit_within(*limit, PageQuery::MAX_EXAMINED)
        && begins_at(&log)?.is_some_and(|(number, at)| number < last && at < before)
    {
        log.pop_first()?;
        trimmed += 1;
    }
    Ok((trimmed > 0).then_some(trimmed))
}

/// The number and the time of the oldest entry.
pub(crate) fn begins_at(log: &impl ReadableTable<i64, Entry>) -> Result<Option<(i64, Timestamp)>> {
    let Some((number, entry)) = log.first()? else { return Ok(None) };
    Ok(Some((number.value(), Timestamp::from_micros(entry.value().2))))
}

fn end(log: &impl ReadableTable<i64, Entry>) -> Result<LogPosition> {
    let Some((number, entry)) = log.last()? else { return Ok(LogPosition::START) };
    Ok(LogPosition { number: number.value(), mark: entry.value().0 })
}
