//! Ended sessions: how they come into the history, and how they leave it.

use std::sync::Arc;
use std::time::Duration;

use session_core::store::{
    EndedBatch, EndedSession, Forget, HistoryPage, HistoryQuery, limit_within,
};
use session_core::{SessionId, StoreError};
use sqlx::sqlite::SqlitePool;

use super::tx::Tx;
use super::{Pools, read, store_error};
use crate::rows;
use crate::walk::Walk;

/// A statement that copies sessions `s` into the history: ?4 when they end, ?5 by whom, ?6 from
/// which device. A session always can end, so an older record of its id is replaced.
macro_rules! remember {
    ($cause:literal, $of:literal) => {
        concat!(
            "INSERT OR REPLACE INTO session_kit_history (id, tenant, user_id, device_kind, client_id, \
                ip_addresses, signed_in, last_accessed, deadline, claimed, details, \
                ended, cause, actor, ended_from) \
            SELECT s.id, s.tenant, s.user_id, s.device_kind, s.client_id, \
                s.ip_addresses, s.signed_in, s.last_accessed, s.deadline, s.claimed, s.details, ?4, ",
            $cause,
            ", ?5, ?6 FROM ",
            $of
        )
    };
}
pub(super) use remember;

pub(super) async fn ended(
    readers: &SqlitePool,
    id: SessionId,
) -> Result<Option<EndedSession>, StoreError> {
    let row = sqlx::query(ENDED)
        .bind(&id.as_bytes()[..])
        .fetch_optional(readers)
        .await
        .map_err(store_error)?;
    row.as_ref().map(rows::ended_session).transpose()
}

pub(super) async fn page(
    readers: &SqlitePool,
    query: &HistoryQuery,
) -> Result<HistoryPage, StoreError> {
    let walk = Walk::history(query);
    let walked =
        read::walk_on(readers, walk, rows::ENDED_SESSION, HISTORY, rows::ended_session).await?;
    Ok(walked.into())
}

pub(super) async fn forget(pools: &Pools, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
    let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
    if let Forget::OlderThan(age) = forget
        && !any_older_than(pools, *age).await?
    {
        return Ok(0);
    }
    let (forget, clock, after) = (forget.clone(), pools.clock.clone(), Arc::clone(&pools.after));
    let delete = async move |mut tx: Tx<'_>| {
        let delete = match &forget {
            Forget::OlderThan(age) => {
                sqlx::query(FORGET_OLD).bind(clock.now().minus(*age).as_micros()).bind(limit)
            }
            Forget::User(owner) => {
                let (tenant, user) = (owner.tenant_text(), owner.user.as_str());
                sqlx::query(FORGET_USER).bind(tenant).bind(user).bind(limit)
            }
        };
        let gone = delete.execute(&mut *tx).await.map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        let gone = u32::try_from(gone.rows_affected()).unwrap_or(u32::MAX);
        after.wrote(gone as usize);
        Ok(gone)
    };
    pools.after.checkpoints.pass(limit as usize).await;
    pools.writer.write(delete).await
}

/// Looked for by a reader, so that the write lock is taken only where a record goes.
async fn any_older_than(pools: &Pools, age: Duration) -> Result<bool, StoreError> {
    let line = pools.clock.now().minus(age).as_micros();
    sqlx::query_scalar(IS_ANY_OLD).bind(line).fetch_one(pools.readers()?).await.map_err(store_error)
}

pub(super) const HISTORY: &str = "session_kit_history";
pub(super) const ENDED: &str = "SELECT * FROM session_kit_history WHERE id = ?";
pub(super) const IS_ANY_OLD: &str =
    "SELECT EXISTS (SELECT 1 FROM session_kit_history WHERE ended < ?)";
pub(super) const FORGET_OLD: &str = "DELETE FROM session_kit_history WHERE rowid IN \
    (SELECT rowid FROM session_kit_history WHERE ended < ?1 ORDER BY ended LIMIT ?2)";
pub(super) const FORGET_USER: &str = "DELETE FROM session_kit_history WHERE rowid IN \
    (SELECT rowid FROM session_kit_history WHERE tenant = ?1 AND user_id = ?2 LIMIT ?3)";
