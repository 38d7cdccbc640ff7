//! Walks in chunks over the sessions, newest sign-in first, or over the history, latest end first:
//! pages, and what `end_many` chooses.
//!
//! A chunk is one statement. The first is small, because most pages are full soon; where a filter
//! leaves out nearly everything, the chunks grow until the walk has examined as many records as one
//! call may, or has taken its time: records that have to come from the disk take a hundred times as
//! long as others.

use std::time::{Duration, Instant};

use session_core::store::{
    Continuation, EndMany, EndedBatch, EndedSession, HistoryPage, HistoryQuery, Page, PageCursor,
    PageQuery, Sweep, limit_within,
};
use session_core::{InvalidField, Session, SessionId, StoreError, StoreErrorKind, Timestamp};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use sqlx::{Encode, QueryBuilder, Type};

use crate::columns::Columns;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::filter;
use crate::filter::Filter;

/// A walk that collects up to `limit` items and tells where to go on.
#[derive(Debug)]
pub(crate) struct Walk<T> {
    filter: Filter,
    limit: u32,
    chunk: u32,
    examined: u32,
    begun: Instant,
    /// Where the next chunk begins.
    position: Option<PageCursor>,
    /// None for a record that cannot be read: it takes a place, and is not handed on.
    found: Vec<(PageCursor, Option<T>)>,
}

/// Where a walk ended: what it found, and where to go on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Walked<T> {
    pub(crate) found: Vec<T>,
    pub(crate) next: Option<PageCursor>,
}

impl Walk<Session> {
    /// The walk of one page.
    pub(crate) fn page(query: &PageQuery) -> Self {
        let limit = limit_within(query.limit, PageQuery::MAX_LIMIT);
        Self::new(Filter::from(query), limit, query.after)
    }
}

impl Walk<EndedSession> {
    /// The walk of one page of the history.
    pub(crate) fn history(query: &HistoryQuery) -> Self {
        let limit = limit_within(query.limit, PageQuery::MAX_LIMIT);
        Self::new(Filter::from(query), limit, query.after)
    }
}

impl Walk<Vec<u8>> {
    /// The walk that chooses the ids of the sessions that one call of `end_many` ends.
    pub(crate) fn choose(end: &EndMany, limit: u32) -> Result<Self, StoreError> {
        end.selection.check().map_err(StoreError::refused)?;
        let position = end.after.as_ref().map(Continuation::place).transpose()?;
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
        Ok(Self::new(Filter::from(&end.selection), limit, position))
    }
}

impl<T> Walk<T> {
    fn new(filter: Filter, limit: u32, position: Option<PageCursor>) -> Self {
        let chunk = limit.saturating_mul(2).max(FIRST_CHUNK);
        let (begun, found) = (Instant::now(), Vec::new());
        Self { filter, limit, chunk, examined: 0, begun, position, found }
    }

    /// What the next chunk is: its filter, where it begins, how many records to examine, and how
    /// many to read.
    #[cfg(feature = "mysql")]
    pub(crate) fn chunk(&self) -> (&Filter, Option<PageCursor>, u32, u32) {
        (&self.filter, self.position, self.chunk, self.wanted())
    }

    /// The statement of the next chunk. The columns need `id` and that of [`List::order`].
    ///
    /// [`List::order`]: filter::List::order
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn statement<DB>(&self, columns: &str, table: &str) -> QueryBuilder<DB>
    where
        DB: filter::Dialect,
        for<'q> String: Encode<'q, DB> + Type<DB>,
        for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
        for<'q> i64: Encode<'q, DB> + Type<DB>,
    {
        filter::chunk(columns, table, &self.filter, self.position, self.chunk, self.wanted())
    }

