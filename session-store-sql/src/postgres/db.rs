//! How the pool is opened and checked, and what the driver's errors mean.

use std::time::Duration;

use session_core::{InvalidField, StoreError, Timestamp};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, Postgres};

use crate::db;

pub(super) type Db = db::Db<Postgres>;

impl Db {
    /// Refuses transactions that fail because another one ran beside them.
    pub(super) async fn check_settings(&self) -> Result<(), StoreError> {
        let isolation: String =
            sqlx::query_scalar(ISOLATION).fetch_one(&self.pool).await.map_err(store_error)?;
        if isolation != READ_COMMITTED {
            let error = InvalidField::malformed("default_transaction_isolation", READ_COMMITTED);
            return Err(StoreError::internal(error));
        }
        Ok(())
    }
}

/// Opens a pool. A connection that was in use a moment ago is taken without asking the server
/// whether it is still there: that would be a round trip for every statement.
pub(super) async fn open(url: &str) -> Result<PgPool, StoreError> {
    let pool = PgPoolOptions::new().max_connections(10).test_before_acquire(false);
    let pool = pool.before_acquire(|connection, meta| {
        Box::pin(async move { is_there(connection, meta.idle_for).await })
    });
    let server: PgConnectOptions = url.parse().map_err(store_error)?;
    db::reach(&server, store_error).await?;
    pool.connect_with(server).await.map_err(store_error)
}

async fn is_there(connection: &mut PgConnection, idle: Duration) -> Result<bool, sqlx::Error> {
    if idle >= IDLE {
        connection.ping().await?;
    }
    Ok(true)
}

pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    crate::error::store_error(error, |database| is_passing(database.code().as_deref()))
}

/// Whether a unique constraint, or a function of ours in its name, refused a statement. A number of the
/// log that is taken is none: its sequence is behind, as after a restore without it, and a second try
/// meets the next one that is taken.
pub(super) fn is_duplicate(error: &sqlx::Error) -> bool {
    let is_of_log = |name: &str| name.ends_with(LOG_NUMBERS);
    error.as_database_error().is_some_and(|error| {
        error.is_unique_violation() && !error.constraint().is_some_and(is_of_log)
    })
}

/// The end of the name that PostgreSQL gives to the log's primary key.
const LOG_NUMBERS: &str = "log_pkey";

/// Connection lost, rolled back, out of resources, an operator's doing, a failing system; or a lock
/// that was not granted in time.
fn is_passing(state: Option<&str>) -> bool {
    let class = state.and_then(|state| state.get(..2));
    matches!(class, Some("08" | "40" | "53" | "57" | "58")) || state == Some(LOCK_NOT_AVAILABLE)
}

/// An age in the unit of the columns.
pub(super) fn micros(age: Duration) -> i64 {
    Timestamp::EPOCH.plus(age).as_micros()
}

const LOCK_NOT_AVAILABLE: &str = "55P03";
const IDLE: Duration = Duration::from_secs(1);
const ISOLATION: &str = "SELECT current_setting('default_transaction_isolation')";
const READ_COMMITTED: &str = "read committed";
