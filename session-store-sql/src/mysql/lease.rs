//! Leases, by the database's clock.

use std::time::Duration;

use session_core::StoreError;
use sqlx::mysql::MySqlPool;

use super::store_error;
use crate::names::Names;

pub(super) async fn take(
    pool: &MySqlPool,
    names: &Names,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<bool, StoreError> {
    let ttl = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX / 4);
    // Whoever makes the row holds the lease; else it has to be one's own, or over.
    for statement in [RENEW, MAKE] {
        let taken = match statement {
            RENEW => sqlx::query(names.sql(RENEW)).bind(holder).bind(ttl).bind(name).bind(holder),
            _ => sqlx::query(names.sql(MAKE)).bind(name).bind(holder).bind(ttl),
        };
        if taken.execute(pool).await.map_err(store_error)?.rows_affected() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

const RENEW: &str = "UPDATE {t}leases \
    SET holder = ?, until = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND \
    WHERE name = ? AND (holder = ? OR until <= UTC_TIMESTAMP(6))";
const MAKE: &str = "INSERT IGNORE INTO {t}leases (name, holder, until) \
    VALUES (?, ?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND)";