    /// Takes the rows of a chunk. Answers what was found once there is enough, or nothing more to
    /// examine in this call. Rows that cannot be read are passed over.
    pub(crate) fn absorb<R: Columns>(
        &mut self,
        rows: &[R],
        read: impl Fn(&R) -> Result<T, StoreError>,
    ) -> Result<Option<Walked<T>>, StoreError> {
        let order = self.filter.list.order();
        let mut last = None;
        for row in rows {
            match row.integer("examined")? {
                0 => self.found.push((position_of(row, order)?, readable(read(row))?)),
                examined => last = Some((position_of(row, order)?, examined)),
            }
        }
        if self.found.len() > self.limit as usize {
            return Ok(Some(self.cut()));
        }
        let full = i64::from(self.chunk);
        let Some((last, examined)) = last.filter(|(_, examined)| *examined == full) else {
            return Ok(Some(self.over(None)));
        };
        self.examined += u32::try_from(examined).unwrap_or(u32::MAX);
        self.position = Some(last);
        let left = PageQuery::MAX_EXAMINED.saturating_sub(self.examined);
        let left = left.min(left_in_time(self.examined, self.begun.elapsed()));
        if left == 0 {
            return Ok(Some(self.over(Some(last))));
        }
        self.chunk = self.chunk.saturating_mul(GROWTH).min(left);
        Ok(None)
    }

    /// One more than there is room for tells whether there are more.
    fn wanted(&self) -> u32 {
        let found = u32::try_from(self.found.len()).unwrap_or(u32::MAX);
        self.limit.saturating_sub(found) + 1
    }

    fn cut(&mut self) -> Walked<T> {
        self.found.truncate(self.limit as usize);
        let next = self.found.last().map(|(position, _)| *position);
        self.over(next)
    }

    fn over(&mut self, next: Option<PageCursor>) -> Walked<T> {
        let found = std::mem::take(&mut self.found);
        Walked { found: found.into_iter().filter_map(|(_, item)| item).collect(), next }
    }
}

impl From<Walked<Session>> for Page {
    fn from(walked: Walked<Session>) -> Self {
        Self { sessions: walked.found, next: walked.next }
    }
}

impl From<Walked<EndedSession>> for HistoryPage {
    fn from(walked: Walked<EndedSession>) -> Self {
        Self { sessions: walked.found, next: walked.next }
    }
}

/// How many records a walk can still examine in its time, if they take as long as those so far.
fn left_in_time(examined: u32, took: Duration) -> u32 {
    let left = MOST_TIME.saturating_sub(took).as_nanos();
    let records = u128::from(examined) * left / took.as_nanos().max(1);
    let records = u32::try_from(records).unwrap_or(u32::MAX);
    // A smaller chunk is not worth its statement.
    if records < FIRST_CHUNK { 0 } else { records }
}

fn readable<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(error) if error.kind() == StoreErrorKind::Corrupt => Ok(None),
        read => read.map(Some),
    }
}

/// The id of a chosen session.
pub(crate) fn id<R: Columns>(row: &R) -> Result<Vec<u8>, StoreError> {
    Ok(row.bytes("id")?.to_vec())
}

/// Behind which session a sweep goes on, along the index of `due`.
pub(crate) fn due_after(sweep: &Sweep) -> Result<PageCursor, StoreError> {
    const START: PageCursor =
        PageCursor { at: Timestamp::from_micros(i64::MIN), id: SessionId::from_bytes([0; 16]) };
    sweep.after.as_ref().map_or(Ok(START), Continuation::place)
}

/// The ids of the sessions that a sweep has to look at, of which it asked for `limit`.
pub(crate) fn due<R: Columns>(rows: &[R], limit: u32) -> Result<Walked<Vec<u8>>, StoreError> {
    let last = rows.last().filter(|_| rows.len() == limit as usize);
    let next = last.map(|row| position_of(row, "due")).transpose()?;
    Ok(Walked { found: rows.iter().map(id).collect::<Result<_, _>>()?, next })
}

/// Where a record is in a list that is ordered by this column, then by id.
pub(crate) fn position_of(
    row: &impl Columns,
    order: &'static str,
) -> Result<PageCursor, StoreError> {
    let malformed = |_| InvalidField::malformed("id", "sixteen bytes");
    let id = row.bytes("id")?.try_into().map_err(malformed)?;
    let at = Timestamp::from_micros(row.integer(order)?);
    Ok(PageCursor { at, id: SessionId::from_bytes(id) })
}

