//! MySQL 8 and MariaDB 10.11, and later: any number of nodes on any number of hosts.

mod change;
mod lease;
mod log;
mod migrate;
#[cfg(all(test, feature = "server-tests"))]
mod plans;
mod read;
mod retry;

use std::time::Duration;

use async_trait::async_trait;
use session_core::cleanup::SweepRule;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    Commit, Cursor, EndMany, Ended, Loaded, LogPage, Outcome, Page, PageQuery, PolicyChange, Touch,
    UserState,
};
use session_core::{
    InvalidField, SessionId, Store, StoreError, StoreErrorKind, Timestamp, UserKey,
};
use sqlx::mysql::{MySqlPool, MySqlPoolOptions};

use crate::names::{self, Names};

/// A store in a MySQL or MariaDB database.
///
/// Every change is one call of a procedure that the migrations make: a transaction at READ COMMITTED
/// that locks the user's row first and a counter last, so the log's numbers are in the order of
/// commits. Deadlocks are tried again inside, a few times. There is no push: revocations take the
/// propagation bound.
///
/// Connections have to have `autocommit` on, as they do by default.
///
/// The database's user needs `CREATE ROUTINE` and `ALTER ROUTINE` for the migrations, and `EXECUTE`.
///
/// ```
/// # use sqlx::{Connection, Executor, MySqlConnection};
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let Ok(server) = std::env::var("SESSION_KIT_MYSQL_URL") else { return Ok(()) };
/// # let mut connection = MySqlConnection::connect(&server).await?;
/// # connection.execute("CREATE DATABASE IF NOT EXISTS session_kit_docs").await?;
/// # let (server, _) = server.rsplit_once('/').unwrap_or_default();
/// # let url = format!("{server}/session_kit_docs");
/// // A URL such as `mysql://app@db/app`.
/// let store = session_store_sql::MySqlStore::connect(&url).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MySqlStore {
    pool: MySqlPool,
    names: Names,
}

/// Where a [`MySqlStore`] keeps its tables.
///
/// ```
/// let options = session_store_sql::MySqlOptions::default().with_prefix("login_");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MySqlOptions {
    /// What every table's name begins with. Default `session_kit_`.
    pub prefix: String,
}

impl Default for MySqlOptions {
    fn default() -> Self {
        Self { prefix: "session_kit_".to_owned() }
    }
}

impl MySqlOptions {
    /// Sets [`MySqlOptions::prefix`].
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Checks the name: lower-case letters, digits and underscores, at most 32.
    ///
    /// # Errors
    /// [`InvalidField`] naming the option.
    pub fn validate(&self) -> Result<(), InvalidField> {
        names::check("prefix", &self.prefix)
    }
}

impl MySqlStore {
    /// Connects with the default options and brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] when the server cannot be reached,
    /// [`StoreErrorKind::Internal`] when its schema is of a newer version.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let pool = MySqlPoolOptions::new().max_connections(10).connect(url).await;
        Self::with_pool(pool.map_err(store_error)?, &MySqlOptions::default()).await
    }

    /// Uses the application's pool and brings the schema up to date. Safe to run from several
    /// nodes at once.
    ///
    /// # Errors
    /// As [`MySqlStore::connect`]; and [`StoreErrorKind::Internal`] for names out of bounds, and
    /// where `autocommit` is off or transactions read what is not committed.
    pub async fn with_pool(pool: MySqlPool, options: &MySqlOptions) -> Result<Self, StoreError> {
        let invalid = |error| StoreError::internal(error);
        options.validate().map_err(invalid)?;
        let names = Names::new(None, &options.prefix);
        check_settings(&pool).await?;
        migrate::run(&pool, &names).await?;
        Ok(Self { pool, names })
    }

    /// The migrations as text for the server's client program (with its `DELIMITER` lines), in order,
    /// for those who run their own. Each notes its version, so that a store finds the schema up to
    /// date.
    ///
    /// # Errors
    /// [`InvalidField`] for names out of bounds.
    pub fn migrations(options: &MySqlOptions) -> Result<Vec<String>, InvalidField> {
        options.validate()?;
        let names = Names::new(None, &options.prefix);
        Ok(migrate::printed().iter().map(|script| names.fill(script)).collect())
    }
}

#[async_trait]
impl Store for MySqlStore {
    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        read::user(&self.pool, &self.names, owner).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        change::commit(&self.pool, &self.names, commit).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        read::load(&self.pool, &self.names, id).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        read::page(&self.pool, &self.names, query).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        change::touch(&self.pool, &self.names, batch).await
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<Vec<Ended>, StoreError> {
        change::end_many(&self.pool, &self.names, end, limit).await
    }

    async fn sweep(
        &self,
        rule: &SweepRule,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<Ended>, StoreError> {
        change::sweep(&self.pool, &self.names, rule, at, limit).await
    }

    async fn log_since(&self, cursor: Option<&Cursor>, limit: u32) -> Result<LogPage, StoreError> {
        log::since(&self.pool, &self.names, cursor, limit).await
    }

    async fn trim_log(&self, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        log::trim(&self.pool, &self.names, before, limit).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        lease::take(&self.pool, &self.names, name, holder, ttl).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        read::policy(&self.pool, &self.names, scope).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        change::set_policy(&self.pool, &self.names, change).await
    }
}

/// Without `autocommit` a read leaves a transaction open, which then sees nothing new.
async fn check_settings(pool: &MySqlPool) -> Result<(), StoreError> {
    let settings: Vec<(String, String)> =
        sqlx::query_as(SETTINGS).fetch_all(pool).await.map_err(store_error)?;
    for (name, value) in settings {
        let error = match (name.as_str(), value.as_str()) {
            ("autocommit", "OFF") => InvalidField::malformed("autocommit", "ON"),
            (_, "READ-UNCOMMITTED") => {
                InvalidField::malformed("transaction_isolation", "READ-COMMITTED or stricter")
            }
            _ => continue,
        };
        return Err(StoreError::internal(error));
    }
    Ok(())
}

/// A defect of a row or a statement is told from a server that cannot be reached right now.
fn store_error(error: sqlx::Error) -> StoreError {
    let kind = match &error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreErrorKind::Corrupt,
        sqlx::Error::Database(_) if !is_passing(&error) => StoreErrorKind::Internal,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, error)
}

/// Connection lost or refused, rolled back: classes of SQL states; killed by an operator.
fn is_passing(error: &sqlx::Error) -> bool {
    let database = error.as_database_error();
    let state = database.and_then(|error| error.code());
    let class = state.as_deref().and_then(|state| state.get(..2));
    matches!(class, Some("08" | "40" | "70")) || is_deadlock(error)
}

/// A deadlock, or a lock that was waited for too long: nothing happened, try again.
fn is_deadlock(error: &sqlx::Error) -> bool {
    let database = error.as_database_error();
    let error =
        database.and_then(|error| error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>());
    error.is_some_and(|error| matches!(error.number(), 1205 | 1213))
}

const SETTINGS: &str = "SHOW SESSION VARIABLES \
    WHERE Variable_name IN ('autocommit', 'tx_isolation', 'transaction_isolation')";
