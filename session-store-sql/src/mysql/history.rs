//! Ended sessions: reads, and what is forgotten.

use session_core::store::{
    EndedBatch, EndedSession, Forget, HistoryPage, HistoryQuery, limit_within,
};
use session_core::{SessionId, StoreError};

use super::chunk;
use super::db::{Db, micros, retried, store_error};
use crate::rows;
use crate::walk::Walk;

impl Db {
    pub(super) async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        let call =
            || sqlx::query(self.sql(ENDED)).bind(&id.as_bytes()[..]).fetch_optional(&self.pool);
        retried(call).await?.as_ref().map(rows::ended_session).transpose()
    }

    pub(super) async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        let mut walk = Walk::history(query);
        loop {
            let mut chunk = chunk::statement(&self.names, &walk, ENDED_SESSION);
            let rows = chunk.build().fetch_all(&self.pool).await.map_err(store_error)?;
            if let Some(walked) = walk.absorb(&rows, rows::ended_session)? {
                return Ok(walked.into());
            }
        }
    }

    pub(super) async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        let (older_than, owner) = match forget {
            Forget::OlderThan(age) => (Some(micros(*age)), None),
            Forget::User(owner) => (None, Some((owner.tenant_text(), owner.user.as_str()))),
        };
        let call = || {
            sqlx::query_scalar(self.sql(FORGET))
                .bind(older_than)
                .bind(owner.map(|(tenant, _)| tenant))
                .bind(owner.map(|(_, user)| user))
                .bind(limit_within(limit, EndedBatch::MAX_LIMIT))
                .fetch_one(&self.pool)
        };
        let forgotten: i64 = retried(call).await?;
        Ok(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

/// The columns of an ended session; bytes that are text are read as text.
pub(super) const ENDED_SESSION: &str = "id, CONVERT(tenant USING utf8mb4) AS tenant, \
    CONVERT(user_id USING utf8mb4) AS user_id, \
    CONVERT(device_kind USING utf8mb4) AS device_kind, \
    CONVERT(client_id USING utf8mb4) AS client_id, \
    CONVERT(ip_addresses USING utf8mb4) AS ip_addresses, signed_in, last_accessed, deadline, \
    claimed, CONVERT(details USING utf8mb4) AS details, ended, \
    CONVERT(cause USING utf8mb4) AS cause, CONVERT(actor USING utf8mb4) AS actor, \
    CONVERT(ended_from USING utf8mb4) AS ended_from";
const ENDED: &str = "CALL {t}ended_1(?)";
const FORGET: &str = "CALL {t}forget_1(?, ?, ?, ?)";