const FIRST_CHUNK: u32 = 200;
const GROWTH: u32 = 5;
/// How long the chunks of one walk may take.
const MOST_TIME: Duration = Duration::from_millis(25);

#[cfg(test)]
mod tests {
    use session_core::store::{Selection, TenantFilter};
    use session_core::{Actor, EndCause};

    use super::*;

    /// A row of a chunk: the session `n`, and how many were examined in the last row.
    struct Chosen {
        n: u32,
        id: [u8; 16],
        examined: u32,
    }

    impl Columns for Chosen {
        fn text(&self, column: &'static str) -> Result<&str, StoreError> {
            Err(StoreError::internal(column))
        }

        fn optional_text(&self, column: &'static str) -> Result<Option<&str>, StoreError> {
            Err(StoreError::internal(column))
        }

        fn integer(&self, column: &'static str) -> Result<i64, StoreError> {
            match column {
                "signed_in" => Ok(-i64::from(self.n)),
                "examined" => Ok(self.examined.into()),
                _ => Err(StoreError::internal(column)),
            }
        }

        fn optional_integer(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
            self.integer(column).map(Some)
        }

        fn bytes(&self, _: &'static str) -> Result<&[u8], StoreError> {
            Ok(&self.id)
        }

        fn optional_bytes(&self, column: &'static str) -> Result<Option<&[u8]>, StoreError> {
            self.bytes(column).map(Some)
        }
    }

    fn id_of(n: u32) -> [u8; 16] {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        id
    }

    fn chosen(n: u32, examined: u32) -> Chosen {
        Chosen { n, id: id_of(n), examined }
    }

    /// What the database answers to a chunk where every session whose number this divides is
    /// covered, of sessions 1 to `all`. Answers the last one that was examined, too.
    fn answer(walk: &Walk<Vec<u8>>, all: u32, every: u32) -> Vec<Chosen> {
        let after = walk.position.map_or(0, |position| {
            u32::from_be_bytes(position.id.as_bytes()[..4].try_into().unwrap())
        });
        let last = all.min(after + walk.chunk);
        let covered = (after + 1..=last).filter(|n| n % every == 0).take(walk.wanted() as usize);
        let mut rows: Vec<_> = covered.map(|n| chosen(n, 0)).collect();
        if last > after {
            rows.push(chosen(last, last - after));
        }
        rows
    }

    fn end(after: Option<PageCursor>) -> EndMany {
        EndMany {
            selection: Selection::within(TenantFilter::Any),
            after: after.map(Continuation::at),
            cause: EndCause::Revoked,
            at: Timestamp::EPOCH,
            by: Actor::System,
            from: None,
        }
    }

    /// One call: what it found, where to go on, how many chunks it took.
    fn call(
        after: Option<PageCursor>,
        limit: u32,
        all: u32,
        every: u32,
    ) -> (usize, Option<PageCursor>, u32) {
        let mut walk = Walk::choose(&end(after), limit).unwrap();
        for chunks in 1.. {
            let rows = answer(&walk, all, every);
            if let Some(walked) = walk.absorb(&rows, id).unwrap() {
                return (walked.found.len(), walked.next, chunks);
            }
        }
        unreachable!()
    }

    fn place(n: u32) -> PageCursor {
        let at = Timestamp::from_micros(-i64::from(n));
        PageCursor { at, id: SessionId::from_bytes(id_of(n)) }
    }

    #[test]
    fn a_full_call_goes_on_after_the_last_that_it_found() {
        assert_eq!(call(None, 10, 100, 2), (10, Some(place(20)), 1));
        assert_eq!(call(Some(place(20)), 10, 100, 2), (10, Some(place(40)), 1));
        assert_eq!(call(None, 10, 20, 2), (10, None, 1), "one more tells whether there are more");
        assert_eq!(call(None, 10, 22, 2), (10, Some(place(20)), 1));
    }

