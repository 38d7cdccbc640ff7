//! What is set at a place: policies and blocks.

use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{BlockChange, PolicyChange};
use session_core::{Event, StoreError, Timestamp, UserKey};
use sqlx::sqlite::{SqlitePool, SqliteTransaction};

use super::tx::{Tx, Writer};
use super::{log, store_error};
use crate::columns::Columns;
use crate::places::Places;

/// What concerns one user, as of the transaction's moment.
pub(super) async fn of(
    tx: &mut SqliteTransaction<'_>,
    owner: &UserKey,
) -> Result<Places, StoreError> {
    let found = sqlx::query(PLACES)
        .bind(owner.tenant_text())
        .bind(owner.user.as_str())
        .fetch_all(&mut **tx)
        .await
        .map_err(store_error)?;
    let mut places = Places::of(owner);
    for row in &found {
        let key = (row.text("tenant")?, row.text("user_id")?);
        places.add(key, row.optional_text("policy")?, row.optional_text("block")?)?;
    }
    Ok(places)
}

pub(super) async fn policy(
    readers: &SqlitePool,
    scope: &PolicyScope,
) -> Result<Option<Policy>, StoreError> {
    let policy = text(readers, POLICY, scope).await?;
    policy.as_deref().map(Policy::from_stored).transpose()
}

pub(super) async fn block(
    readers: &SqlitePool,
    scope: &PolicyScope,
) -> Result<Option<Block>, StoreError> {
    let block = text(readers, BLOCK, scope).await?;
    block.as_deref().map(Block::from_stored).transpose()
}

async fn text(
    readers: &SqlitePool,
    statement: &'static str,
    scope: &PolicyScope,
) -> Result<Option<String>, StoreError> {
    let (tenant, user) = scope.key();
    let found: Option<Option<String>> = sqlx::query_scalar(statement)
        .bind(tenant)
        .bind(user)
        .fetch_optional(readers)
        .await
        .map_err(store_error)?;
    Ok(found.flatten())
}

pub(super) async fn set_policy(writer: &Writer, change: &PolicyChange) -> Result<(), StoreError> {
    let change = change.clone();
    let set = async move |mut tx: Tx<'_>| {
        let (tenant, user) = change.scope.key();
        let policy = change.policy.as_ref().map(Policy::to_stored);
        let set = sqlx::query(SET_POLICY).bind(tenant).bind(user).bind(policy);
        set.execute(&mut *tx).await.map_err(store_error)?;
        told(tx, &change.scope, &change.event()).await
    };
    writer.write(set).await
}

/// Every commit that began before has ended, and every later one sees the block: writes take turns.
pub(super) async fn set_block(writer: &Writer, change: &BlockChange) -> Result<(), StoreError> {
    let change = change.clone();
    let set = async move |mut tx: Tx<'_>| {
        let (tenant, user) = change.scope.key();
        let block = change.block.as_ref().map(Block::to_stored);
        let until = change.block.as_ref().and_then(|block| block.until).map(Timestamp::as_micros);
        let set = sqlx::query(SET_BLOCK).bind(tenant).bind(user).bind(block).bind(until);
        set.execute(&mut *tx).await.map_err(store_error)?;
        told(tx, &change.scope, &change.event()).await
    };
    writer.write(set).await
}

/// Commits what is set at a place, with its entry in the log.
async fn told(mut tx: Tx<'_>, scope: &PolicyScope, event: &Event) -> Result<(), StoreError> {
    forget_empty(&mut tx, scope).await?;
    log::append(&mut tx, event).await?;
    tx.commit().await.map_err(store_error)
}

async fn forget_empty(tx: &mut Tx<'_>, scope: &PolicyScope) -> Result<(), StoreError> {
    let (tenant, user) = scope.key();
    let forget = sqlx::query(FORGET_EMPTY).bind(tenant).bind(user);
    forget.execute(&mut **tx).await.map_err(store_error)?;
    Ok(())
}

pub(super) const PLACES: &str = "SELECT tenant, user_id, policy, block FROM session_kit_policies \
    WHERE (tenant, user_id) IN (VALUES ('', ''), (?1, ''), (?1, ?2))";
pub(super) const POLICY: &str =
    "SELECT policy FROM session_kit_policies WHERE tenant = ? AND user_id = ?";
pub(super) const BLOCK: &str =
    "SELECT block FROM session_kit_policies WHERE tenant = ? AND user_id = ?";
const SET_POLICY: &str = "INSERT INTO session_kit_policies (tenant, user_id, policy) \
    VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET policy = excluded.policy";
const SET_BLOCK: &str = "INSERT INTO session_kit_policies (tenant, user_id, block, blocked_until) \
    VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE \
    SET block = excluded.block, blocked_until = excluded.blocked_until";
pub(super) const FORGET_EMPTY: &str = "DELETE FROM session_kit_policies \
    WHERE tenant = ? AND user_id = ? AND policy IS NULL AND block IS NULL";
