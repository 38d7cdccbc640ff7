//! A place in the log: the last entry, others that were read last, and the ids before the last that may
//! still come.

use session_core::store::{Cursor, Entries, LogPage, LogPosition};
use session_core::{StoreError, Timestamp};

use crate::columns::Columns;
use crate::{last_read, position};

/// See the documentation of [`super::log`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    last: LogPosition,
    /// The entries that were read last, without that one. A failover that loses what was committed last
    /// may leave the last id and lose one of these.
    read: Vec<LogPosition>,
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
    /// Entries of ids that were open or had been read, ascending.
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
        let (last, rest) = cursor.0.split_at_checked(POSITION)?;
        let (count, rest) = rest.split_first_chunk()?;
        let count = usize::try_from(u64::from_be_bytes(*count)).ok();
        let count = count.filter(|count| *count <= last_read::REMEMBERED)?;
        let (read, open) = rest.split_at_checked(count * POSITION)?;
        let position = |bytes: &[u8]| LogPosition::parse(&Cursor(bytes.to_vec()));
        let (last, read) = (position(last)?, read.chunks(POSITION).map(position));
        let (open, rest) = open.as_chunks();
        let open: Vec<_> = open.iter().map(|id| i64::from_be_bytes(*id)).collect();
        let read = read.collect::<Option<_>>()?;
        (rest.is_empty() && open.len() <= Self::MAX_OPEN).then_some(Self { last, read, open })
    }

    pub(super) fn cursor(&self) -> Cursor {
        let mut bytes = self.last.cursor().0;
        bytes.extend((self.read.len() as u64).to_be_bytes());
        bytes.extend(self.read.iter().flat_map(|entry| entry.cursor().0));
        bytes.extend(self.open.iter().flat_map(|id| id.to_be_bytes()));
        Cursor(bytes)
    }

    /// The end of the log, out of the entries after the id up to which all are over, or the newest
    /// alone. None where too many ids would be open.
    pub(super) fn at_end(over: i64, entries: &[LogPosition]) -> Option<Self> {
        let last = entries.last().copied().unwrap_or(LogPosition::START);
        let ids = entries.iter().map(|entry| entry.number);
        Some(Self { last, read: Vec::new(), open: missing(over, ids)? })
    }

    /// Where to read on.
    pub(super) fn from(&self) -> i64 {
        self.last.number
    }

    /// The ids to look for again as JSON, ascending, as the entries come: those that are open and
    /// those that were read last.
    pub(super) fn looked_for(&self) -> String {
        let read = self.read.iter().map(|entry| entry.number);
        let mut ids: Vec<_> = read.chain(self.open.iter().copied()).collect();
        ids.sort_unstable();
        serde_json::Value::from(ids).to_string()
    }

    /// Takes up to `limit` entries. None where the log does not go on from here: it was trimmed, or
    /// came back from the past, or lost an entry, or too many ids are open.
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
        let looked_for = found.late.iter().map(position::of).collect::<Result<Vec<_>, _>>()?;
        let is_there = |seen: &LogPosition| looked_for.binary_search(seen).is_ok();
        if self.read.iter().any(|seen| seen.number > found.trimmed && !is_there(seen)) {
            return Ok(None);
        }
        let late = found.late.iter().zip(looked_for);
        let late = late.filter(|(_, entry)| !self.read.contains(entry));
        let (late, came): (Vec<_>, Vec<_>) = late.unzip();
        if self.open.iter().any(|id| *id <= found.trimmed && !holds(&came, *id)) {
            // It may have come and been trimmed.
            return Ok(None);
        }
        let limit = limit as usize;
        let all_late = late.len();
        let late = &late[..all_late.min(limit)];
        let rest = if first == Some(self.last) { &found.page[1..] } else { &found.page[..] };
        let rest_taken = &rest[..rest.len().min(limit - late.len())];
        let more = late.len() < all_late || rest_taken.len() < rest.len();
        // What came and has no room on this page stays open, settled or not.
        self.open.retain(|id| *id > found.settled || holds(&came[late.len()..], *id));
        self.open.retain(|id| !holds(&came[..late.len()], *id));
        let came = &came[..late.len()];
        let Some(unsettled) = self.advance(found.settled, came, rest_taken)? else {
            return Ok(None);
        };
        let wanted =
            late.iter().copied().chain(rest_taken).filter_map(|row| position::wanted(row, entries));
        let page = LogPage::new(wanted, self.cursor(), more, found.clock);
        Ok(Some(Read { page, unsettled }))
    }

    /// Goes on behind these entries. Answers whether an id was open before and is open now.
    fn advance<R: Columns>(
        &mut self,
        settled: i64,
        late: &[LogPosition],
        rest: &[R],
    ) -> Result<Option<bool>, StoreError> {
        let rest = rest.iter().map(position::of).collect::<Result<Vec<_>, _>>()?;
        let unsettled = !self.open.is_empty();
        let ids = rest.iter().map(|entry| entry.number);
        let Some(missing) = missing(settled.max(self.last.number), ids) else { return Ok(None) };
        self.open.extend(missing);
        let last = rest.last().copied().unwrap_or(self.last);
        let before = [self.last].into_iter().filter(|before| *before != LogPosition::START);
        // Late ones come last: each may have been committed after all of its page.
        let read = before.chain(rest).chain(late.iter().copied()).filter(|entry| *entry != last);
        self.read.extend(read);
        self.read = last_read::remembered(std::mem::take(&mut self.read));
        self.last = last;
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

/// Bytes of a position in a cursor.
const POSITION: usize = 16;

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

    fn at(number: i64) -> LogPosition {
        LogPosition { number, mark: number }
    }

    fn place(last: i64, open: &[i64]) -> Place {
        Place { last: at(last), read: Vec::new(), open: open.to_vec() }
    }

    impl Place {
        fn after(mut self, read: &[i64]) -> Self {
            self.read = read.iter().copied().map(at).collect();
            self
        }
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
        let next = Place::parse(&page.next).unwrap();
        // What is looked at again has a test of its own.
        Some((page.events.len(), next.after(&[]), page.more, unsettled))
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

    /// Numbers are not in the order of commits: the last id may be there, and one before it lost.
    #[test]
    fn an_entry_that_was_read_and_is_lost_is_a_gap() {
        let read = |place: Place, found: &Found<Entry>| {
            let Read { page, .. } = place.read_on(found, Entries::All, 3).unwrap()?;
            Some((page.events.len(), Place::parse(&page.next).unwrap()))
        };
        let first = read(place(5, &[]), &found(0, &[], &[5, 7])).unwrap();
        assert_eq!(first, (1, place(7, &[6]).after(&[5])));
        let late = read(first.1, &found(0, &[5, 6], &[7])).unwrap();
        assert_eq!(late, (1, place(7, &[]).after(&[5, 6])));
        let seen = || late.1.clone();
        assert_eq!(place(9, &[4, 8]).after(&[7, 5]).looked_for(), "[4,5,7,8]");
        assert_eq!(read(seen(), &found(0, &[5, 6], &[7])), Some((0, seen())), "told once");
        let next = read(seen(), &found(0, &[5, 6], &[7, 8, 9])).unwrap();
        assert_eq!(next, (2, place(9, &[]).after(&[5, 6, 7, 8])));
        assert_eq!(read(seen(), &found(0, &[5], &[7])), None, "lost");
        let trimmed = Found { trimmed: 6, ..found(6, &[], &[7]) };
        assert_eq!(read(seen(), &trimmed), Some((0, seen())), "trimmed, not lost");
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
        for place in [place(9, &[]), place(9, &[3, 7]), place(9, &[3, 7]).after(&[2, 5])] {
            assert_eq!(Place::parse(&place.cursor()), Some(place));
        }
        for bytes in [vec![], vec![0; 15], vec![0; 17], vec![0; 25], vec![0; 24 + 8 * 4_097]] {
            assert_eq!(Place::parse(&Cursor(bytes)), None);
        }
        let too_many = place(9, &[]).after(&[1; last_read::REMEMBERED + 1]);
        assert_eq!(Place::parse(&too_many.cursor()), None);
    }
}
