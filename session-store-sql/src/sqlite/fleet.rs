//! What the nodes share beside sessions: leases, and a secret.

use std::time::Duration;

use session_core::{FleetKey, InvalidField, StoreError, Timestamp};

use super::tx::Tx;
use super::{Pools, store_error};

pub(super) async fn lease(
    pools: &Pools,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<bool, StoreError> {
    let (name, holder) = (name.to_owned(), holder.to_owned());
    let clock = pools.clock.clone();
    // Once the write lock is held: waiting for it takes nothing from the lease.
    let take = async move |tx: Tx<'_>| take(tx, &name, &holder, ttl, clock.now()).await;
    pools.writer.write(take).await
}

async fn take(
    mut tx: Tx<'_>,
    name: &str,
    holder: &str,
    ttl: Duration,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let taken = sqlx::query(LEASE)
        .bind(name)
        .bind(holder)
        .bind(now.plus(ttl).as_micros())
        .bind(now.as_micros())
        .execute(&mut *tx)
        .await
        .map_err(store_error)?;
    if taken.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(DROP_LEASES)
        .bind(now.as_micros())
        .bind(name)
        .execute(&mut *tx)
        .await
        .map_err(store_error)?;
    tx.commit().await.map_err(store_error)?;
    Ok(true)
}

/// Takes the write lock only where there is no key yet.
pub(super) async fn key(pools: &Pools, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
    let known: Option<Vec<u8>> =
        sqlx::query_scalar(KEY).fetch_optional(pools.readers()?).await.map_err(store_error)?;
    let key = match known {
        Some(key) => key,
        None => {
            let proposed = *proposed.as_bytes();
            let set = async move |mut tx: Tx<'_>| {
                let set = sqlx::query_scalar(SET_KEY).bind(&proposed[..]);
                let key = set.fetch_one(&mut *tx).await.map_err(store_error)?;
                tx.commit().await.map_err(store_error)?;
                Ok(key)
            };
            pools.writer.write(set).await?
        }
    };
    let malformed = |_| InvalidField::malformed("key", "32 bytes");
    Ok(FleetKey::from_bytes(key.try_into().map_err(malformed)?))
}

const LEASE: &str = "INSERT INTO session_kit_leases (name, holder, until) \
    VALUES (?1, ?2, ?3) \
    ON CONFLICT DO UPDATE SET holder = excluded.holder, until = excluded.until \
    WHERE holder = excluded.holder OR until <= ?4";
/// At most so many that a call stays short while the table holds a row for each ticket.
pub(super) const DROP_LEASES: &str = "DELETE FROM session_kit_leases WHERE name IN \
    (SELECT name FROM session_kit_leases WHERE until <= ?1 AND name <> ?2 ORDER BY until LIMIT 100)";
pub(super) const KEY: &str = "SELECT key FROM session_kit_fleet WHERE only_row = 1";
/// The first key stays.
const SET_KEY: &str = "INSERT INTO session_kit_fleet (only_row, key) VALUES (1, ?) \
    ON CONFLICT DO UPDATE SET key = key RETURNING key";
