//! SQLite: one file, any number of processes on one host.

mod checkpoint;
mod clock;
mod commit;
mod end;
mod error;
mod file;
mod fleet;
mod hint;
mod history;
mod log;
mod migrate;
mod options;
mod place;
#[cfg(test)]
mod plans;
mod read;
mod report;
mod thread;
mod touch;
mod tx;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Commit, Cursor, EndMany, EndedBatch, EndedSession, Entries, Forget, HistoryPage,
    HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange, StoreReport,
    Sweep, Touch, UserState,
};
use session_core::{FleetKey, SessionId, Store, StoreError, UserKey};
use sqlx::sqlite::SqlitePool;

use self::checkpoint::Checkpoints;
use self::clock::Clock;
use self::error::store_error;
use self::hint::Hints;
use self::log::LogReader;
pub use self::options::{Durability, SqliteOptions};
use self::tx::Writer;

/// A store in a SQLite file, in WAL mode.
///
/// Writes of one process go through one connection and take turns; processes take turns by
/// SQLite's own lock, every write transaction taking it at its start. Reads run beside them.
/// A process that is suspended while it writes (SIGSTOP, a debugger) keeps the others from writing
/// until it goes on; one that is killed does not.
/// A change that has begun goes on to its end, also where its caller goes away.
/// An acknowledged change has been synced to the disk (see [`Durability`]).
///
/// Beside the database `sessions.db`, and SQLite's own `sessions.db-wal` and `sessions.db-shm`,
/// there is a file `sessions.db-hint`: a store writes a byte to it after every change that makes a
/// cached session wrong, and the stores of other processes watch it to hear of the change at once.
/// Where it cannot be written or watched, they see the change when they next read the log. It may be
/// deleted while no process has the database open.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.db");
/// let store = session_store_sql::SqliteStore::connect(path).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SqliteStore {
    pools: Pools,
    log: LogReader,
    keeps_history: AtomicBool,
}

#[derive(Debug)]
struct Pools {
    writer: Writer,
    readers: SqlitePool,
    clock: Clock,
    after: Arc<After>,
}

impl Pools {
    /// Those that read, while the file is where it was: one that is opened again would read another file, and with
    /// the log of the old one.
    fn readers(&self) -> Result<&SqlitePool, StoreError> {
        self.writer.file().checked()?;
        Ok(&self.readers)
    }
}

/// What follows a change, also where its caller has gone: a checkpoint when it is time, and a hint to every
/// store on the database.
#[derive(Debug)]
struct After {
    checkpoints: Checkpoints,
    hints: Hints,
}

impl After {
    /// So many sessions were written.
    fn wrote(&self, sessions: usize) {
        self.checkpoints.count(sessions);
    }

    /// Cached sessions are wrong.
    fn invalidated(&self) {
        self.hints.tell();
    }
}

impl SqliteStore {
    /// Opens a file with the default options and brings its schema up to date. The file is created
    /// if it is missing.
    ///
    /// `url` is a path, or `sqlite:` and a path. It takes no parameters: see [`SqliteOptions`].
    ///
    /// # Errors
    /// [`Unavailable`](session_core::StoreErrorKind::Unavailable) when the file cannot be opened,
    /// [`Internal`](session_core::StoreErrorKind::Internal) when its schema is of a newer version
    /// that this one may not use,
    /// [`Refused`](session_core::StoreErrorKind::Refused) for a database in memory or parameters in
    /// the URL.
    pub async fn connect(url: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::connect_with(url, SqliteOptions::default()).await
    }

    /// Opens a file and brings its schema up to date. Safe to run from several processes at once.
    ///
    /// There is no `with_pool`: writes go over one connection, the log is read and checkpoints are made
    /// over others, each with its own settings of SQLite, and the file of hints stands beside the
    /// database. An application with a pool of its own may open the same file.
    ///
    /// # Errors
    /// As [`SqliteStore::connect`].
    pub async fn connect_with(
        url: impl AsRef<Path>,
        options: SqliteOptions,
    ) -> Result<Self, StoreError> {
        let path = options::path_of(url.as_ref())?;
        let path = std::path::absolute(path).map_err(StoreError::unavailable)?;
        let connect = options.connect(&path);
        let writer = Writer::open(&connect, options.busy_timeout).await?;
        migrate::run(&writer).await?;
        let readers = options::pool(options.readers.max(1)).connect_lazy_with(connect.clone());
        let hints = tokio::task::spawn_blocking(move || Hints::open(&path)).await;
        let checkpoints = Checkpoints::start(connect.clone(), writer.clone());
        let after = Arc::new(After {
            checkpoints: checkpoints.map_err(StoreError::unavailable)?,
            hints: hints.map_err(StoreError::internal)?,
        });
        Ok(Self {
            log: LogReader::new(connect, writer.file().clone(), options.clock.clone()),
            pools: Pools { writer, readers, clock: options.clock, after },
            keeps_history: AtomicBool::new(true),
        })
    }

    /// Closes every connection. If no other process has the file open, it is then complete without
    /// its side files.
    pub async fn close(&self) {
        self.pools.readers.close().await;
        self.log.close().await;
        self.pools.after.checkpoints.close().await;
        self.pools.writer.close().await;
    }

    /// The migrations as SQL text, in order, for those who run their own. Each notes its version,
    /// so that a store finds the schema up to date.
    pub fn migrations() -> Vec<String> {
        migrate::printed()
    }

    fn keeps_history(&self) -> bool {
        self.keeps_history.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn configure(&self, needs: &Needs) {
        self.keeps_history.store(!needs.history.is_zero(), Ordering::Relaxed);
    }

    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        fleet::key(&self.pools, proposed).await
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        read::user(self.pools.readers()?, owner).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        commit::commit(&self.pools, commit, self.keeps_history()).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        read::load(self.pools.readers()?, id).await
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        history::ended(self.pools.readers()?, id).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        history::page(self.pools.readers()?, query).await
    }

    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        history::forget(&self.pools, forget, limit).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        read::page(self.pools.readers()?, query).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        let batch = Touch::folded(batch)?;
        touch::touch(&self.pools, batch).await
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        end::end_many(&self.pools, end, limit, self.keeps_history()).await
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        end::sweep(&self.pools, sweep, limit, self.keeps_history()).await
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        self.log.since(cursor, entries, limit).await
    }

    async fn changed(&self) {
        self.pools.after.hints.changed().await;
    }

    fn pushes(&self) -> bool {
        self.pools.after.hints.is_watching()
    }

    fn expects_pushes(&self) -> bool {
        true
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        log::trim(&self.pools, older_than, limit).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        fleet::lease(&self.pools, name, holder, ttl).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        place::policy(self.pools.readers()?, scope).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        place::set_policy(&self.pools.writer, change).await
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        place::block(self.pools.readers()?, scope).await
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        place::set_block(&self.pools.writer, change).await
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        report::of(&self.pools).await
    }
}
