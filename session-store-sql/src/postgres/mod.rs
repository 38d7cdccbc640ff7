//! PostgreSQL 15 and later: any number of nodes on any number of hosts.

mod change;
mod log;
mod migrate;
#[cfg(all(test, feature = "server-tests"))]
mod plans;
mod push;
mod read;

use std::sync::Arc;
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
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::names::{self, Names};

/// A store in a PostgreSQL database.
///
/// A sign-in costs two round trips, a revocation two, a read one. The functions and tables that
/// it needs are made by its migrations; see [`PostgresStore::migrations`]. Transactions have to be
/// `read committed` by default.
///
/// ```
/// # use sqlx::{Connection, Executor, PgConnection};
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let Ok(server) = std::env::var("SESSION_KIT_POSTGRES_URL") else { return Ok(()) };
/// # let mut connection = PgConnection::connect(&server).await?;
/// # connection.execute("CREATE SCHEMA IF NOT EXISTS session_kit_docs").await?;
/// # let url = format!("{server}?options[search_path]=session_kit_docs");
/// // A URL such as `postgres://app@db/app`.
/// let store = session_store_sql::PostgresStore::connect(&url).await?;
/// # Ok(())
/// # }
/// ```
///
/// # The log
/// Sequence numbers are not the order of commits, so a reader that remembers a number skips
/// whoever commits late. Each entry carries the id of its transaction, and a reader remembers the
/// *snapshot* it has read: next time it reads whatever is visible now and was not visible then,
/// however long ago the transaction began. A foreign transaction that stays open delays nothing.
/// `NOTIFY` is only a hint that there is something to read; where it is not heard, revocations take
/// the propagation bound instead.
///
/// # Poolers
/// A pooler in transaction mode has to keep prepared statements apart (PgBouncer 1.21 and later,
/// `max_prepared_statements`), and nothing can be listened for through it: whoever has the server's
/// connection by then would be told. A pooler that lends out a connection which it had before is
/// noticed and not listened through; [`PostgresOptions::push`] makes sure.
#[derive(Debug)]
pub struct PostgresStore {
    pool: PgPool,
    names: Names,
    grown: Arc<Notify>,
    listener: Option<JoinHandle<()>>,
}

/// Where a [`PostgresStore`] keeps its tables.
///
/// ```
/// use session_store_sql::PostgresOptions;
///
/// let options = PostgresOptions::default().with_prefix("login_").with_push(false);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// The schema; none for the first of the search path. It has to exist.
    pub schema: Option<String>,
    /// What every table's and function's name begins with. Default `session_kit_`.
    pub prefix: String,
    /// Whether to listen for notifications of changes, on a connection besides the pool's. Default
    /// yes. Set it to no behind a pooler in transaction mode.
    pub push: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { schema: None, prefix: "session_kit_".to_owned(), push: true }
    }
}

impl PostgresOptions {
    /// Sets [`PostgresOptions::schema`].
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<Option<String>>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Sets [`PostgresOptions::prefix`].
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets [`PostgresOptions::push`].
    #[must_use]
    pub const fn with_push(mut self, push: bool) -> Self {
        self.push = push;
        self
    }

    /// Checks the names: lower-case letters, digits and underscores, at most 32.
    ///
    /// # Errors
    /// [`InvalidField`] naming the option.
    pub fn validate(&self) -> Result<(), InvalidField> {
        names::check("schema", self.schema.as_deref().unwrap_or("public"))?;
        names::check("prefix", &self.prefix)
    }
}

impl PostgresStore {
    /// Connects with the default options and brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] when the server cannot be reached,
    /// [`StoreErrorKind::Internal`] when its schema is of a newer version.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let pool = PgPoolOptions::new().max_connections(10).connect(url).await;
        Self::with_pool(pool.map_err(store_error)?, &PostgresOptions::default()).await
    }

    /// Uses the application's pool and brings the schema up to date. Safe to run from several
    /// nodes at once.
    ///
    /// # Errors
    /// As [`PostgresStore::connect`]; and [`StoreErrorKind::Internal`] for names out of bounds, and
    /// where `default_transaction_isolation` is not `read committed`.
    pub async fn with_pool(pool: PgPool, options: &PostgresOptions) -> Result<Self, StoreError> {
        let invalid = |error| StoreError::internal(error);
        options.validate().map_err(invalid)?;
        let names = Names::new(options.schema.as_deref(), &options.prefix);
        check_settings(&pool).await?;
        migrate::run(&pool, &names).await?;
        let grown = Arc::new(Notify::new());
        let listener = options.push.then(|| {
            let (pool, channel) = (pool.clone(), names.channel.clone());
            tokio::spawn(push::run(pool, channel, Arc::clone(&grown)))
        });
        Ok(Self { pool, names, grown, listener })
    }

    /// The migrations as SQL text, in order, for those who run their own. Each notes its version,
    /// so that a store finds the schema up to date.
    ///
    /// # Errors
    /// [`InvalidField`] for names out of bounds.
    pub fn migrations(options: &PostgresOptions) -> Result<Vec<String>, InvalidField> {
        options.validate()?;
        let names = Names::new(options.schema.as_deref(), &options.prefix);
        Ok(migrate::printed().iter().map(|script| names.fill(script)).collect())
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
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

    async fn changed(&self) {
        self.grown.notified().await;
    }

    async fn trim_log(&self, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        log::trim(&self.pool, &self.names, before, limit).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        change::lease(&self.pool, &self.names, name, holder, ttl).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        read::policy(&self.pool, &self.names, scope).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        change::set_policy(&self.pool, &self.names, change).await
    }
}

/// Elsewhere a change fails because another was made beside it.
async fn check_settings(pool: &PgPool) -> Result<(), StoreError> {
    let isolation: String =
        sqlx::query_scalar(ISOLATION).fetch_one(pool).await.map_err(store_error)?;
    if isolation != READ_COMMITTED {
        let error = InvalidField::malformed("default_transaction_isolation", READ_COMMITTED);
        return Err(StoreError::internal(error));
    }
    Ok(())
}

/// A defect of a row or a statement is told from a server that cannot be reached right now.
fn store_error(error: sqlx::Error) -> StoreError {
    let kind = match &error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreErrorKind::Corrupt,
        sqlx::Error::Database(database) if !is_passing(database.code().as_deref()) => {
            StoreErrorKind::Internal
        }
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, error)
}

/// Connection lost, rolled back, out of resources, an operator's doing, a failing system.
fn is_passing(state: Option<&str>) -> bool {
    let class = state.and_then(|state| state.get(..2));
    matches!(class, Some("08" | "40" | "53" | "57" | "58"))
}

const ISOLATION: &str = "SELECT current_setting('default_transaction_isolation')";
const READ_COMMITTED: &str = "read committed";
