//! Checkpoints beside the writes.
//!
//! SQLite copies its write-ahead log into the database within the commit that has made the log long
//! enough, and all writes wait: most of the time that a large write-back takes. Here a connection
//! of its own does it. Writes go on beside it, so a checkpoint may leave the newest pages behind; a
//! commit that finds the log much too long takes the rest.
//!
//! A reader that stays open starves them all: what was written since it began stays in the log. When
//! it has ended, the next commits copy the log, begin it again and cut what it has grown beyond
//! [`LARGEST`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::options;

#[derive(Debug)]
pub(super) struct Checkpoints {
    /// Sessions that were changed since the last checkpoint was asked for.
    changed: AtomicUsize,
    due: Arc<Notify>,
    pool: SqlitePool,
    task: JoinHandle<()>,
}

impl Checkpoints {
    pub(super) fn start(connect: SqliteConnectOptions) -> Self {
        let due = Arc::new(Notify::new());
        let pool = options::pool(1).connect_lazy_with(connect);
        let task = tokio::spawn(run(pool.clone(), Arc::clone(&due)));
        Self { changed: AtomicUsize::new(0), due, pool, task }
    }

    /// Counts what a commit has changed, and asks for a checkpoint when it is time.
    pub(super) fn count(&self, sessions: usize) {
        let changed = self.changed.fetch_add(sessions, Ordering::Relaxed) + sessions;
        if changed >= EVERY {
            self.changed.store(0, Ordering::Relaxed);
            self.due.notify_one();
        }
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(pool: SqlitePool, due: Arc<Notify>) {
    while !pool.is_closed() {
        due.notified().await;
        // One that fails is made up for by the next, or by a commit.
        if let Err(error) = sqlx::query(CHECKPOINT).execute(&pool).await {
            tracing::debug!(%error, "no checkpoint");
        }
    }
}

/// Never waits for readers or writers, and makes none wait.
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";
/// A changed session rewrites about five pages: a thousand pages, as is SQLite's own default.
const EVERY: usize = 200;
/// Pages of the write-ahead log at which a commit makes the checkpoint after all: 32 MiB.
pub(super) const AT_MOST: &str = "8192";
/// Bytes that the write-ahead log keeps on the disk: more than those pages, with their headers.
pub(super) const LARGEST: u64 = 48 << 20;
