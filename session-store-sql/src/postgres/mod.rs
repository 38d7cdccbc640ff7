//! PostgreSQL 15 and later: any number of nodes on any number of hosts.

mod change;
mod db;
mod end;
mod fleet;
mod history;
mod log;
mod migrate;
mod place;
#[cfg(all(test, feature = "server-tests"))]
mod plans;
mod push;
mod read;
mod report;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Commit, Cursor, EndMany, EndedBatch, EndedSession, Entries, Forget, HistoryPage,
    HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange, StoreReport,
    Sweep, Touch, UserState,
};
use session_core::{FleetKey, InvalidField, SessionId, Store, StoreError, UserKey};
use sqlx::postgres::PgPool;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::db::{Db, store_error};
use self::push::{Hearing, Teller};
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
/// Sequence numbers are not the order of commits, so a reader that remembers a number skips an
/// entry that commits late. Each entry carries the id of its transaction, and a reader remembers
/// the *snapshot* it has read: next time it reads everything that is visible now and was not
/// visible then, however long ago the transaction began. A foreign transaction that stays open
/// delays no reader; while it is open, entries that are newer than it are not trimmed.
///
/// A notification is only a hint that there is something to read. The store sends it after a
/// change that makes a cached session wrong, outside of its transaction, because it takes a lock of
/// the whole server. Where it is
/// not heard, revocations take the propagation bound instead.
///
/// # Connections
/// The log is read on a connection of its own, so that a node hears of revocations however busy the
/// pool is. It is made besides the pool's, with all that the pool does for a new connection. Another
/// one listens for notifications. A pool of one connection also reads the log.
///
/// # Poolers
/// A pooler in transaction mode has to keep prepared statements apart (PgBouncer 1.21 and later,
/// `max_prepared_statements`), and nothing can be listened for through it: the client that has the
/// server's connection by then would get the notification. A pooler that lends out a connection
/// which it had before is noticed and not listened through; [`PostgresOptions::push`] makes sure.
#[derive(Debug)]
pub struct PostgresStore {
    db: Db,
    teller: Teller,
    grown: Arc<Notify>,
    hearing: Hearing,
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
    /// As [`PostgresStore::with_pool`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, PostgresOptions::default()).await
    }

    /// Connects with a pool of up to ten connections and brings the schema up to date.
    ///
    /// # Errors
    /// As [`PostgresStore::with_pool`].
    pub async fn connect_with(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        Self::with_pool(db::open(url).await?, options).await
    }

    /// Uses the application's pool and brings the schema up to date. Safe to run from several
    /// nodes at once.
    ///
    /// # Errors
    /// [`Unavailable`](session_core::StoreErrorKind::Unavailable) when the server cannot be
    /// reached; [`Internal`](session_core::StoreErrorKind::Internal) for names out of bounds, for a
    /// schema of a newer version that this one may not use, and where
    /// `default_transaction_isolation` is not `read committed`.
    pub async fn with_pool(pool: PgPool, options: PostgresOptions) -> Result<Self, StoreError> {
        options.validate().map_err(StoreError::internal)?;
        let PostgresOptions { schema, prefix, push } = options;
        let names = Names::new(schema.as_deref(), &prefix);
        let db = Db::new(pool, names, store_error);
        db.check_settings().await?;
        migrate::run(&db.pool, &db.names).await?;
        let (grown, hearing) = (Arc::new(Notify::new()), Hearing::new());
        let hear = || push::hear(db.clone(), Arc::clone(&grown), hearing.clone());
        let listener = push.then(|| tokio::spawn(hear()));
        Ok(Self { teller: Teller::start(db.clone()), db, grown, hearing, listener })
    }

    /// The migrations as SQL text, in order, for those who run their own. Each notes its version,
    /// so that a store finds the schema up to date. The last one makes the functions; it may be run
    /// again.
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
    fn configure(&self, needs: &Needs) {
        self.db.configure(needs);
    }

    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        fleet::key(&self.db, proposed).await
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        read::user(&self.db, owner).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        commit.check()?;
        let mut told = self.teller.change();
        if !commit.invalidates() {
            told.nothing();
        }
        let outcome = change::commit(&self.db, commit).await?;
        if outcome == Outcome::Conflict {
            told.nothing();
        }
        Ok(outcome)
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        read::load(&self.db, id).await
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        history::ended(&self.db, id).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        history::page(&self.db, query).await
    }

    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        history::forget(&self.db, forget, limit).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        read::page(&self.db, query).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        change::touch(&self.db, batch).await
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        self.tell_ended(end::end_many(&self.db, end, limit)).await
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        self.tell_ended(end::sweep(&self.db, sweep, limit)).await
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        log::since(&self.db, cursor, entries, limit).await
    }

    async fn changed(&self) {
        self.grown.notified().await;
    }

    fn pushes(&self) -> bool {
        self.hearing.is_listening()
    }

    fn expects_pushes(&self) -> bool {
        self.listener.is_some()
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        log::trim(&self.db, older_than, limit).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        fleet::lease(&self.db, name, holder, ttl).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        place::policy(&self.db, scope).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        place::set_policy(&self.db, change).await
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        place::block(&self.db, scope).await
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        place::set_block(&self.db, change).await
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        report::report(&self.db, &self.hearing).await
    }
}

impl PostgresStore {
    /// Notifies the other nodes unless the call ended nothing.
    async fn tell_ended(
        &self,
        ending: impl Future<Output = Result<EndedBatch, StoreError>> + Send,
    ) -> Result<EndedBatch, StoreError> {
        let mut told = self.teller.change();
        let batch = ending.await?;
        if batch.ended.is_empty() {
            told.nothing();
        }
        Ok(batch)
    }
}
