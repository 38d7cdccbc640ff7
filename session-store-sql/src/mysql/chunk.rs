//! A chunk of a walk over the sessions, in the shape that MariaDB and MySQL plan well: the ids of a
//! chunk out of one index alone, then the sessions by their ids.
//!
//! A common table expression that is read three times would be made three times, with all columns. An
//! index has to be forced: for a large LIMIT the planner sorts the whole table instead.

use session_core::TenantId;
use session_core::store::{PageCursor, Selection, TenantFilter};
use sqlx::QueryBuilder;
use sqlx::mysql::MySql;

use crate::filter;
use crate::names::Names;
use crate::walk::Walk;

/// The rows that [`Walk::absorb`] takes.
pub(super) fn statement<T>(names: &Names, walk: &Walk<T>, columns: &str) -> QueryBuilder<MySql> {
    let (filter, after, size, limit) = walk.chunk();
    let table = names.fill("{t}sessions");
    let mut query = QueryBuilder::new("SELECT * FROM (SELECT ");
    query.push(columns).push(", 0 AS examined FROM (");
    ids(&mut query, names, &filter.selection, after);
    query.push(" LIMIT ").push_bind(size).push(") AS chunk STRAIGHT_JOIN ").push(&table);
    query.push(" ON id = chunk_id WHERE true");
    filter::indexed(&mut query, &filter.selection);
    filter::rest(&mut query, filter);
    query.push(" ORDER BY signed_in DESC, id LIMIT ").push_bind(limit);
    // The last session of the chunk, if the chunk is full.
    query.push(") AS found UNION ALL SELECT * FROM (SELECT ").push(columns);
    query.push(", ").push_bind(i64::from(size)).push(" AS examined FROM (");
    ids(&mut query, names, &filter.selection, after);
    query.push(" LIMIT 1 OFFSET ").push_bind(size - 1).push(") AS chunk STRAIGHT_JOIN ");
    query.push(&table).push(" ON id = chunk_id) AS last");
    query
}

/// The ids in the order of the walk, by the one index that narrows the selection best.
fn ids(
    query: &mut QueryBuilder<MySql>,
    names: &Names,
    selection: &Selection,
    after: Option<PageCursor>,
) {
    let Selection { tenant, user, client_id, ids, device_kind: _, except: _ } = selection;
    let tenant = match tenant {
        TenantFilter::Any => None,
        TenantFilter::Is(tenant) => Some(tenant.as_ref().map_or("", TenantId::as_str)),
    };
    let user = user.as_ref().map(|user| user.as_str());
    let client = client_id.as_ref().map(|client| client.as_str());
    let (index, equal) = match (user, client, tenant) {
        _ if ids.is_some() => ("PRIMARY", vec![]),
        (Some(user), _, Some(tenant)) => {
            ("{i}by_user", vec![("user_id", user), ("tenant", tenant)])
        }
        // Sorted by the statement: the sessions of one user in all tenants.
        (Some(user), _, None) => ("{i}by_user", vec![("user_id", user)]),
        (None, Some(client), _) => ("{i}by_client", vec![("client_id", client)]),
        (None, None, Some(tenant)) => ("{i}by_tenant", vec![("tenant", tenant)]),
        (None, None, None) => ("{i}by_time", vec![]),
    };
    query.push("SELECT id AS chunk_id FROM ").push(names.fill("{t}sessions FORCE INDEX ("));
    query.push(names.fill(index)).push(") WHERE true");
    if let Some(ids) = ids {
        filter::among(query, ids);
    }
    // As a range, because a planner that looks an equal part up forgets to begin at the position.
    for (column, value) in &equal {
        let value = value.as_bytes();
        query.push(" AND ").push(column).push(" >= ").push_bind(value.to_vec());
        query.push(" AND ").push(column).push(" <= ").push_bind(value.to_vec());
    }
    if let Some(PageCursor { signed_in, id }) = after {
        query.push(" AND signed_in <= ").push_bind(signed_in.as_micros());
        query.push(" AND (signed_in < ").push_bind(signed_in.as_micros());
        query.push(" OR id > ").push_bind(id.as_bytes().to_vec()).push(")");
    }
    query.push(" ORDER BY ");
    for (column, _) in &equal {
        query.push(column).push(", ");
    }
    query.push("signed_in DESC, id");
}
