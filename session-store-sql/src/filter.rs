//! `WHERE` clauses out of filters. Values are bound, never written into the text.

use session_core::store::{HistoryQuery, PageCursor, PageQuery, Selection, TenantFilter};
use session_core::{ClientId, DeviceKind, EndCause, SessionId, Timestamp, UserId};
use sqlx::{Database, Encode, QueryBuilder, Type};

use crate::rows;

/// What a walk goes through: the latest first, ties by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// Sessions, by sign-in.
    Sessions,
    /// Ended sessions, by their end.
    History,
}

impl List {
    /// The column that it is ordered by.
    pub(crate) const fn order(self) -> &'static str {
        match self {
            Self::Sessions => "signed_in",
            Self::History => "ended",
        }
    }

    /// Whether sessions of one client are found by an index. The history has none: it is written
    /// with every end.
    const fn is_indexed_by_client(self) -> bool {
        matches!(self, Self::Sessions)
    }

    /// The columns that [`rest`] goes by.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    const fn filtered(self) -> &'static str {
        match self {
            Self::Sessions => "device_kind, last_accessed, deadline",
            Self::History => "device_kind, client_id, cause",
        }
    }
}

/// What databases write differently.
pub(crate) trait Dialect: Database {
    /// The user's column as the index of a name in all tenants has it.
    const USER_NAME: &'static str = "user_id";
}

#[cfg(feature = "sqlite")]
impl Dialect for sqlx::Sqlite {}

#[cfg(feature = "mysql")]
impl Dialect for sqlx::MySql {}

#[cfg(feature = "postgres")]
impl Dialect for sqlx::Postgres {
    const USER_NAME: &'static str = "user_id COLLATE \"POSIX\"";
}

/// What a walk looks for.
///
/// It is made from what is asked with patterns that name every field, so that none is overlooked.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) list: List,
    pub(crate) tenant: TenantFilter,
    pub(crate) user: Option<UserId>,
    pub(crate) client_id: Option<ClientId>,
    pub(crate) ids: Option<Vec<SessionId>>,
    /// The time that the list is ordered by is at or after this.
    pub(crate) from: Option<Timestamp>,
    /// That time is before this.
    pub(crate) before: Option<Timestamp>,
    pub(crate) device_kind: Option<DeviceKind>,
    pub(crate) except: Option<SessionId>,
    /// Leaves out what is past its deadline then.
    pub(crate) live_at: Option<Timestamp>,
    /// Last accessed at or after this.
    pub(crate) accessed_from: Option<Timestamp>,
    /// Last accessed before this.
    pub(crate) accessed_before: Option<Timestamp>,
    pub(crate) cause: Option<EndCause>,
}

impl Filter {
    const fn everything(list: List) -> Self {
        Self {
            list,
            tenant: TenantFilter::Any,
            user: None,
            client_id: None,
            ids: None,
            from: None,
            before: None,
            device_kind: None,
            except: None,
            live_at: None,
            accessed_from: None,
            accessed_before: None,
            cause: None,
        }
    }

    /// The tenant as its column has it; none for all tenants.
    pub(crate) fn tenant_text(&self) -> Option<&str> {
        match &self.tenant {
            TenantFilter::Any => None,
            TenantFilter::Is(tenant) => Some(rows::tenant_text(tenant.as_ref())),
        }
    }
}

impl From<&Selection> for Filter {
    fn from(selection: &Selection) -> Self {
        let Selection {
            tenant,
            user,
            device_kind,
            client_id,
            ids,
            signed_in_before: before,
            last_accessed_before: accessed_before,
            except,
        } = selection.clone();
        let all = Self::everything(List::Sessions);
        Self { tenant, user, device_kind, client_id, ids, before, accessed_before, except, ..all }
    }
}

impl From<&PageQuery> for Filter {
    fn from(query: &PageQuery) -> Self {
        let PageQuery {
            tenant,
            user,
            device_kind,
            client_id,
            active_since,
            now,
            after: _,
            limit: _,
        } = query.clone();
        let (live_at, accessed_from) = (Some(now), active_since);
        let all = Self::everything(List::Sessions);
        Self { tenant, user, device_kind, client_id, live_at, accessed_from, ..all }
    }
}

impl From<&HistoryQuery> for Filter {
    fn from(query: &HistoryQuery) -> Self {
        let HistoryQuery { tenant, user, device_kind, client_id, cause, since, after: _, limit: _ } =
            query.clone();
        let all = Self::everything(List::History);
        Self { tenant, user, device_kind, client_id, cause, from: since, ..all }
    }
}

/// What is read of the sessions that a selection chooses.
pub(crate) const CHOSEN: &str = "id, signed_in";

