//! What the nodes of a fleet have together: leases and a key.

use std::time::Duration;

use session_core::{FleetKey, StoreError};

use super::db::{Db, store_error};

pub(super) async fn lease(
    db: &Db,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<bool, StoreError> {
    let taken = sqlx::query(db.sql(LEASE))
        .bind(name)
        .bind(holder)
        .bind(ttl.as_secs_f64())
        .execute(&db.pool)
        .await
        .map_err(store_error)?;
    Ok(taken.rows_affected() > 0)
}

pub(super) async fn key(db: &Db, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
    let key: Vec<u8> = sqlx::query_scalar(db.sql(KEY))
        .bind(&proposed.as_bytes()[..])
        .fetch_one(&db.pool)
        .await
        .map_err(store_error)?;
    let malformed = |_| StoreError::corrupt("the key of the fleet has another length");
    key.try_into().map(FleetKey::from_bytes).map_err(malformed)
}

/// Drops leases that ran out: at most so many that a call stays short while the table holds a row for
/// each ticket. They go after the lease has been taken, and without waiting for other calls.
pub(super) const LEASE: &str = "WITH gone AS (DELETE FROM {t}leases WHERE name = ANY (ARRAY( \
        SELECT name FROM {t}leases WHERE until <= statement_timestamp() AND name <> $1 \
        ORDER BY until LIMIT 100 FOR UPDATE SKIP LOCKED))) \
    INSERT INTO {t}leases AS held (name, holder, until) \
    VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3)) \
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until \
    WHERE held.holder = excluded.holder OR held.until <= clock_timestamp()";
/// A node that waits for another one's update finds what that one wrote.
const KEY: &str = "UPDATE {t}meta SET fleet_key = COALESCE(fleet_key, $1) RETURNING fleet_key";
