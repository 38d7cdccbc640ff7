//! Reads rows of the log, and one whose numbers are in the order of commits and have no holes.

#[cfg(any(test, feature = "sqlite"))]
use session_core::Timestamp;
#[cfg(any(test, feature = "sqlite"))]
use session_core::store::LogPage;
use session_core::store::{Entries, LogPosition};
use session_core::{Event, StoreError};

use crate::columns::Columns;
use crate::rows;

pub(crate) fn of(row: &impl Columns) -> Result<LogPosition, StoreError> {
    Ok(LogPosition { number: row.integer("seq")?, mark: row.integer("tag")? })
}

/// What follows a position, out of up to `limit + 2` rows that begin at it; none where the log does
/// not continue from it: it is cut, has a hole, or came back from the past.
#[cfg(any(test, feature = "sqlite"))]
pub(crate) fn read_on<R: Columns>(
    seen: LogPosition,
    rows: &[R],
    entries: Entries,
    limit: u32,
    clock: Timestamp,
) -> Result<Option<LogPage>, StoreError> {
    let first = rows.first().map(of).transpose()?;
    if !seen.continues_at(first) {
        return Ok(None);
    }
    let rest = if first == Some(seen) { &rows[1..] } else { rows };
    for (number, row) in (seen.number + 1..).zip(rest) {
        if row.integer("seq")? != number {
            return Ok(None);
        }
    }
    let more = rest.len() > limit as usize;
    let rest = &rest[..rest.len().min(limit as usize)];
    let next = rest.last().map(of).transpose()?.unwrap_or(seen);
    let wanted = rest.iter().filter_map(|row| wanted(row, entries));
    Ok(Some(LogPage::new(wanted, next.cursor(), more, clock)))
}

/// The event of a row, if the reader wants it.
pub(crate) fn wanted<R: Columns>(row: &R, entries: Entries) -> Option<Result<Event, StoreError>> {
    let kind = row.optional_text("kind").ok().flatten();
    kind.is_none_or(|kind| entries.want(kind)).then(|| rows::event(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::testing::Entry;

    #[test]
    fn a_hole_is_not_read_over() {
        let read = |seen: i64, rows: &[i64]| {
            let rows: Vec<_> = rows.iter().map(|seq| Entry(*seq)).collect();
            let seen = LogPosition { number: seen, mark: seen };
            let page = read_on(seen, &rows, Entries::All, 2, Timestamp::EPOCH).unwrap();
            page.map(|page| {
                (page.events.len(), page.more, LogPosition::parse(&page.next).unwrap().number)
            })
        };
        assert_eq!(read(5, &[5]), Some((0, false, 5)));
        assert_eq!(read(5, &[5, 6, 7]), Some((2, false, 7)));
        assert_eq!(read(5, &[5, 6, 7, 8]), Some((2, true, 7)));
        assert_eq!(read(0, &[1, 2]), Some((2, false, 2)));
        for cut in [&[][..], &[6], &[5, 7], &[5, 6, 8]] {
            assert_eq!(read(5, cut), None, "{cut:?}");
        }
        assert_eq!((read(0, &[2]), read(0, &[1, 3])), (None, None));
    }

    #[test]
    fn what_is_not_wanted_is_passed_over() {
        let rows: Vec<_> = (5..=8).map(Entry).collect();
        let seen = LogPosition { number: 5, mark: 5 };
        let clock = Timestamp::from_micros(7);
        let page = read_on(seen, &rows, Entries::Invalidations, 2, clock).unwrap().unwrap();
        assert_eq!(page.clock, clock);
        assert_eq!(page.events.len(), 1);
        assert_eq!(LogPosition::parse(&page.next).unwrap().number, 7);
        assert!(page.more && !page.gap);
    }
}
