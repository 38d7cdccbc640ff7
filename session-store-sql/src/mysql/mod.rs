//! MySQL 8 and MariaDB 10.11, and later: any number of nodes on any number of hosts.

mod change;
mod chunk;
mod db;
mod fleet_key;
mod history;
mod lease;
mod log;
mod migrate;
mod place;
#[cfg(all(test, feature = "server-tests"))]
mod plans;
mod policy;
mod read;
mod report;
mod sweep;

use std::time::Duration;

use async_trait::async_trait;
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Commit, Cursor, EndMany, EndedBatch, EndedSession, Entries, Forget, HistoryPage,
    HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange, StoreReport,
    Sweep, Touch, UserState,
};
use session_core::token::FleetKey;
use session_core::{InvalidField, SessionId, Store, StoreError, UserKey};
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};

use self::db::{Db, store_error};
use crate::names::{self, Names};

/// A store in a MySQL or MariaDB database.
///
/// Every change is one call of a procedure that the migrations make: a transaction at READ
/// COMMITTED that locks the user's row and nothing that other users' changes wait for. Deadlocks
/// are tried again inside, a few times. There is no push: revocations take the propagation bound.
/// Ages and the ends of blocks go by the server's clock.
///
/// Connections have to have `autocommit` on, as they do by default, and lead to one primary: a
/// cluster that takes writes on several servers at once does not share locks between them.
///
/// The log is read on a connection of its own, so that a node hears of revocations however busy the
/// pool is. It is made besides the pool's, with all that the pool does for a new connection. A pool
/// of one connection also reads the log.
///
/// The database's user needs `CREATE ROUTINE` and `ALTER ROUTINE` for the migrations, and
/// `EXECUTE`.
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
    db: Db,
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
    /// As [`MySqlStore::with_pool`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, MySqlOptions::default()).await
    }

    /// Connects with a pool of up to ten connections and brings the schema up to date.
    ///
    /// # Errors
    /// As [`MySqlStore::with_pool`].
    pub async fn connect_with(url: &str, options: MySqlOptions) -> Result<Self, StoreError> {
        let server: MySqlConnectOptions = url.parse().map_err(store_error)?;
        crate::db::reach(&server, store_error).await?;
        let pool = MySqlPoolOptions::new().max_connections(10).connect_with(server).await;
        Self::with_pool(pool.map_err(store_error)?, options).await
    }

    /// Uses the application's pool and brings the schema up to date. Safe to run from several
    /// nodes at once.
    ///
    /// # Errors
    /// [`Unavailable`](session_core::StoreErrorKind::Unavailable) when the server cannot be
    /// reached, [`Internal`](session_core::StoreErrorKind::Internal) when its schema is of a newer
    /// version that this one may not use, for names out of bounds, and where `autocommit` is off or
    /// transactions read what is not committed.
    pub async fn with_pool(pool: MySqlPool, options: MySqlOptions) -> Result<Self, StoreError> {
        options.validate().map_err(StoreError::internal)?;
        check_settings(&pool).await?;
        let MySqlOptions { prefix } = options;
        let db = Db::new(pool, Names::new(None, &prefix), store_error);
        migrate::run(&db).await?;
        Ok(Self { db })
    }

    /// The migrations as text for the server's client program (with its `DELIMITER` lines), in
    /// order, for those who run their own. Each notes its version, so that a store finds the schema
    /// up to date.
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
    fn configure(&self, needs: &Needs) {
        self.db.configure(needs);
    }

    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        self.db.fleet_key(proposed).await
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        self.db.user(owner).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        self.db.commit(commit).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        self.db.load(id).await
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        self.db.ended(id).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.db.history(query).await
    }

    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        self.db.forget(forget, limit).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        self.db.page(query).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        self.db.touch(batch).await
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        self.db.end_many(end, limit).await
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        self.db.sweep(sweep, limit).await
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        self.db.log_since(cursor, entries, limit).await
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        self.db.trim_log(older_than, limit).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.db.lease(name, holder, ttl).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        self.db.policy(scope).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        self.db.set_policy(change).await
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        self.db.block(scope).await
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        self.db.set_block(change).await
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        self.db.report().await
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

const SETTINGS: &str = "SHOW SESSION VARIABLES \
    WHERE Variable_name IN ('autocommit', 'tx_isolation', 'transaction_isolation')";
