//! A chunk of a walk over the sessions or the history, in the shape that MariaDB and MySQL plan
//! well: the ids of a chunk out of one index alone, then the records by their ids.
//!
//! A common table expression that is read three times would be made three times, with all columns.
//! An index has to be forced: for a large LIMIT the planner sorts the whole table instead.

use session_core::store::PageCursor;
use sqlx::QueryBuilder;
use sqlx::mysql::MySql;

use crate::filter::{self, Filter, List};
use crate::names::Names;
use crate::walk::Walk;

/// The rows that [`Walk::absorb`] takes.
pub(super) fn statement<T>(names: &Names, walk: &Walk<T>, columns: &str) -> QueryBuilder<MySql> {
    let (filter, after, size, limit) = walk.chunk();
    let (table, order) = (names.fill(table(filter.list)), filter.list.order());
    let mut query = QueryBuilder::new("SELECT * FROM (SELECT ");
    query.push(columns).push(", 0 AS examined FROM (");
    ids(&mut query, names, filter, after);
    query.push(" LIMIT ").push_bind(size).push(") AS chunk STRAIGHT_JOIN ").push(&table);
    query.push(" ON id = chunk_id WHERE true");
    filter::indexed(&mut query, filter);
    filter::rest(&mut query, filter);
    query.push(" ORDER BY ").push(order).push(" DESC, id LIMIT ").push_bind(limit);
    // The last record of the chunk, if the chunk is full.
    query.push(") AS found UNION ALL SELECT * FROM (SELECT ").push(columns);
    query.push(", ").push_bind(i64::from(size)).push(" AS examined FROM (");
    ids(&mut query, names, filter, after);
    query.push(" LIMIT 1 OFFSET ").push_bind(size - 1).push(") AS chunk STRAIGHT_JOIN ");
    query.push(&table).push(" ON id = chunk_id) AS last");
    query
}

/// The ids in the order of the walk, by the one index that narrows the filter best.
fn ids(query: &mut QueryBuilder<MySql>, names: &Names, filter: &Filter, after: Option<PageCursor>) {
    let (index, equal) = index(filter);
    query.push("SELECT id AS chunk_id FROM ").push(names.fill(table(filter.list)));
    query.push(" FORCE INDEX (").push(names.fill(index)).push(") WHERE true");
    if let Some(ids) = &filter.ids {
        filter::among(query, ids);
    }
    // As a range, because a planner that looks an equal part up forgets to begin at the position.
    for (column, value) in &equal {
        let value = value.as_bytes();
        query.push(" AND ").push(column).push(" >= ").push_bind(value.to_vec());
        query.push(" AND ").push(column).push(" <= ").push_bind(value.to_vec());
    }
    filter::range(query, filter, after);
    query.push(" ORDER BY ");
    for (column, _) in &equal {
        query.push(column).push(", ");
    }
    query.push(filter.list.order()).push(" DESC, id");
}

/// The index, and the columns that it begins with.
fn index(filter: &Filter) -> (&'static str, Vec<(&'static str, &str)>) {
    let tenant = filter.tenant_text().map(|tenant| ("tenant", tenant));
    let user = filter.user.as_ref().map(|user| ("user_id", user.as_str()));
    let client = filter.client_id.as_ref().map(|client| ("client_id", client.as_str()));
    match (filter.list, user, client, tenant) {
        _ if filter.ids.is_some() => ("PRIMARY", vec![]),
        (List::Sessions, Some(user), _, Some(tenant)) => {
            ("{i}sessions_by_user", vec![user, tenant])
        }
        (List::Sessions, Some(user), _, None) => ("{i}sessions_by_name", vec![user]),
        (List::Sessions, None, Some(client), _) => ("{i}sessions_by_client", vec![client]),
        (List::Sessions, None, None, Some(tenant)) => ("{i}sessions_by_tenant", vec![tenant]),
        (List::Sessions, None, None, None) => ("{i}sessions_by_time", vec![]),
        (List::History, Some(user), _, Some(tenant)) => ("{i}history_by_user", vec![user, tenant]),
        (List::History, Some(user), _, None) => ("{i}history_by_name", vec![user]),
        (List::History, None, _, Some(tenant)) => ("{i}history_by_tenant", vec![tenant]),
        (List::History, None, _, None) => ("{i}history_by_time", vec![]),
    }
}

const fn table(list: List) -> &'static str {
    match list {
        List::Sessions => "{t}sessions",
        List::History => "{t}history",
    }
}
