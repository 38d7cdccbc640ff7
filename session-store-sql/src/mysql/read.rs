//! Reads, one round trip each.

use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::{Loaded, Page, PageQuery, UserState, Version};
use session_core::{SessionId, StoreError, UserKey};

use super::chunk;
use super::db::{Db, retried, store_error};
use crate::columns::Columns;
use crate::rows;
use crate::walk::Walk;

impl Db {
    pub(super) async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        let call = || {
            sqlx::query(self.sql(USER))
                .bind(owner.tenant_text())
                .bind(owner.user.as_str())
                .fetch_all(&self.pool)
        };
        let mut state = UserState {
            version: Version::NONE,
            sessions: Vec::new(),
            policies: PolicyLayers::default(),
        };
        for row in &retried(call).await? {
            match row.integer("part")? {
                1 => state.version = Version(row.integer("signed_in")?),
                2 => state.sessions.push(rows::standing(row)?),
                _ => {
                    let key = (row.text("device_kind")?, row.text("client_id")?);
                    let policy = Policy::from_stored(row.text("policy")?)?;
                    state.policies.set_by_key(key, Some(policy));
                }
            }
        }
        Ok(state)
    }

    pub(super) async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        let call =
            || sqlx::query(self.sql(LOAD)).bind(&id.as_bytes()[..]).fetch_optional(&self.pool);
        let Some(row) = retried(call).await? else { return Ok(None) };
        let version = Version(row.integer("version")?);
        Ok(Some(Loaded { session: rows::session(&row)?, version }))
    }

    pub(super) async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        let mut walk = Walk::page(query);
        loop {
            let mut chunk = chunk::statement(&self.names, &walk, SESSION);
            let rows = chunk.build().fetch_all(&self.pool).await.map_err(store_error)?;
            if let Some(walked) = walk.absorb(&rows, rows::session)? {
                return Ok(walked.into());
            }
        }
    }

    pub(super) async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        let (tenant, user) = scope.key();
        let text: Option<String> = sqlx::query_scalar(self.sql(POLICY))
            .bind(tenant)
            .bind(user)
            .fetch_optional(&self.pool)
            .await
            .map_err(store_error)?;
        text.as_deref().map(Policy::from_stored).transpose()
    }
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
const USER: &str = "CALL {t}user_1(?, ?)";
const LOAD: &str = "CALL {t}load_1(?)";
pub(super) const POLICY: &str =
    "SELECT CONVERT(policy USING utf8mb4) FROM {t}policies WHERE tenant = ? AND user_id = ?";
