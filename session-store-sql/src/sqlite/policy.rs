//! Policies and leases.

use std::time::Duration;

use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::PolicyChange;
use session_core::{StoreError, StoreErrorKind};
use sqlx::sqlite::{SqlitePool, SqliteTransaction};

use super::{log, rows, store_error, tx};

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
        let policy = Some(parse(rows::get(row, "policy")?)?);
        match (rows::get(row, "tenant")?, rows::get(row, "user")?) {
            ("", "") => layers.deployment = policy,
            (_, "") => layers.tenant = policy,
            (_, _) => layers.user = policy,
        }
    }
    Ok(layers)
}

pub(super) async fn get(
    readers: &SqlitePool,
    scope: &PolicyScope,
) -> Result<Option<Policy>, StoreError> {
    let (tenant, user) = key(scope)?;
    let text: Option<String> = sqlx::query_scalar(GET)
        .bind(tenant)
        .bind(user)
        .fetch_optional(readers)
        .await
        .map_err(store_error)?;
    text.map(|text| parse(&text)).transpose()
}

pub(super) async fn set(writer: &SqlitePool, change: &PolicyChange) -> Result<(), StoreError> {
    let (tenant, user) = key(&change.scope)?;
    let policy = change.policy.as_ref().map(serde_json::to_string).transpose();
    let policy = policy.map_err(|error| StoreError::new(StoreErrorKind::Internal, error))?;
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

fn key(scope: &PolicyScope) -> Result<(&str, &str), StoreError> {
    match scope {
        PolicyScope::Deployment => Ok(("", "")),
        PolicyScope::Tenant(tenant) => Ok((tenant.as_str(), "")),
        PolicyScope::User(owner) => {
            Ok((rows::tenant_column(owner.tenant.as_ref()), owner.user.as_str()))
        }
        _ => Err(StoreError::new(StoreErrorKind::Internal, "a policy scope of a newer version")),
    }
}

fn parse(text: &str) -> Result<Policy, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::new(StoreErrorKind::Corrupt, error))
}

pub(super) const LAYERS: &str = "SELECT tenant, user, policy FROM session_kit_policies \
    WHERE (tenant, user) IN (VALUES ('', ''), (?1, ''), (?1, ?2))";
pub(super) const GET: &str =
    "SELECT policy FROM session_kit_policies WHERE tenant = ? AND user = ?";
const SET: &str = "INSERT INTO session_kit_policies (tenant, user, policy) VALUES (?, ?, ?) \
    ON CONFLICT DO UPDATE SET policy = excluded.policy";
const UNSET: &str = "DELETE FROM session_kit_policies WHERE tenant = ? AND user = ?";
const LEASE: &str = "INSERT INTO session_kit_leases (name, holder, until) \
    VALUES (?1, ?2, CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER) + ?3) \
    ON CONFLICT DO UPDATE SET holder = excluded.holder, until = excluded.until \
    WHERE holder = excluded.holder \
    OR until <= CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)";