/// Examines up to `examined` records after a position, and reads up to `limit` of those that the
/// filter covers, with a 0 in `examined`. One more row is the last that was examined; its
/// `examined` is how many they were. (`COUNT` makes the column an integer of 64 bits everywhere.)
/// The chunk itself holds only what the filter goes by: the other columns of ten thousand records
/// are not copied.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn chunk<DB>(
    columns: &str,
    table: &str,
    filter: &Filter,
    after: Option<PageCursor>,
    examined: u32,
    limit: u32,
) -> QueryBuilder<DB>
where
    DB: Dialect,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
{
    let order = filter.list.order();
    // A planner that joins 500 ids with the table may read all of it, so columns that the chunk has come
    // from there.
    let in_chunk = columns.split(", ").all(|column| column == "id" || column == order);
    let records = if in_chunk { "chunk" } else { table };
    let mut query = QueryBuilder::new("WITH chunk AS (SELECT id, ");
    query.push(order).push(", ").push(filter.list.filtered());
    query.push(" FROM ").push(table).push(" WHERE true");
    indexed(&mut query, filter);
    range(&mut query, filter, after);
    let newest_first = format!(" ORDER BY {order} DESC, id LIMIT ");
    query.push(&newest_first).push_bind(i64::from(examined));
    query.push(
        "), picked AS (SELECT * FROM (SELECT id AS found, 0 AS examined FROM chunk WHERE true",
    );
    rest(&mut query, filter);
    query.push(&newest_first).push_bind(i64::from(limit));
    query.push(") AS covered UNION ALL SELECT * FROM ");
    query.push("(SELECT id AS found, (SELECT COUNT(*) FROM chunk) AS examined FROM chunk");
    query.push(" ORDER BY ").push(order).push(", id DESC LIMIT 1) AS last) SELECT ").push(columns);
    query.push(", examined FROM picked JOIN ").push(records).push(" ON id = found");
    query.push(" ORDER BY examined, ").push(order).push(" DESC, id");
    query
}

/// The equal parts of a filter that an index finds.
pub(crate) fn indexed<DB>(query: &mut QueryBuilder<DB>, filter: &Filter)
where
    DB: Dialect,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
{
    let tenant = filter.tenant_text();
    if let Some(tenant) = tenant {
        query.push(" AND tenant = ").push_bind(tenant.to_owned());
    }
    if let Some(user) = &filter.user {
        let column = if tenant.is_some() { "user_id" } else { DB::USER_NAME };
        query.push(" AND ").push(column).push(" = ").push_bind(user.to_string());
    }
    if let Some(client) = filter.client_id.as_ref().filter(|_| filter.list.is_indexed_by_client()) {
        query.push(" AND client_id = ").push_bind(client.to_string());
    }
    if let Some(ids) = &filter.ids {
        among(query, ids);
    }
}

/// The part of the list that is looked at, as one bound on each side: with two, a planner may take
/// the worse.
pub(crate) fn range<DB>(query: &mut QueryBuilder<DB>, filter: &Filter, after: Option<PageCursor>)
where
    DB: Database,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
{
    let order = filter.list.order();
    let before = filter.before.map(|before| before.as_micros().saturating_sub(1));
    let last = before.into_iter().chain(after.map(|after| after.at.as_micros())).min();
    if let Some(last) = last {
        query.push(" AND ").push(order).push(" <= ").push_bind(last);
    }
    if let Some(PageCursor { at, id }) = after {
        query.push(" AND (").push(order).push(" < ").push_bind(at.as_micros());
        query.push(" OR id > ").push_bind(id.as_bytes().to_vec()).push(")");
    }
    if let Some(from) = filter.from {
        query.push(" AND ").push(order).push(" >= ").push_bind(from.as_micros());
    }
}

/// An empty list selects nothing.
pub(crate) fn among<DB>(query: &mut QueryBuilder<DB>, ids: &[SessionId])
where
    DB: Database,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
{
    query.push(" AND id IN (NULL");
    for id in ids {
        query.push(", ").push_bind(id.as_bytes().to_vec());
    }
    query.push(")");
}

/// Everything that is neither in [`indexed`] nor in [`range`].
pub(crate) fn rest<DB>(query: &mut QueryBuilder<DB>, filter: &Filter)
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
{
    let Filter { list, client_id, device_kind, except, live_at, cause, .. } = filter;
    if let Some(client) = client_id.as_ref().filter(|_| !list.is_indexed_by_client()) {
        query.push(" AND client_id = ").push_bind(client.to_string());
    }
    if let Some(kind) = device_kind {
        query.push(" AND device_kind = ").push_bind(kind.to_string());
    }
    if let Some(except) = except {
        query.push(" AND id <> ").push_bind(except.as_bytes().to_vec());
    }
    if let Some(at) = live_at {
        query.push(" AND deadline > ").push_bind(at.as_micros());
    }
    if let Some(from) = filter.accessed_from {
        query.push(" AND last_accessed >= ").push_bind(from.as_micros());
    }
    if let Some(before) = filter.accessed_before {
        query.push(" AND last_accessed < ").push_bind(before.as_micros());
    }
    if let Some(cause) = cause {
        query.push(" AND cause = ").push_bind(cause.as_str().to_owned());
    }
}
