//! SQLite: one file, any number of processes on one host.

mod log;
mod migrate;
#[cfg(test)]
mod plans;
mod policy;
mod read;
mod tx;
mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use session_core::cleanup::SweepRule;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    Commit, Cursor, EndMany, Ended, Loaded, LogPage, Outcome, Page, PageQuery, PolicyChange, Touch,
    UserState,
};
use session_core::{SessionId, Store, StoreError, StoreErrorKind, Timestamp, UserKey};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use self::log::LogReader;

/// A store in a SQLite file, in WAL mode.
///
/// Writes of one process go through one connection and take turns; processes take turns by
/// SQLite's own lock, every write transaction taking it at its start. Reads run beside them.
/// An acknowledged change has been synced to the disk (see [`Durability`]).
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.db");
/// let store = session_store_sql::SqliteStore::open(path).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    log: LogReader,
}

/// How a [`SqliteStore`] is opened.
///
/// ```
/// let options = session_store_sql::SqliteOptions::new("sessions.db").with_readers(8);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// The file; it is created if it is missing.
    pub path: PathBuf,
    /// What an acknowledged change survives.
    pub durability: Durability,
    /// How long a write waits for another process. Default 5 s.
    pub busy_timeout: Duration,
    /// Connections for reads. Default 4.
    pub readers: u32,
}

/// What an acknowledged change survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The death of the process and of the machine (`synchronous = FULL`).
    #[default]
    PowerLoss,
    /// The death of the process; after a power failure the last moments may be missing, which
    /// includes revocations (`synchronous = NORMAL`).
    ProcessDeath,
}

impl SqliteOptions {
    /// The defaults for this file.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            durability: Durability::default(),
            busy_timeout: Duration::from_secs(5),
            readers: 4,
        }
    }

    /// Sets [`SqliteOptions::durability`].
    #[must_use]
    pub const fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets [`SqliteOptions::busy_timeout`].
    #[must_use]
    pub const fn with_busy_timeout(mut self, busy_timeout: Duration) -> Self {
        self.busy_timeout = busy_timeout;
        self
    }

    /// Sets [`SqliteOptions::readers`].
    #[must_use]
    pub const fn with_readers(mut self, readers: u32) -> Self {
        self.readers = readers;
        self
    }
}

impl SqliteStore {
    /// Opens a file with the default options and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unavailable`] when the file cannot be opened,
    /// [`StoreErrorKind::Internal`] when its schema is of a newer version.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(SqliteOptions::new(path)).await
    }

    /// Opens a file and brings its schema up to date. Safe to run from several processes at once.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub async fn open_with(options: SqliteOptions) -> Result<Self, StoreError> {
        let connect = connect_options(&options);
        // The first connection switches the file to WAL mode; only then do readers join.
        let writer = pool(1).connect_with(connect.clone()).await.map_err(unavailable)?;
        migrate::run(&writer).await?;
        let readers = pool(options.readers.max(1)).connect_lazy_with(connect.clone());
        Ok(Self { writer, readers, log: LogReader::new(connect) })
    }

    /// Closes every connection; the file is then complete without its side files.
    pub async fn close(&self) {
        self.readers.close().await;
        self.log.close().await;
        self.writer.close().await;
    }

    /// The migrations as SQL text, in order, for those who run their own. Each notes its version,
    /// so that a store finds the schema up to date.
    pub fn migrations() -> Vec<String> {
        migrate::printed()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        read::user(&self.readers, owner).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        write::commit(&self.writer, commit).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        read::load(&self.readers, id).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        read::page(&self.readers, query).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        write::touch(&self.writer, batch).await
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<Vec<Ended>, StoreError> {
        write::end_many(&self.writer, end, limit).await
    }

    async fn sweep(
        &self,
        rule: &SweepRule,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<Ended>, StoreError> {
        write::sweep(&self.writer, rule, at, limit).await
    }

    async fn log_since(&self, cursor: Option<&Cursor>, limit: u32) -> Result<LogPage, StoreError> {
        self.log.since(cursor, limit).await
    }

    async fn trim_log(&self, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        write::trim_log(&self.writer, before, limit).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        policy::lease(&self.writer, name, holder, ttl).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        policy::get(&self.readers, scope).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        policy::set(&self.writer, change).await
    }
}

fn connect_options(options: &SqliteOptions) -> SqliteConnectOptions {
    let synchronous = match options.durability {
        Durability::PowerLoss => SqliteSynchronous::Full,
        Durability::ProcessDeath => SqliteSynchronous::Normal,
    };
    SqliteConnectOptions::new()
        .filename(&options.path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .foreign_keys(true)
        .busy_timeout(options.busy_timeout)
}

/// Connections are kept: opening a file costs more than an idle handle.
fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::unavailable(error)
}

/// A defect of a row or a statement is told from a file that cannot be reached right now.
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

/// Busy, locked, out of memory or disk, I/O error, cannot open: primary codes of SQLite.
fn is_passing(code: Option<&str>) -> bool {
    let primary = code.and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff);
    matches!(primary, Some(5 | 6 | 7 | 10 | 13 | 14))
}
