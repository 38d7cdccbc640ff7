//! Leases, by the database's clock.

use std::time::Duration;

use session_core::{InvalidField, StoreError};
use sqlx::QueryBuilder;
use sqlx::mysql::MySql;

use super::db::{Db, micros, retried};
use crate::names::Names;

impl Db {
    pub(super) async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        check(name).and_then(|()| check(holder)).map_err(StoreError::refused)?;
        let ttl = micros(ttl);
        // A lease that is there must be the holder's own, or over.
        let renew = || {
            let renew = sqlx::query(self.sql(RENEW)).bind(holder).bind(ttl).bind(name).bind(holder);
            renew.execute(&self.pool)
        };
        if retried(renew).await?.rows_affected() > 0 {
            return Ok(true);
        }
        if !self.make_lease(name, holder, ttl).await? {
            return Ok(false);
        }
        // The lease has been taken all the same, and the next call tries again.
        if let Err(error) = self.drop_leases(name).await {
            tracing::debug!(%error, "leases that ran out are still there");
        }
        Ok(true)
    }

    async fn make_lease(&self, name: &str, holder: &str, ttl: i64) -> Result<bool, StoreError> {
        let make = || async {
            let make = sqlx::query(self.sql(MAKE)).bind(name).bind(holder).bind(ttl);
            match make.execute(&self.pool).await {
                Ok(_) => Ok(true),
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
                Err(error) => Err(error),
            }
        };
        retried(make).await
    }

    /// Reads without locks, and deletes by the names: a call that renews one of them locks its row
    /// first and its place in the index of time afterwards, as this does.
    async fn drop_leases(&self, besides: &str) -> Result<(), StoreError> {
        let over = || sqlx::query_scalar(self.sql(OVER)).bind(besides).fetch_all(&self.pool);
        let over: Vec<Vec<u8>> = retried(over).await?;
        if over.is_empty() {
            return Ok(());
        }
        let drop = || async {
            let mut drop = drop_statement(&self.names, &over);
            // The text differs with the number of names: not worth a place among the prepared ones.
            drop.build().persistent(false).execute(&self.pool).await
        };
        retried(drop).await.map(|_| ())
    }
}

/// What the columns hold. A server that is not strict would cut what is longer.
fn check(text: &str) -> Result<(), InvalidField> {
    if text.len() > 128 {
        return Err(InvalidField::malformed("lease", "a name and a holder of at most 128 bytes"));
    }
    Ok(())
}

fn drop_statement(names: &Names, over: &[Vec<u8>]) -> QueryBuilder<MySql> {
    let mut drop = QueryBuilder::new(names.fill(DROP));
    let mut listed = drop.separated(", ");
    for name in over {
        listed.push_bind(name.clone());
    }
    listed.push_unseparated(")");
    drop
}

const RENEW: &str = "UPDATE {t}leases \
    SET holder = ?, until = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND \
    WHERE name = ? AND (holder = ? OR until <= UTC_TIMESTAMP(6))";
const MAKE: &str = "INSERT INTO {t}leases (name, holder, until) \
    VALUES (?, ?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND)";
/// At most so many that a call stays short while the table holds a row for each ticket.
const OVER: &str = "SELECT name FROM {t}leases FORCE INDEX ({i}leases_by_until) \
    WHERE until <= UTC_TIMESTAMP(6) AND name <> ? ORDER BY until LIMIT 100";
const DROP: &str = "DELETE FROM {t}leases WHERE until <= UTC_TIMESTAMP(6) AND name IN (";
