//! Calls that are tried again, and what the driver's errors mean.

use std::time::Duration;

use session_core::StoreError;
use sqlx::error::DatabaseError;
use sqlx::mysql::{MySql, MySqlArguments, MySqlConnection, MySqlDatabaseError, MySqlRow};
use sqlx::pool::PoolConnection;
use sqlx::query::Query;

pub(super) type Db = crate::db::Db<MySql>;

impl Db {
    pub(super) async fn connection(&self) -> Result<PoolConnection<MySql>, StoreError> {
        self.pool.acquire().await.map_err(store_error)
    }
}

/// Microseconds that can be added to a time, and taken from one.
pub(super) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX).min(i64::MAX / 4)
}

/// Runs a call again, a few times, if nothing happened: after a deadlock, or while a newer node
/// replaces the procedure.
pub(super) async fn retried<T, F>(mut call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let mut tries = Tries::default();
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => tries.again(error).await?,
        }
    }
}

/// As [`retried`], over one connection.
pub(super) async fn rows(
    connection: &mut MySqlConnection,
    call: impl Fn() -> Query<'static, MySql, MySqlArguments>,
) -> Result<Vec<MySqlRow>, StoreError> {
    let mut tries = Tries::default();
    loop {
        match call().fetch_all(&mut *connection).await {
            Ok(rows) => return Ok(rows),
            Err(error) => tries.again(error).await?,
        }
    }
}

#[derive(Default)]
struct Tries(u32);

impl Tries {
    /// Waits until the call may be run again. Fails where it may not.
    async fn again(&mut self, error: sqlx::Error) -> Result<(), StoreError> {
        self.0 += 1;
        if self.0 == TRIES || !error.as_database_error().is_some_and(nothing_happened) {
            return Err(store_error(error));
        }
        tokio::time::sleep(PAUSE * self.0 * self.0).await;
        Ok(())
    }
}

pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    crate::error::store_error(error, is_passing)
}

/// Connection lost or refused, rolled back: classes of SQL states; killed by an operator.
fn is_passing(error: &dyn DatabaseError) -> bool {
    let state = error.code();
    let class = state.as_deref().and_then(|state| state.get(..2));
    matches!(class, Some("08" | "40" | "70")) || nothing_happened(error)
}

/// A lock that was waited for too long, a deadlock, or a procedure that is not there.
fn nothing_happened(error: &dyn DatabaseError) -> bool {
    let error = error.try_downcast_ref::<MySqlDatabaseError>();
    error.is_some_and(|error| matches!(error.number(), 1205 | 1213 | 1305))
}

const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(2);
