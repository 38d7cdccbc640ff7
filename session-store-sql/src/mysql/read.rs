//! Reads, one round trip each.

use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::{Loaded, Page, PageQuery, UserState, Version};
use session_core::{SessionId, StoreError, UserKey};
use sqlx::mysql::MySqlPool;

use super::store_error;
use crate::columns::Columns;
use crate::names::Names;
use crate::{filter, rows};

pub(super) async fn user(
    pool: &MySqlPool,
    names: &Names,
    owner: &UserKey,
) -> Result<UserState, StoreError> {
    let tenant = owner.tenant_text();
    let user = owner.user.as_str();
    let found = sqlx::query(names.sql(USER))
        .bind(tenant)
        .bind(user)
        .fetch_all(pool)
        .await
        .map_err(store_error)?;
    let mut state = UserState {
        version: Version::NONE,
        sessions: Vec::new(),
        policies: PolicyLayers::default(),
    };
    for row in &found {
        match row.integer("part")? {
            1 => state.version = Version(row.integer("signed_in")?),
            2 => state.sessions.push(rows::standing(row)?),
            _ => {
                let (tenant, user) = (row.text("device_kind")?, row.text("client_id")?);
                state
                    .policies
                    .set_by_key((tenant, user), Some(Policy::from_stored(row.text("policy")?)?));
            }
        }
    }
    Ok(state)
}

pub(super) async fn load(
    pool: &MySqlPool,
    names: &Names,
    id: SessionId,
) -> Result<Option<Loaded>, StoreError> {
    let row = sqlx::query(names.sql(LOAD))
        .bind(&id.as_bytes()[..])
        .fetch_optional(pool)
        .await
        .map_err(store_error)?;
    row.map(|row| {
        let version = Version(row.integer("version")?);
        Ok(Loaded { session: rows::session(&row)?, version })
    })
    .transpose()
}

pub(super) async fn page(
    pool: &MySqlPool,
    names: &Names,
    query: &PageQuery,
) -> Result<Page, StoreError> {
    let mut select = filter::page(SESSION, &names.fill("{t}sessions"), query);
    let found = select.build().fetch_all(pool).await.map_err(store_error)?;
    let sessions = found.iter().map(rows::session).collect::<Result<_, _>>()?;
    Ok(Page::cut(sessions, query.limit))
}

pub(super) async fn policy(
    pool: &MySqlPool,
    names: &Names,
    scope: &PolicyScope,
) -> Result<Option<Policy>, StoreError> {
    let (tenant, user) = scope.key();
    let text: Option<String> = sqlx::query_scalar(names.sql(POLICY))
        .bind(tenant)
        .bind(user)
        .fetch_optional(pool)
        .await
        .map_err(store_error)?;
    text.as_deref().map(Policy::from_stored).transpose()
}

/// The columns of a session; bytes that are text are read as text.
pub(super) const SESSION: &str = "id, CONVERT(tenant USING utf8mb4) AS tenant, \
    CONVERT(user_id USING utf8mb4) AS user_id, \
    CONVERT(device_kind USING utf8mb4) AS device_kind, \
    CONVERT(device_info USING utf8mb4) AS device_info, \
    CONVERT(client_id USING utf8mb4) AS client_id, \
    CONVERT(ip_addresses USING utf8mb4) AS ip_addresses, signed_in, last_accessed, \
    authenticated_at, absolute_expiry, CONVERT(data USING utf8mb4) AS data, \
    token_current, token_family, token_retired, token_retired_at";
const USER: &str = "CALL {t}user(?, ?)";
const LOAD: &str = "CALL {t}load(?)";
pub(super) const POLICY: &str =
    "SELECT CONVERT(policy USING utf8mb4) FROM {t}policies WHERE tenant = ? AND user_id = ?";
