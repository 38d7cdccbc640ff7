//! Policies and leases.

use std::time::Duration;

use session_core::StoreError;
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::PolicyChange;
use sqlx::sqlite::{SqlitePool, SqliteTransaction};

use super::{log, store_error, tx};
use crate::columns::Columns;

/// The policies that concern one user, as of the transaction's moment.
pub(super) async fn layers(
    tx: &mut SqliteTransaction<'_>,
    tenant: &str,
    user: &str,
) -> Result<PolicyLayers, StoreError> {
    let found = sqlx::query(LAYERS)
        .bind(tenant)
        .bind(user)
        .fetch_all(&mut **tx)
        .await
        .map_err(store_error)?;
    let mut layers = PolicyLayers::default();
    for row in &found {
        let (tenant, user) = (row.text("tenant")?, row.text("user_id")?);
        layers.set_by_key((tenant, user), Some(Policy::from_stored(row.text("policy")?)?));
    }
    Ok(layers)
}

pub(super) async fn get(
    readers: &SqlitePool,
    scope: &PolicyScope,
) -> Result<Option<Policy>, StoreError> {
    let (tenant, user) = scope.key();
    let text: Option<String> = sqlx::query_scalar(GET)
        .bind(tenant)
        .bind(user)
        .fetch_optional(readers)
        .await
        .map_err(store_error)?;
    text.as_deref().map(Policy::from_stored).transpose()
}

pub(super) async fn set(writer: &SqlitePool, change: &PolicyChange) -> Result<(), StoreError> {
    let (tenant, user) = change.scope.key();
    let policy = change.policy.as_ref().map(Policy::to_stored);
    let mut tx = tx::begin(writer).await?;
    let statement = match policy {
        Some(policy) => sqlx::query(SET).bind(tenant).bind(user).bind(policy),
        None => sqlx::query(UNSET).bind(tenant).bind(user),
    };
    statement.execute(&mut *tx).await.map_err(store_error)?;
    log::append(&mut tx, &change.event()).await?;
    tx.commit().await.map_err(store_error)
}

pub(super) async fn lease(
    writer: &SqlitePool,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<bool, StoreError> {
    let ttl = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX / 4);
    let taken = sqlx::query(LEASE)
        .bind(name)
        .bind(holder)
        .bind(ttl)
        .execute(writer)
        .await
        .map_err(store_error)?;
    Ok(taken.rows_affected() > 0)
}

pub(super) const LAYERS: &str = "SELECT tenant, user_id, policy FROM session_kit_policies \
    WHERE (tenant, user_id) IN (VALUES ('', ''), (?1, ''), (?1, ?2))";
pub(super) const GET: &str =
    "SELECT policy FROM session_kit_policies WHERE tenant = ? AND user_id = ?";
const SET: &str = "INSERT INTO session_kit_policies (tenant, user_id, policy) VALUES (?, ?, ?) \
    ON CONFLICT DO UPDATE SET policy = excluded.policy";
const UNSET: &str = "DELETE FROM session_kit_policies WHERE tenant = ? AND user_id = ?";
const LEASE: &str = "INSERT INTO session_kit_leases (name, holder, until) \
    VALUES (?1, ?2, CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER) + ?3) \
    ON CONFLICT DO UPDATE SET holder = excluded.holder, until = excluded.until \
    WHERE holder = excluded.holder \
    OR until <= CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)";