    #[test]
    fn a_call_that_finds_nothing_examines_what_it_may() {
        let most = PageQuery::MAX_EXAMINED;
        let (found, next, chunks) = call(None, 10, 1_000_000, 2_000_000);
        assert_eq!((found, next), (0, Some(place(most))));
        assert!(chunks <= 5, "{chunks} statements");
        let (found, next, _) = call(next, 10, most + 1, most + 1);
        assert_eq!((found, next), (1, None));
        // Just as many as may be examined: the next call finds the end.
        assert_eq!(call(None, 10, most, most), (1, Some(place(most)), chunks));
        assert_eq!(call(Some(place(most)), 10, most, most), (0, None, 1));
    }

    #[test]
    fn a_walk_finds_everything_once() {
        for (all, every, limit) in [(0, 1, 1), (1, 1, 1), (5_000, 7, 500), (30_000, 9_000, 1)] {
            let (mut after, mut sum) = (None, 0);
            loop {
                let (found, next, _) = call(after, limit, all, every);
                sum += found;
                after = next;
                if next.is_none() {
                    break;
                }
            }
            assert_eq!(sum, (all / every) as usize, "{all} {every} {limit}");
        }
    }

    #[test]
    fn a_call_examines_as_much_as_it_has_time_for() {
        let left = |examined, millis| left_in_time(examined, Duration::from_millis(millis));
        assert_eq!(left(200, 5), 800);
        assert_eq!(left(1_000, 20), 250);
        assert_eq!(left(800, 20), FIRST_CHUNK, "as few as one statement is worth");
        assert_eq!(left(796, 20), 0, "199 are not worth it");
        assert_eq!([left(5_000, 25), left(5_000, 26)], [0, 0], "its time is over");
        assert_eq!(left(200, 0), u32::MAX);
    }

    #[test]
    fn limits_and_continuations_are_checked() {
        let walk = |end: &EndMany, limit| Walk::choose(end, limit);
        assert_eq!(walk(&end(None), 0).unwrap().limit, 1);
        assert_eq!(walk(&end(None), u32::MAX).unwrap().limit, EndedBatch::MAX_LIMIT);
        for bad in [&b""[..], b"x", &[0xff; 48]] {
            let end = EndMany { after: Some(Continuation(bad.to_vec())), ..end(None) };
            let error = walk(&end, 1).unwrap_err();
            assert_eq!(error.kind(), session_core::StoreErrorKind::Refused);
        }
        let ids = vec![SessionId::from_bytes([1; 16]); Selection::MAX_IDS + 1];
        let mut many = end(None);
        many.selection.ids = Some(ids);
        assert_eq!(walk(&many, 1).unwrap_err().kind(), session_core::StoreErrorKind::Refused);
    }

    /// Each takes a place of the page, so that the walk goes on behind it.
    #[test]
    fn what_cannot_be_read_is_left_out() {
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let mut walk = Walk::choose(&end(after), 2).unwrap();
            let rows = answer(&walk, 9, 1);
            let read = |row: &Chosen| match row.n {
                3 | 4 | 9 => Err(StoreError::corrupt("damaged")),
                _ => id(row),
            };
            let Walked { found, next } = walk.absorb(&rows, read).unwrap().unwrap();
            assert!(found.len() <= 2, "{found:?}");
            seen.extend(found);
            after = next;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(seen, [1, 2, 5, 6, 7, 8].map(|n| id_of(n).to_vec()));
        let mut walk = Walk::choose(&end(None), 2).unwrap();
        let away = |_: &Chosen| Err(StoreError::unavailable("away"));
        assert!(walk.absorb(&answer(&walk, 9, 1), away).is_err());
    }

    /// All ids of a selection fit into the first chunk of a call whose limit is their number.
    #[test]
    fn a_selection_by_ids_is_one_call() {
        for limit in [1, 100, EndedBatch::MAX_LIMIT] {
            assert_eq!(call(None, limit, limit, 1), (limit as usize, None, 1));
        }
    }
}
