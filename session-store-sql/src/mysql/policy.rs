//! Policies and blocks: what is set at one place.

use session_core::StoreError;
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{BlockChange, PolicyChange};

use super::db::{Db, retried, store_error};
use super::log::SETTLE_PAUSE;

impl Db {
    pub(super) async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        let text = self.at_place(POLICY, scope).await?;
        text.as_deref().map(Policy::from_stored).transpose()
    }

    pub(super) async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        let text = self.at_place(BLOCK, scope).await?;
        text.as_deref().map(Block::from_stored).transpose()
    }

    /// What is set at one place, if anything is.
    async fn at_place(
        &self,
        statement: &'static str,
        scope: &PolicyScope,
    ) -> Result<Option<String>, StoreError> {
        let (tenant, user) = scope.key();
        let query = sqlx::query_scalar(self.sql(statement)).bind(tenant).bind(user);
        let row: Option<Option<String>> =
            query.fetch_optional(&self.pool).await.map_err(store_error)?;
        Ok(row.flatten())
    }

    pub(super) async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        let (tenant, user) = change.scope.key();
        let policy = change.policy.as_ref().map(Policy::to_stored);
        let by = change.by.to_string();
        let call = || {
            sqlx::query(self.sql(SET_POLICY))
                .bind(tenant)
                .bind(user)
                .bind(&policy)
                .bind(change.at.as_micros())
                .bind(&by)
                .execute(&self.pool)
        };
        retried(call).await.map(drop)
    }

    /// Sets or lifts a block. A change that passed its gate before the block was committed may have
    /// overlooked it, so a block that is set waits for all of those. Sign-ins do not wait for it.
    pub(super) async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        let (tenant, user) = change.scope.key();
        let block = change.block.as_ref().map(Block::to_stored);
        let until = change.block.as_ref().and_then(|block| block.until);
        let by = change.by.to_string();
        let call = || {
            sqlx::query(self.sql(SET_BLOCK))
                .bind(tenant)
                .bind(user)
                .bind(&block)
                .bind(until.map(|until| until.as_micros()))
                .bind(change.event().kind.as_str())
                .bind(change.at.as_micros())
                .bind(&by)
                .execute(&self.pool)
        };
        retried(call).await?;
        if block.is_none() {
            return Ok(());
        }
        if self.outlast_changes(TRIES).await? {
            return Ok(());
        }
        Err(StoreError::timed_out("changes beside a block", SETTLE_PAUSE * TRIES))
    }
}

pub(super) const POLICY: &str =
    "SELECT CONVERT(policy USING utf8mb4) FROM {t}policies WHERE tenant = ? AND user_id = ?";
pub(super) const BLOCK: &str =
    "SELECT CONVERT(block USING utf8mb4) FROM {t}policies WHERE tenant = ? AND user_id = ?";
const SET_POLICY: &str = "CALL {t}set_policy_1(?, ?, ?, ?, ?)";
const TRIES: u32 = 500;
const SET_BLOCK: &str = "CALL {t}set_block_1(?, ?, ?, ?, ?, ?, ?)";
