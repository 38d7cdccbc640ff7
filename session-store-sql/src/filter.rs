//! `WHERE` clauses out of filters. Values are bound, never written into the text.

use session_core::store::{PageCursor, PageQuery, Selection, TenantFilter};
use sqlx::{Database, Encode, QueryBuilder, Type};

use crate::rows;

/// Reads one page, and one session more.
pub(crate) fn page<DB>(columns: &str, table: &str, query: &PageQuery) -> QueryBuilder<DB>
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Type<DB>,
{
    let mut select = QueryBuilder::new("SELECT ");
    select.push(columns).push(" FROM ").push(table);
    select.push(" WHERE (absolute_expiry IS NULL OR absolute_expiry > ");
    select.push_bind(query.now.as_micros()).push(")");
    let mut narrowed = Selection::within(query.tenant.clone());
    narrowed.user.clone_from(&query.user);
    narrowed.device_kind.clone_from(&query.device_kind);
    narrowed.client_id.clone_from(&query.client_id);
    selection(&mut select, &narrowed);
    if let Some(from) = query.accessed_from() {
        // The plus keeps the planner from walking the sessions by their use.
        select.push(" AND +last_accessed >= ").push_bind(from.as_micros());
    }
    if let Some(PageCursor { signed_in, id }) = query.after {
        select.push(" AND signed_in <= ").push_bind(signed_in.as_micros());
        select.push(" AND (signed_in < ").push_bind(signed_in.as_micros());
        select.push(" OR id > ").push_bind(id.as_bytes().to_vec()).push(")");
    }
    select.push(" ORDER BY signed_in DESC, id LIMIT ").push_bind(i64::from(query.limit) + 1);
    select
}

/// Adds the parts of a selection to a `WHERE` clause that has a condition already.
pub(crate) fn selection<DB>(query: &mut QueryBuilder<DB>, selection: &Selection)
where
    DB: Database,
    for<'q> String: Encode<'q, DB> + Type<DB>,
    for<'q> Vec<u8>: Encode<'q, DB> + Type<DB>,
{
    if let TenantFilter::Is(tenant) = &selection.tenant {
        let tenant = rows::tenant_column(tenant.as_ref()).to_owned();
        query.push(" AND tenant = ").push_bind(tenant);
    }
    if let Some(user) = &selection.user {
        query.push(" AND user_id = ").push_bind(user.to_string());
    }
    if let Some(kind) = &selection.device_kind {
        query.push(" AND device_kind = ").push_bind(kind.to_string());
    }
    if let Some(client) = &selection.client_id {
        query.push(" AND client_id = ").push_bind(client.to_string());
    }
    if let Some(except) = &selection.except {
        query.push(" AND id <> ").push_bind(except.as_bytes().to_vec());
    }
    if let Some(ids) = &selection.ids {
        // An empty list selects nothing.
        query.push(" AND id IN (NULL");
        ids.iter().for_each(|id| {
            query.push(", ").push_bind(id.as_bytes().to_vec());
        });
        query.push(")");
    }
}
