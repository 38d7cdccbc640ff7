//! A place in the log: the last entry that was read, and the ids before it that may still come.

use session_core::store::{Cursor, Entries, LogPage, LogPosition};
use session_core::{StoreError, Timestamp};

use crate::columns::Columns;
use crate::position;

/// See the documentation of [`super::log`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    last: LogPosition,
    /// Ids before the last, ascending, of transactions that may not have ended when it was read.
    open: Vec<i64>,
}

/// What one read of the log found.
#[derive(Debug)]
pub(super) struct Found<R> {
    /// Every transaction that drew an id up to this one had ended.
    settled: i64,
    /// Every entry up to this one was trimmed.
    trimmed: i64,
    /// The server's clock.
    clock: Timestamp,
    /// Entries of ids that were open, ascending.
    late: Vec<R>,
    /// Entries from the last one on, ascending.
    page: Vec<R>,
}

/// A page of the log, and what to do about its place.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) page: LogPage,
    /// Ids stay open that were open before: their transactions take long or were rolled back.
    pub(super) unsettled: bool,
}

impl Place {
    /// The most ids that a place keeps open. A reader that would have to keep more begins again at
    /// the end of the log.
    pub(super) const MAX_OPEN: usize = 4_096;

    pub(super) fn parse(cursor: &Cursor) -> Option<Self> {
        let (last, open) = cursor.0.split_at_checked(16)?;
        let last = LogPosition::parse(&Cursor(last.to_vec()))?;
        let (open, rest) = open.as_chunks();
        let open: Vec<_> = open.iter().map(|id| i64::from_be_bytes(*id)).collect();
        (rest.is_empty() && open.len() <= Self::MAX_OPEN).then_some(Self { last, open })
    }

    pub(super) fn cursor(&self) -> Cursor {
        let mut bytes = self.last.cursor().0;
        bytes.extend(self.open.iter().flat_map(|id| id.to_be_bytes()));
        Cursor(bytes)
    }

    /// The end of the log, out of the entries after the id up to which all are over, or the newest
    /// alone. None where too many ids would be open.
    pub(super) fn at_end(over: i64, entries: &[LogPosition]) -> Option<Self> {
        let last = entries.last().copied().unwrap_or(LogPosition::START);
        let ids = entries.iter().map(|entry| entry.number);
        Some(Self { last, open: missing(over, ids)? })
    }

    /// Where to read on.
    pub(super) fn from(&self) -> i64 {
        self.last.number
    }

    /// The open ids as JSON.
    pub(super) fn open(&self) -> String {
        serde_json::Value::from(self.open.clone()).to_string()
    }

    /// Takes up to `limit` entries. None where the log does not go on from here: it was trimmed, or
    /// came back from the past, or too many ids are open.
    pub(super) fn read_on<R: Columns>(
        mut self,
        found: &Found<R>,
        entries: Entries,
        limit: u32,
    ) -> Result<Option<Read>, StoreError> {
        let first = found.page.first().map(position::of).transpose()?;
        let untouched = self.last == LogPosition::START && found.trimmed == 0;
        if first != Some(self.last) && !untouched {
            return Ok(None);
        }
        let came = found.late.iter().map(position::of).collect::<Result<Vec<_>, _>>()?;
        if self.open.iter().any(|id| *id <= found.trimmed && !holds(&came, *id)) {
            // It may have come and been trimmed.
            return Ok(None);
        }
        let limit = limit as usize;
        let late = &found.late[..found.late.len().min(limit)];
        let rest = if first == Some(self.last) { &found.page[1..] } else { &found.page[..] };
        let rest_taken = &rest[..rest.len().min(limit - late.len())];
        let more = late.len() < found.late.len() || rest_taken.len() < rest.len();
        // What came and has no room on this page stays open, settled or not.
        self.open.retain(|id| *id > found.settled || holds(&came[late.len()..], *id));
        self.open.retain(|id| !holds(&came[..late.len()], *id));
        let Some(unsettled) = self.advance(found.settled, rest_taken)? else {
            return Ok(None);
        };
        let wanted = late.iter().chain(rest_taken).filter_map(|row| position::wanted(row, entries));
        let page = LogPage::new(wanted, self.cursor(), more, found.clock);
        Ok(Some(Read { page, unsettled }))
    }

    /// Goes on behind these entries. Answers whether an id was open before and is open now.
    fn advance<R: Columns>(
        &mut self,
        settled: i64,
        rest: &[R],
    ) -> Result<Option<bool>, StoreError> {
        let rest = rest.iter().map(position::of).collect::<Result<Vec<_>, _>>()?;
        let unsettled = !self.open.is_empty();
        let ids = rest.iter().map(|entry| entry.number);
        let Some(missing) = missing(settled.max(self.last.number), ids) else { return Ok(None) };
        self.open.extend(missing);
        self.last = rest.last().copied().unwrap_or(self.last);
        Ok((self.open.len() <= Self::MAX_OPEN).then_some(unsettled))
    }
}

impl<R: Columns> Found<R> {
    /// Takes the rows of a read apart by their column `part`.
    pub(super) fn of(rows: Vec<R>) -> Result<Self, StoreError> {
        let (mut settled, mut trimmed, mut clock) = (0, 0, Timestamp::EPOCH);
        let (mut late, mut page) = (Vec::new(), Vec::new());
        for row in rows {
            match row.integer("part")? {
                0 => {
                    (settled, trimmed) = (row.integer("seq")?, row.integer("tag")?);
                    clock = Timestamp::from_micros(row.integer("at")?);
                }
                1 => late.push(row),
                _ => page.push(row),
            }
        }
        Ok(Self { settled, trimmed, clock, late, page })
    }
}

