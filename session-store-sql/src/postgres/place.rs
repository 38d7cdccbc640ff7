//! What is set at a place, that is for the deployment, a tenant or a user: its policy and its
//! block.

use session_core::StoreError;
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{BlockChange, PolicyChange};

use super::db::{Db, store_error};

pub(super) async fn policy(db: &Db, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
    let text = text(db, POLICY, scope).await?;
    text.as_deref().map(Policy::from_stored).transpose()
}

pub(super) async fn block(db: &Db, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
    let text = text(db, BLOCK, scope).await?;
    text.as_deref().map(Block::from_stored).transpose()
}

pub(super) async fn set_policy(db: &Db, change: &PolicyChange) -> Result<(), StoreError> {
    let (tenant, user) = change.scope.key();
    let policy = change.policy.as_ref().map(Policy::to_stored);
    sqlx::query(db.sql(SET_POLICY))
        .bind(tenant)
        .bind(user)
        .bind(policy)
        .bind(change.at.as_micros())
        .bind(change.by.to_string())
        .execute(&db.pool)
        .await
        .map_err(store_error)?;
    Ok(())
}

pub(super) async fn set_block(db: &Db, change: &BlockChange) -> Result<(), StoreError> {
    let (tenant, user) = change.scope.key();
    let block = change.block.as_ref();
    sqlx::query(db.sql(SET_BLOCK))
        .bind(tenant)
        .bind(user)
        .bind(block.map(Block::to_stored))
        .bind(block.and_then(|block| block.until).map(|until| until.as_micros()))
        .bind(change.event().kind.as_str())
        .bind(change.at.as_micros())
        .bind(change.by.to_string())
        .execute(&db.pool)
        .await
        .map_err(store_error)?;
    Ok(())
}

async fn text(
    db: &Db,
    statement: &'static str,
    scope: &PolicyScope,
) -> Result<Option<String>, StoreError> {
    let (tenant, user) = scope.key();
    let text = sqlx::query_scalar(db.sql(statement)).bind(tenant).bind(user);
    let text: Option<Option<String>> = text.fetch_optional(&db.pool).await.map_err(store_error)?;
    Ok(text.flatten())
}

pub(super) const POLICY: &str = "SELECT policy FROM {t}policies WHERE tenant = $1 AND user_id = $2";
pub(super) const BLOCK: &str = "SELECT block FROM {t}policies WHERE tenant = $1 AND user_id = $2";
const SET_POLICY: &str = "SELECT {t}set_policy($1, $2, $3, $4, $5)";
const SET_BLOCK: &str = "SELECT {t}set_block($1, $2, $3, $4, $5, $6, $7)";
