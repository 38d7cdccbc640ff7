//! Transactions that write.

use std::sync::Arc;
use std::time::Duration;

use session_core::StoreError;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{Sqlite, SqlitePool, SqliteTransaction};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use super::error::is_busy;
use super::store_error;
use super::thread::Thread;

pub(super) type Tx = SqliteTransaction<'static>;

/// The connection that writes. The calls of this process have their turns in the order in which they came.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pool: SqlitePool,
    turn: Arc<Mutex<()>>,
    thread: Arc<Thread>,
    /// How long a call waits for other processes.
    patience: Duration,
}

impl Writer {
    /// Of one connection that itself waits for no other process.
    pub(super) fn new(pool: SqlitePool, patience: Duration) -> Result<Self, StoreError> {
        let thread = Thread::start().map_err(StoreError::unavailable)?;
        Ok(Self { pool, turn: Arc::default(), thread: Arc::new(thread), patience })
    }

    /// Begins a transaction that may write. A deferred one would fail at its first write if another
    /// process wrote after its first read.
    pub(super) async fn begin(&self) -> Result<Tx, StoreError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        self.begin_in(turn).await
    }

    /// Runs a transaction on a thread of its own.
    ///
    /// Each statement is carried out by SQLite's thread, which then wakes the transaction. A runtime that has much
    /// to do polls last what another thread has woken, and all that time the transaction would keep the lock.
    pub(super) async fn apart<T, F>(
        &self,
        run: impl FnOnce(Tx) -> F + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>>,
    {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let writer = self.clone();
        let apart = async move || run(writer.begin_in(turn).await?).await;
        let done = self.thread.run(apart).await;
        done.unwrap_or_else(|| Err(StoreError::internal("the transaction has panicked")))
    }

    /// SQLite's own wait for the lock grows to 100 ms from one look to the next, so who has waited longest looks
    /// least often. Here all processes look as often.
    async fn begin_in(&self, _turn: OwnedMutexGuard<()>) -> Result<Tx, StoreError> {
        let begun = Instant::now();
        loop {
            match self.pool.begin_with("BEGIN IMMEDIATE").await {
                Err(error) if is_busy(&error) && begun.elapsed() < self.patience => {
                    tokio::time::sleep(BETWEEN_LOOKS).await;
                }
                begun => return begun.map_err(store_error),
            }
        }
    }

    /// Keeps all calls of this process from writing, once those before it are over.
    pub(super) async fn hold(&self) -> Result<Held, sqlx::Error> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        Ok(Held { _turn: turn, _connection: self.pool.acquire().await? })
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// While it is there, nothing is written.
pub(super) struct Held {
    _turn: OwnedMutexGuard<()>,
    _connection: PoolConnection<Sqlite>,
}

/// A commit with its flush takes some 3 ms.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
