//! Reads, one round trip each.

use session_core::store::{Loaded, Page, PageQuery, UserState, Version};
use session_core::{SessionId, StoreError, UserKey};

use super::chunk;
use super::db::{Db, retried, store_error};
use crate::columns::Columns;
use crate::places::Places;
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
        let (mut version, mut sessions) = (Version::NONE, Vec::new());
        let mut places = Places::of(owner);
        for row in &retried(call).await? {
            match row.integer("part")? {
                1 => version = Version(row.integer("signed_in")?),
                2 => sessions.push(rows::standing(row)?),
                _ => {
                    let key = (row.text("device_kind")?, row.text("client_id")?);
                    places.add(key, row.optional_text("policy")?, row.optional_text("block")?)?;
                }
            }
        }
        let Places { policies, blocks, .. } = places;
        Ok(UserState { version, sessions, policies, blocks })
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
}

/// The columns of a session; bytes that are text are read as text.
pub(super) const SESSION: &str = "id, CONVERT(tenant USING utf8mb4) AS tenant, \
    CONVERT(user_id USING utf8mb4) AS user_id, \
    CONVERT(device_kind USING utf8mb4) AS device_kind, \
    CONVERT(client_id USING utf8mb4) AS client_id, \
    CONVERT(ip_addresses USING utf8mb4) AS ip_addresses, signed_in, last_accessed, deadline, \
    claimed, CONVERT(details USING utf8mb4) AS details";
const USER: &str = "CALL {t}user_1(?, ?)";
const LOAD: &str = "CALL {t}load_1(?)";
