//! `WHERE` clauses out of filters. Values are bound, never written into the text.

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use session_core::store::PageCursor;
use session_core::store::{Selection, TenantFilter};
use session_core::{SessionId, TenantId};
use sqlx::{Database, Encode, QueryBuilder, Type};

/// What a walk over the sessions goes by, newest sign-in first.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) selection: Selection,
    /// Leaves out what has expired by then.
    pub(crate) unexpired_at: Option<i64>,
    /// Last accessed at or after this.
    pub(crate) accessed_from: Option<i64>,
}

impl From<&Selection> for Filter {
    fn from(selection: &Selection) -> Self {
        Self { selection: selection.clone(), unexpired_at: None, accessed_from: None }
    }
}

/// Examines up to `examined` sessions after a position, and reads up to `limit` of those that the
/// filter covers, with a 0 in `examined`. One more row is the last that was examined; its `examined`
/// is how many they were. (`COUNT` makes the column an integer of 64 bits everywhere.) The chunk itself
/// holds only what the filter goes by: the other columns of ten thousand sessions are not copied.
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
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("WITH chunk AS (SELECT id, signed_in, ");
    query.push("device_kind, last_accessed, absolute_expiry FROM ").push(table).push(" WHERE true");
    indexed(&mut query, &filter.selection);
    if let Some(PageCursor { signed_in, id }) = after {
        query.push(" AND signed_in <= ").push_bind(signed_in.as_micros());
        query.push(" AND (signed_in < ").push_bind(signed_in.as_micros());
        query.push(" OR id > ").push_bind(id.as_bytes().to_vec()).push(")");
    }
    query.push(" ORDER BY signed_in DESC, id LIMIT ").push_bind(i64::from(examined));
    query.push(
        "), picked AS (SELECT * FROM (SELECT id AS found, 0 AS examined FROM chunk WHERE true",
    );
    rest(&mut query, filter);
    query.push(" ORDER BY signed_in DESC, id LIMIT ").push_bind(i64::from(limit));
    query.push(") AS covered UNION ALL SELECT * FROM ");
    query.push("(SELECT id AS found, (SELECT COUNT(*) FROM chunk) AS examined FROM chunk");
    query.push(" ORDER BY signed_in, id DESC LIMIT 1) AS last) SELECT ").push(columns);
    query.push(", examined FROM picked JOIN ").push(table).push(" ON id = found");
    query.push(" ORDER BY examined, signed_in DESC, id");
    query
}

/// The parts of a selection that an index finds.
pub(crate) fn indexed<DB>(query: &mut QueryBuilder<DB>, selection: &Selection)
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
{
    let Selection { tenant, user, client_id, ids, device_kind: _, except: _ } = selection;
    if let TenantFilter::Is(tenant) = tenant {
        let tenant = tenant.as_ref().map_or("", TenantId::as_str);
        query.push(" AND tenant = ").push_bind(tenant.to_owned());
    }
    if let Some(user) = user {
        query.push(" AND user_id = ").push_bind(user.to_string());
    }
    if let Some(client) = client_id {
        query.push(" AND client_id = ").push_bind(client.to_string());
    }
    if let Some(ids) = ids {
        among(query, ids);
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

/// Everything else.
pub(crate) fn rest<DB>(query: &mut QueryBuilder<DB>, filter: &Filter)
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
{
    let Selection { device_kind, except, tenant: _, user: _, client_id: _, ids: _ } =
        &filter.selection;
    if let Some(kind) = device_kind {
        query.push(" AND device_kind = ").push_bind(kind.to_string());
    }
    if let Some(except) = except {
        query.push(" AND id <> ").push_bind(except.as_bytes().to_vec());
    }
    if let Some(at) = filter.unexpired_at {
        query.push(" AND (absolute_expiry IS NULL OR absolute_expiry > ").push_bind(at).push(")");
    }
    if let Some(from) = filter.accessed_from {
        query.push(" AND last_accessed >= ").push_bind(from);
    }
}
