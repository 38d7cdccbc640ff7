//! How a store is opened, and where.

use std::path::{Path, PathBuf};
use std::time::Duration;

use session_core::{InvalidField, StoreError, Timestamp};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{Clock, checkpoint};

/// How a [`SqliteStore`](crate::SqliteStore) is opened.
///
/// ```
/// let options = session_store_sql::SqliteOptions::default().with_readers(8);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// What an acknowledged change survives.
    pub durability: Durability,
    /// How long a write waits for its turn in this process, and for the lock of another. Default 5 s.
    pub busy_timeout: Duration,
    /// Connections for reads. Default 4.
    pub readers: u32,
    pub(super) clock: Clock,
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

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            busy_timeout: Duration::from_secs(5),
            readers: 4,
            clock: Clock::default(),
        }
    }
}

impl SqliteOptions {
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

    /// The clock of the store, for tests and simulations; every process that has the file open needs the
    /// same one. Default: the host's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(clock);
        self
    }

    pub(super) fn connect(&self, path: &Path) -> SqliteConnectOptions {
        let synchronous = match self.durability {
            Durability::PowerLoss => SqliteSynchronous::Full,
            Durability::ProcessDeath => SqliteSynchronous::Normal,
        };
        SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .foreign_keys(true)
            .busy_timeout(self.busy_timeout)
            // What a statement would need to be undone is not written to a file: as much again as the log.
            .pragma("temp_store", "MEMORY")
            .pragma("cache_size", READER_CACHE)
    }
}

/// The writer keeps the pages of a large change together until it commits; the default cache of 2
/// MB writes them to the log early, some of them several times. It waits for other processes in
/// [`Writer::write`](super::tx::Writer::write).
pub(super) fn writing(connect: SqliteConnectOptions) -> SqliteConnectOptions {
    let checkpoint = connect.pragma("wal_autocheckpoint", checkpoint::AT_MOST);
    let limit = checkpoint::LARGEST.to_string();
    let sized = checkpoint.pragma("journal_size_limit", limit).pragma("cache_size", WRITER_CACHE);
    sized.busy_timeout(Duration::ZERO)
}

/// Connections are kept: opening a file costs more than an idle handle.
pub(super) fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// The file that is meant: a path, or one after `sqlite:` or `sqlite://`.
pub(super) fn path_of(url: &Path) -> Result<PathBuf, StoreError> {
    let after = url.to_str().and_then(|text| text.strip_prefix("sqlite:"));
    let path = after.map_or(url, |path| Path::new(path.strip_prefix("//").unwrap_or(path)));
    let has_parameters = after.is_some_and(|path| path.contains('?'));
    // SQLite itself reads `file:` as a URI, which can name a database in memory.
    let is_uri = path.to_str().is_some_and(|path| path.starts_with("file:"));
    let is_memory = path.as_os_str().is_empty() || path == Path::new(":memory:");
    if is_memory || is_uri || has_parameters {
        let expected = "the path of a file, or `sqlite:` and a path, without parameters";
        return Err(StoreError::refused(InvalidField::malformed("url", expected)));
    }
    Ok(path.to_owned())
}

/// In KiB, when negative: the upper pages of all indexes, which every call reads.
const READER_CACHE: &str = "-8192";
const WRITER_CACHE: &str = "-32768";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_path() {
        let path = |url: &str| path_of(url.as_ref()).ok();
        for url in ["a/b.db", "sqlite:a/b.db", "sqlite://a/b.db"] {
            assert_eq!(path(url), Some("a/b.db".into()), "{url}");
        }
        assert_eq!(path("sqlite:///a/b.db"), Some("/a/b.db".into()));
        for url in [
            "",
            ":memory:",
            "file::memory:",
            "file:a?mode=memory",
            "sqlite:file::memory:",
            "sqlite:",
            "sqlite://",
            "sqlite::memory:",
            "sqlite:a.db?mode=rwc",
        ] {
            assert_eq!(path(url), None, "{url}");
        }
    }
}
