//! Leases, by the database's clock.

use std::time::Duration;

use session_core::StoreError;

use super::db::{Db, micros, store_error};

impl Db {
    pub(super) async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let ttl = micros(ttl);
        // A lease that is there must be the holder's own, or over.
        let renew = sqlx::query(self.sql(RENEW)).bind(holder).bind(ttl).bind(name).bind(holder);
        if renew.execute(&self.pool).await.map_err(store_error)?.rows_affected() > 0 {
            return Ok(true);
        }
        let make = sqlx::query(self.sql(MAKE)).bind(name).bind(holder).bind(ttl);
        if make.execute(&self.pool).await.map_err(store_error)?.rows_affected() == 0 {
            return Ok(false);
        }
        let drop = sqlx::query(self.sql(DROP)).bind(name);
        drop.execute(&self.pool).await.map_err(store_error)?;
        Ok(true)
    }
}

const RENEW: &str = "UPDATE {t}leases \
    SET holder = ?, until = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND \
    WHERE name = ? AND (holder = ? OR until <= UTC_TIMESTAMP(6))";
/// The table is small: a row for each worker, and for each ticket that is good.
const DROP: &str = "DELETE FROM {t}leases WHERE until <= UTC_TIMESTAMP(6) AND name <> ?";
const MAKE: &str = "INSERT IGNORE INTO {t}leases (name, holder, until) \
    VALUES (?, ?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND)";
