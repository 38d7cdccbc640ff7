//! Checkpoints beside the writes.
//!
//! SQLite copies its write-ahead log into the database within the commit that has made the log long
//! enough, and all writes wait: most of the time that a large write-back takes. Here a connection
//! of its own does it. Writes go on beside it, so a checkpoint leaves the newest pages behind.
//!
//! SQLite begins the log again only where none are left, and flushes the database only then. Without a
//! pause between writes that never is so, and the log grows for as long as they last; a commit that makes
//! a checkpoint changes nothing about that. So where the log is long after a checkpoint, large calls wait,
//! the database is flushed, and a checkpoint takes its turn among the other writes, which then has little
//! left to copy and to flush.
//!
//! A reader that stays open starves them all: what was written since it began stays in the log. When
//! it has ended, the log is copied and begun again, and the next commit cuts what it has grown beyond
//! [`LARGEST`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use session_core::store::Commit;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use tokio::runtime::Builder;
use tokio::sync::{Notify, RwLock, RwLockReadGuard};

use super::tx::Writer;
use super::{After, options};

/// Counts what was written, and says when a checkpoint is due.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Sessions that were changed since the last checkpoint was asked for.
    changed: AtomicUsize,
    is_closed: AtomicBool,
    notify: Notify,
}

impl Due {
    pub(super) fn count(&self, sessions: usize) {
        let changed = self.changed.fetch_add(sessions, Ordering::Relaxed) + sessions;
        if changed >= EVERY {
            self.changed.store(0, Ordering::Relaxed);
            self.notify.notify_one();
        }
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// None once it is closed.
    async fn next(&self) -> Option<()> {
        self.notify.notified().await;
        (!self.is_closed.load(Ordering::Relaxed)).then_some(())
    }
}

#[derive(Debug)]
pub(super) struct Checkpoints {
    /// Shared by the large calls that are under way.
    gate: Arc<RwLock<()>>,
    pool: SqlitePool,
    after: Arc<After>,
}

impl Checkpoints {
    /// On a thread with a runtime of its own: while it keeps writers waiting, it waits for no runtime of the
    /// application, which may have much to do or stand still.
    pub(super) fn start(
        connect: SqliteConnectOptions,
        writer: Writer,
        after: Arc<After>,
    ) -> io::Result<Self> {
        let gate = Arc::new(RwLock::new(()));
        let path = connect.get_filename().to_owned();
        let pool = options::pool(1).connect_lazy_with(connect.busy_timeout(LONGEST_WAIT));
        let worker = Worker { path, pool: pool.clone(), writer, gate: Arc::clone(&gate) };
        let (runtime, due) =
            (Builder::new_current_thread().enable_time().build()?, Arc::clone(&after));
        std::thread::Builder::new()
            .name("session-kit-checkpoints".to_owned())
            .spawn(move || runtime.block_on(worker.run(&due.checkpoint)))?;
        Ok(Self { gate, pool, after })
    }

    /// Waits while the log has to be begun again, before a call that writes so many sessions. Others do not
    /// wait: a sign-in, or the end of one session.
    pub(super) async fn pass(&self, sessions: usize) -> Option<RwLockReadGuard<'_, ()>> {
        if sessions > Commit::MAX_CHANGES { Some(self.gate.read().await) } else { None }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.after.checkpoint.close();
    }
}

struct Worker {
    path: PathBuf,
    pool: SqlitePool,
    writer: Writer,
    gate: Arc<RwLock<()>>,
}

impl Worker {
    async fn run(self, due: &Due) {
        while due.next().await.is_some() {
            // One that fails is made up for by the next, or by a commit.
            if let Err(error) = self.checkpoint().await {
                tracing::debug!(%error, "no checkpoint");
            }
        }
    }

    async fn checkpoint(&self) -> Result<(), sqlx::Error> {
        let pages: i64 = sqlx::query(PASSIVE).fetch_one(&self.pool).await?.try_get("log")?;
        if pages > LONG {
            let _closed = self.gate.write().await;
            self.flush().await;
            sqlx::query(PASSIVE).execute(&self.pool).await?;
            self.flush().await;
            let _writer = self.writer.exclude().await;
            sqlx::query(FULL).execute(&self.pool).await?;
        }
        Ok(())
    }

    /// Where it fails, the checkpoint after it takes longer.
    async fn flush(&self) {
        let path = self.path.clone();
        let flushed = tokio::task::spawn_blocking(move || flush(&path)).await;
        if let Err(error) = flushed.map_err(io::Error::other).flatten() {
            tracing::debug!(%error, "the database is not flushed");
        }
    }
}

/// Flushes a database, so that a checkpoint has less to flush while it holds others up.
fn flush(path: &Path) -> io::Result<()> {
    let file = {
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        match files.get(path) {
            Some(file) => Arc::clone(file),
            None => {
                // Some systems flush for writers only.
                let file = Arc::new(File::options().read(true).write(true).open(path)?);
                files.insert(path.to_owned(), Arc::clone(&file));
                file
            }
        }
    };
    file.sync_data()
}

/// Databases whose log was long once. They are never closed: with any descriptor of a file that is closed,
/// Unix takes from this process all its locks of the file, SQLite's as well.
static FILES: Mutex<BTreeMap<PathBuf, Arc<File>>> = Mutex::new(BTreeMap::new());

/// Never waits for readers or writers, and makes none wait.
const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";
/// Waits for readers of an older state and for the writer of another process, and writers wait for it.
const FULL: &str = "PRAGMA wal_checkpoint(FULL)";
/// How long it waits before it leaves them what it has not copied.
const LONGEST_WAIT: Duration = Duration::from_millis(10);
/// Pages of the write-ahead log from which on it is begun again: 8 MiB.
const LONG: i64 = 2_048;
/// A changed session rewrites about five pages: a thousand pages, as is SQLite's own default.
const EVERY: usize = 200;
/// Pages of the write-ahead log at which a commit makes the checkpoint after all: 128 MiB.
pub(super) const AT_MOST: &str = "32768";
/// Bytes that the write-ahead log keeps on the disk: more than it has where no reader stays open.
pub(super) const LARGEST: u64 = 48 << 20;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use session_core::Store;
    use tokio::runtime::Runtime;

    use super::super::SqliteStore;
    use super::*;

    #[test]
    fn a_checkpoint_waits_for_no_runtime_of_the_application() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        // From here on it stands still.
        let first = Builder::new_current_thread().enable_all().build().unwrap();
        let store = first.block_on(SqliteStore::connect(&path)).unwrap();
        let size = || std::fs::metadata(&path).unwrap().len();
        let before = size();
        Runtime::new().unwrap().block_on(async {
            store.lease("a", "b", Duration::from_secs(1)).await.unwrap();
            store.pools.after.wrote(EVERY);
            let begun = Instant::now();
            while size() == before {
                assert!(begun.elapsed() < Duration::from_secs(20), "no checkpoint was made");
                tokio::task::yield_now().await;
            }
        });
    }
}
