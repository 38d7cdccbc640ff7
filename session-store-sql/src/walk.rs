//! Walks over the sessions in chunks, newest sign-in first: pages, and what `end_many` chooses.
//!
//! A chunk is one statement. The first is small, because most pages are full soon; where a filter
//! leaves out nearly everything, the chunks grow until the walk has examined as many sessions as one
//! call may.

use session_core::store::{
    Continuation, EndMany, EndedBatch, Page, PageCursor, PageQuery, Selection, limit_within,
};
use session_core::{InvalidField, Session, SessionId, StoreError, Timestamp};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use sqlx::{Database, Encode, QueryBuilder, Type};

use crate::columns::Columns;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::filter;
use crate::filter::Filter;
use crate::rows;

/// A walk that collects up to `limit` items and tells where to go on.
#[derive(Debug)]
pub(crate) struct Walk<T> {
    filter: Filter,
    limit: u32,
    chunk: u32,
    examined: u32,
    /// Where the next chunk begins.
    position: Option<PageCursor>,
    found: Vec<(PageCursor, T)>,
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
        let selection = Selection {
            tenant: query.tenant.clone(),
            user: query.user.clone(),
            device_kind: query.device_kind.clone(),
            client_id: query.client_id.clone(),
            ids: None,
            except: None,
        };
        let filter = Filter {
            selection,
            unexpired_at: Some(query.now.as_micros()),
            accessed_from: query.accessed_from().map(Timestamp::as_micros),
        };
        Self::new(filter, limit_within(query.limit, PageQuery::MAX_LIMIT), query.after)
    }
}

impl Walk<Vec<u8>> {
    /// The walk that chooses the ids of the sessions that one call of `end_many` ends.
    pub(crate) fn choose(end: &EndMany, limit: u32) -> Result<Self, StoreError> {
        end.selection.check().map_err(StoreError::refused)?;
        let position = end.after.as_ref().map(parse_continuation).transpose()?;
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
        Ok(Self::new(Filter::from(&end.selection), limit, position))
    }
}

impl<T> Walk<T> {
    fn new(filter: Filter, limit: u32, position: Option<PageCursor>) -> Self {
        let chunk = limit.saturating_mul(2).max(FIRST_CHUNK);
        Self { filter, limit, chunk, examined: 0, position, found: Vec::new() }
    }

    /// What the next chunk is: its filter, where it begins, how many sessions to examine, and how
    /// many to read.
    #[cfg(feature = "mysql")]
    pub(crate) fn chunk(&self) -> (&Filter, Option<PageCursor>, u32, u32) {
        (&self.filter, self.position, self.chunk, self.wanted())
    }

    /// The statement of the next chunk. The columns need `id` and `signed_in`.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn statement<DB>(&self, columns: &str, table: &str) -> QueryBuilder<DB>
    where
        DB: Database,
        for<'q> String: Encode<'q, DB> + Type<DB>,
        for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
        for<'q> i64: Encode<'q, DB> + Type<DB>,
    {
        filter::chunk(columns, table, &self.filter, self.position, self.chunk, self.wanted())
    }

    /// Takes the rows of a chunk. Answers what was found once there is enough, or nothing more to
    /// examine in this call.
    pub(crate) fn absorb<R: Columns>(
        &mut self,
        rows: &[R],
        read: impl Fn(&R) -> Result<T, StoreError>,
    ) -> Result<Option<Walked<T>>, StoreError> {
        let mut last = None;
        for row in rows {
            if row.integer("covered")? == 1 {
                self.found.push((position_of(row)?, read(row)?));
            } else {
                last = Some((position_of(row)?, row.integer("examined")?));
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
        Walked { found: found.into_iter().map(|(_, item)| item).collect(), next }
    }
}

impl From<Walked<Session>> for Page {
    fn from(walked: Walked<Session>) -> Self {
        Self { sessions: walked.found, next: walked.next }
    }
}

/// A session of a page.
pub(crate) fn session<R: Columns>(row: &R) -> Result<Session, StoreError> {
    rows::session(row)
}

/// The id of a chosen session.
pub(crate) fn id<R: Columns>(row: &R) -> Result<Vec<u8>, StoreError> {
    Ok(row.bytes("id")?.to_vec())
}

/// A position as the text of a page's cursor.
pub(crate) fn continuation(position: PageCursor) -> Continuation {
    Continuation(position.to_string().into_bytes())
}

fn parse_continuation(after: &Continuation) -> Result<PageCursor, StoreError> {
    let malformed = || InvalidField::malformed("after", "a continuation of this store");
    let text = std::str::from_utf8(&after.0).ok();
    let position = text.and_then(|text| text.parse().ok());
    position.ok_or_else(|| StoreError::refused(malformed()))
}

fn position_of(row: &impl Columns) -> Result<PageCursor, StoreError> {
    let malformed = |_| InvalidField::malformed("id", "sixteen bytes");
    let id = row.bytes("id")?.try_into().map_err(malformed)?;
    let signed_in = Timestamp::from_micros(row.integer("signed_in")?);
    Ok(PageCursor { signed_in, id: SessionId::from_bytes(id) })
}

const FIRST_CHUNK: u32 = 200;
const GROWTH: u32 = 5;
