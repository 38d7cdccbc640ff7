//! The connection that writes, and its transactions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::StoreError;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnection, SqliteTransaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::error::is_busy;
use super::store_error;
use super::thread::Thread;

pub(super) type Tx<'c> = SqliteTransaction<'c>;

/// Carries out the changes of this process one after another, in the order in which they were asked for.
///
/// Transactions run on a thread of their own. Each statement is carried out by SQLite's thread, which then wakes the
/// transaction. A runtime that has much to do polls last what another thread has woken, and all that time the
/// transaction would keep the lock of the file.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    /// None once it is closed.
    connection: Arc<Mutex<Option<SqliteConnection>>>,
    thread: Arc<Thread>,
    busy_timeout: Duration,
}

impl Writer {
    /// Of a connection that itself waits for no other process.
    pub(super) fn new(
        connection: SqliteConnection,
        busy_timeout: Duration,
    ) -> Result<Self, StoreError> {
        let thread = Thread::start().map_err(StoreError::unavailable)?;
        let connection = Arc::new(Mutex::new(Some(connection)));
        Ok(Self { connection, thread: Arc::new(thread), busy_timeout })
    }

    /// Carries out a change, which commits its transaction where it is to last. Once it has begun it goes on to its
    /// end, also where the caller goes away.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl AsyncFnOnce(Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (mut connection, busy_timeout) = (self.exclude().await, self.busy_timeout);
        let write = async move || {
            let connection = connection.as_mut().ok_or_else(closed)?;
            let begun = Instant::now();
            loop {
                // A deferred one would fail at its first write if another process wrote after its first read.
                match connection.begin_with("BEGIN IMMEDIATE").await {
                    // SQLite's own wait grows to 100 ms from one look to the next, so who has waited longest looks
                    // least often. The thread is the writer's own.
                    Err(error) if is_busy(&error) && begun.elapsed() < busy_timeout => {
                        std::thread::sleep(BETWEEN_LOOKS);
                    }
                    Err(error) => return Err(store_error(error)),
                    Ok(tx) => return change(tx).await,
                }
            }
        };
        let written = self.thread.run(write).await;
        written.unwrap_or_else(|| Err(StoreError::internal("the change has panicked")))
    }

    /// Waits for the changes that were asked for before. None begins while the guard is there.
    pub(super) async fn exclude(&self) -> OwnedMutexGuard<Option<SqliteConnection>> {
        Arc::clone(&self.connection).lock_owned().await
    }

    pub(super) async fn close(&self) {
        if let Some(connection) = self.exclude().await.take() {
            // What is not closed in order is closed when it is dropped.
            let _ = connection.close().await;
        }
    }
}

fn closed() -> StoreError {
    StoreError::unavailable("the store is closed")
}

/// A commit with its flush takes some 3 ms.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
