//! Reads of sessions.

use session_core::policy::PolicyLayers;
use session_core::store::{
    Loaded, Page, PageCursor, PageQuery, Selection, TenantFilter, UserState, Version,
};
use session_core::{SessionId, StoreError, UserKey};
use sqlx::sqlite::SqlitePool;
use sqlx::{QueryBuilder, Sqlite};

use super::{policy, rows, store_error};

pub(super) async fn user(readers: &SqlitePool, owner: &UserKey) -> Result<UserState, StoreError> {
    // One transaction, so that all three statements see the same moment.
    let mut tx = readers.begin().await.map_err(store_error)?;
    let tenant = rows::tenant_column(owner.tenant.as_ref());
    let user = owner.user.as_str();
    let version: Option<i64> = sqlx::query_scalar(VERSION)
        .bind(tenant)
        .bind(user)
        .fetch_optional(&mut *tx)
        .await
        .map_err(store_error)?;
    let sessions = sqlx::query(STANDINGS)
        .bind(tenant)
        .bind(user)
        .fetch_all(&mut *tx)
        .await
        .map_err(store_error)?;
    let policies: PolicyLayers = policy::layers(&mut tx, tenant, user).await?;
    tx.commit().await.map_err(store_error)?;
    Ok(UserState {
        version: version.map_or(Version::NONE, Version),
        sessions: sessions.iter().map(rows::standing).collect::<Result<_, _>>()?,
        policies,
    })
}

pub(super) async fn load(
    readers: &SqlitePool,
    id: SessionId,
) -> Result<Option<Loaded>, StoreError> {
    let row = sqlx::query(LOAD)
        .bind(&id.as_bytes()[..])
        .fetch_optional(readers)
        .await
        .map_err(store_error)?;
    row.map(|row| {
        let version = Version(rows::get(&row, "version")?);
        Ok(Loaded { session: rows::session(&row)?, version })
    })
    .transpose()
}

pub(super) async fn page(readers: &SqlitePool, query: &PageQuery) -> Result<Page, StoreError> {
    let mut select = page_statement(query);
    let rows = select.build().fetch_all(readers).await.map_err(store_error)?;
    let sessions = rows.iter().map(rows::session).collect::<Result<_, _>>()?;
    Ok(Page::cut(sessions, query.limit))
}

pub(super) fn page_statement(query: &PageQuery) -> QueryBuilder<Sqlite> {
    let mut select = QueryBuilder::new("SELECT ");
    select
        .push(rows::SESSION)
        .push(" FROM session_kit_sessions WHERE (absolute_expiry IS NULL OR absolute_expiry > ");
    select.push_bind(query.now.as_micros()).push(")");
    let mut narrowed = Selection::within(query.tenant.clone());
    narrowed.user.clone_from(&query.user);
    narrowed.device_kind.clone_from(&query.device_kind);
    narrowed.client_id.clone_from(&query.client_id);
    push_selection(&mut select, &narrowed);
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
pub(super) fn push_selection(query: &mut QueryBuilder<Sqlite>, selection: &Selection) {
    if let TenantFilter::Is(tenant) = &selection.tenant {
        let tenant = rows::tenant_column(tenant.as_ref()).to_owned();
        query.push(" AND tenant = ").push_bind(tenant);
    }
    if let Some(user) = &selection.user {
        query.push(" AND user = ").push_bind(user.to_string());
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
        query.push(" AND id IN (");
        let mut list = query.separated(", ");
        ids.iter().for_each(|id| {
            list.push_bind(id.as_bytes().to_vec());
        });
        query.push(")");
    }
}

pub(super) const VERSION: &str =
    "SELECT version FROM session_kit_users WHERE tenant = ? AND user = ?";
pub(super) const STANDINGS: &str = "SELECT id, device_kind, client_id, signed_in, last_accessed, \
    absolute_expiry FROM session_kit_sessions WHERE tenant = ? AND user = ?";
pub(super) const LOAD: &str = "SELECT s.*, u.version FROM session_kit_sessions AS s \
    JOIN session_kit_users AS u ON u.tenant = s.tenant AND u.user = s.user WHERE s.id = ?";