/// Whether these entries, which are ascending, have one of this id.
fn holds(entries: &[LogPosition], id: i64) -> bool {
    entries.binary_search_by_key(&id, |entry| entry.number).is_ok()
}

/// The ids after `from` that are not among these, which are ascending; none where they are too
/// many.
fn missing(from: i64, ids: impl Iterator<Item = i64>) -> Option<Vec<i64>> {
    let (mut missing, mut next) = (Vec::new(), from + 1);
    for id in ids {
        let between = usize::try_from(id - next).unwrap_or(0);
        if missing.len() + between > Place::MAX_OPEN {
            return None;
        }
        missing.extend(next..id);
        next = next.max(id + 1);
    }
    Some(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::testing::Entry;

    fn place(last: i64, open: &[i64]) -> Place {
        Place { last: LogPosition { number: last, mark: last }, open: open.to_vec() }
    }

    fn found(settled: i64, late: &[i64], page: &[i64]) -> Found<Entry> {
        let entries = |ids: &[i64]| ids.iter().map(|id| Entry(*id)).collect();
        let clock = Timestamp::from_micros(77);
        Found { settled, trimmed: 1, clock, late: entries(late), page: entries(page) }
    }

    /// How many entries come, the place behind them, whether there are more, and what is unsettled.
    fn read(place: Place, found: &Found<Entry>) -> Option<(usize, Place, bool, bool)> {
        let Read { page, unsettled } = place.read_on(found, Entries::All, 3).unwrap()?;
        assert_eq!(page.clock, found.clock);
        Some((page.events.len(), Place::parse(&page.next).unwrap(), page.more, unsettled))
    }

    #[test]
    fn ids_that_are_missing_stay_open_until_they_come_or_are_settled() {
        let first = read(place(5, &[]), &found(0, &[], &[5, 7, 9])).unwrap();
        assert_eq!(first, (2, place(9, &[6, 8]), false, false));
        let came = read(first.1.clone(), &found(0, &[6], &[9])).unwrap();
        assert_eq!(came, (1, place(9, &[8]), false, true));
        let gone = read(came.1, &found(8, &[], &[9, 11])).unwrap();
        assert_eq!(gone, (1, place(11, &[10]), false, false));
        assert_eq!(read(first.1, &found(20, &[], &[9])).unwrap(), (0, place(9, &[]), false, false));
    }

    #[test]
    fn a_page_holds_no_more_than_its_limit() {
        let seen = || place(9, &[2, 3, 5, 6]);
        let full = read(seen(), &found(0, &[2, 3, 5, 6], &[9, 10])).unwrap();
        assert_eq!(full, (3, place(9, &[6]), true, true));
        let settled = read(seen(), &found(8, &[2, 3, 5, 6], &[9, 10])).unwrap();
        assert_eq!(settled, (3, place(9, &[6]), true, true), "what came late is not forgotten");
        let both = read(seen(), &found(0, &[2, 6], &[9, 11, 12])).unwrap();
        assert_eq!(both, (3, place(11, &[3, 5, 10]), true, true));
    }

    #[test]
    fn a_log_that_does_not_go_on_is_a_gap() {
        assert!(read(place(5, &[]), &found(0, &[], &[6])).is_none(), "trimmed");
        assert!(read(place(5, &[]), &found(0, &[], &[])).is_none(), "shorter");
        let mut other = place(5, &[]);
        other.last.mark = 4;
        assert!(read(other, &found(0, &[], &[5])).is_none(), "another entry of the id");
        assert!(read(place(0, &[]), &found(0, &[], &[1])).is_none(), "trimmed from the beginning");
        let trimmed = Found { trimmed: 3, ..found(4, &[], &[5]) };
        assert!(read(place(5, &[3]), &trimmed).is_none(), "an open id was trimmed");
        let there = Found { trimmed: 3, ..found(4, &[3], &[5]) };
        assert_eq!(read(place(5, &[3]), &there).unwrap().1, place(5, &[]));
        let untouched = Found { trimmed: 0, ..found(0, &[], &[2]) };
        assert_eq!(read(place(0, &[]), &untouched).unwrap().1, place(2, &[1]));
    }

    #[test]
    fn too_many_open_ids_are_a_gap() {
        let most = 4_096;
        assert!(read(place(5, &[]), &found(0, &[], &[5, 6 + most])).is_some());
        assert!(read(place(5, &[]), &found(0, &[], &[5, 7 + most])).is_none());
        assert!(read(place(5, &[4]), &found(0, &[], &[5, 6 + most])).is_none());
        assert!(read(place(5, &[]), &found(7, &[], &[5, 7 + most])).is_some());
        assert!(Place::at_end(0, &[place(2 + most, &[]).last]).is_none());
        assert_eq!(Place::at_end(1, &[place(4, &[]).last]), Some(place(4, &[2, 3])));
        assert_eq!(Place::at_end(9, &[place(4, &[]).last]), Some(place(4, &[])));
        assert_eq!(Place::at_end(0, &[]), Some(place(0, &[])));
    }

    #[test]
    fn a_place_round_trips_and_anything_else_is_none() {
        for place in [place(9, &[]), place(9, &[3, 7])] {
            assert_eq!(Place::parse(&place.cursor()), Some(place));
        }
        for bytes in [vec![], vec![0; 15], vec![0; 17], vec![0; 16 + 8 * 4_097]] {
            assert_eq!(Place::parse(&Cursor(bytes)), None);
        }
    }
}
