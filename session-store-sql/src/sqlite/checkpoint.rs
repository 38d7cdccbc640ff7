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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use session_core::store::Commit;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use tokio::sync::watch;

use super::file::{Identity, OpenedFile};
use super::options;
use super::thread::Thread;
use super::tx::Writer;

/// Makes a checkpoint when so much was written, and keeps large calls waiting for some of them.
///
/// On a thread of their own: while checkpoints keep writers waiting, they wait for no runtime of the application.
#[derive(Debug)]
pub(super) struct Checkpoints {
    thread: Thread<Worker>,
    pool: SqlitePool,
    /// Sessions that were changed since the last checkpoint began.
    changed: Arc<AtomicUsize>,
    /// Whether the log is begun again.
    is_long: watch::Receiver<bool>,
}

impl Checkpoints {
    pub(super) fn start(options: SqliteConnectOptions, writer: Writer) -> io::Result<Self> {
        let pool = options::pool(1).connect_lazy_with(options.busy_timeout(LONGEST_WAIT));
        let (sender, is_long) = watch::channel(false);
        let worker = Worker { pool: pool.clone(), writer, is_long: sender };
        let thread = Thread::start("session-kit-checkpoints", worker)?;
        Ok(Self { thread, pool, changed: Arc::default(), is_long })
    }

    /// Counts what a change has written.
    pub(super) fn count(&self, sessions: usize) {
        let before = self.changed.fetch_add(sessions, Ordering::Relaxed);
        if before < EVERY && before + sessions >= EVERY {
            let changed = Arc::clone(&self.changed);
            self.thread.post(async move |worker: &mut Worker| {
                changed.store(0, Ordering::Relaxed);
                // One that fails is made up for by the next, or by a commit.
                if let Err(error) = worker.checkpoint().await {
                    tracing::debug!(%error, "no checkpoint");
                }
            });
        }
    }

    /// Waits while the log has to be begun again, before a change of so many sessions. Others do not wait: a sign-in,
    /// or the end of one session.
    pub(super) async fn pass(&self, sessions: usize) {
        if sessions > Commit::MAX_CHANGES {
            // Without its thread there is no checkpoint to wait for.
            let _ = self.is_long.clone().wait_for(|is_long| !is_long).await;
        }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

#[derive(Debug)]
struct Worker {
    pool: SqlitePool,
    writer: Writer,
    is_long: watch::Sender<bool>,
}

impl Worker {
    async fn checkpoint(&self) -> Result<(), sqlx::Error> {
        self.writer.file().check()?;
        let pages: i64 = sqlx::query(PASSIVE).fetch_one(&self.pool).await?.try_get("log")?;
        if pages > LONG {
            self.is_long.send_replace(true);
            let begun_again = self.begin_again().await;
            self.is_long.send_replace(false);
            begun_again?;
        }
        Ok(())
    }

    async fn begin_again(&self) -> Result<(), sqlx::Error> {
        // After the large changes that did not wait.
        self.writer.between(async || ()).await;
        self.flush();
        sqlx::query(PASSIVE).execute(&self.pool).await?;
        self.flush();
        let pool = self.pool.clone();
        let full = async move || sqlx::query(FULL).execute(&pool).await.map(drop);
        self.writer.between(full).await.unwrap_or(Ok(()))
    }

    /// Where it fails, the checkpoint after it takes longer.
    fn flush(&self) {
        if let Err(error) = flush(self.writer.file()) {
            tracing::debug!(%error, "the database is not flushed");
        }
    }
}

/// Flushes a database, so that a checkpoint has less to flush while it holds others up.
fn flush(database: &OpenedFile) -> io::Result<()> {
    let file = {
        let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
        match files.get(&database.identity()) {
            Some(file) => Arc::clone(file),
            None => {
                // Some systems flush for writers only.
                let file = Arc::new(File::options().read(true).write(true).open(database.path())?);
                files.insert(database.identity(), Arc::clone(&file));
                file
            }
        }
    };
    file.sync_data()
}

/// Databases whose log was long once. They are never closed: with any descriptor of a file that is closed,
/// Unix takes from this process all its locks of the file, SQLite's as well.
static FILES: Mutex<BTreeMap<Identity, Arc<File>>> = Mutex::new(BTreeMap::new());

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
    use std::pin::pin;
    use std::time::Instant;

    use session_core::Store;
    use tokio::runtime::{Builder, Runtime};
    use tokio::time::timeout;

    use super::super::tx::Tx;
    use super::super::{SqliteStore, store_error};
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

    /// Large calls that went on would keep it long; sign-ins are not kept waiting for its flush.
    #[tokio::test]
    async fn only_large_calls_wait_while_a_long_log_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::connect(folder.path().join("s.db")).await.unwrap();
        let (writer, checkpoints) = (&store.pools.writer, &store.pools.after.checkpoints);
        let fill = async |mut tx: Tx<'_>| {
            let fill = "CREATE TABLE large AS SELECT zeroblob(10 << 20)";
            sqlx::query(fill).execute(&mut *tx).await.map_err(store_error)?;
            tx.commit().await.map_err(store_error)
        };
        writer.write(fill).await.unwrap();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let mut busy = pin!(writer.between(async || gone.await.unwrap()));
        assert!(timeout(Duration::ZERO, &mut busy).await.is_err());
        checkpoints.count(EVERY);
        checkpoints.is_long.clone().wait_for(|is_long| *is_long).await.unwrap();
        checkpoints.pass(Commit::MAX_CHANGES).await;
        let mut large = pin!(checkpoints.pass(Commit::MAX_CHANGES + 1));
        assert!(timeout(Duration::from_millis(20), &mut large).await.is_err(), "it goes on");
        go.send(()).unwrap();
        large.await;
        let write = async |mut tx: Tx<'_>| {
            sqlx::query("DELETE FROM large").execute(&mut *tx).await.map_err(store_error)?;
            tx.commit().await.map_err(store_error)
        };
        writer.write(write).await.unwrap();
        let pages = sqlx::query(PASSIVE).fetch_one(&checkpoints.pool).await.unwrap();
        assert!(pages.get::<i64, _>("log") < LONG, "it goes on where it was");
    }
}
