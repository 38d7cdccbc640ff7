//! The connection that writes, and its transactions.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use session_core::StoreError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteTransaction};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::error::is_busy;
use super::file::OpenedFile;
use super::thread::Thread;
use super::{options, store_error};

pub(super) type Tx<'c> = SqliteTransaction<'c>;

/// Carries out the changes of this process one after another, in the order in which they were asked for.
///
/// Transactions run on a thread of their own. Each statement is carried out by SQLite's thread, which then wakes the
/// transaction. A runtime that has much to do polls last what another thread has woken, and all that time the
/// transaction would keep the lock of the file.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    slot: Arc<Mutex<Slot>>,
    thread: Arc<Thread>,
    connect: SqliteConnectOptions,
    file: OpenedFile,
    busy_timeout: Duration,
}

/// The connection between two changes.
#[derive(Debug)]
pub(super) struct Slot {
    /// None after a change that failed: SQLite may have ended its transaction by itself, which the driver does
    /// not learn. The next change opens another.
    connection: Option<SqliteConnection>,
    is_closed: bool,
}

/// How long a change waits for the lock.
struct Patience {
    asked: Instant,
    /// Gone with its caller.
    wanted: Weak<()>,
}

impl Writer {
    /// Opens the file, and makes it where it is missing.
    ///
    /// The first one switches the file to WAL mode; only then do readers join. Of two processes that switch
    /// it at the same moment, SQLite refuses one at once and does not wait for the busy timeout.
    pub(super) async fn open(
        connect: &SqliteConnectOptions,
        busy_timeout: Duration,
    ) -> Result<Self, StoreError> {
        let begun = Instant::now();
        let connect = options::writing(connect.clone());
        let connection = loop {
            match connect.clone().create_if_missing(true).connect().await {
                Err(error) if is_busy(&error) && begun.elapsed() < busy_timeout => {
                    tokio::time::sleep(PAUSE_WHILE_BUSY).await;
                }
                Err(error) => {
                    let path = connect.get_filename().display();
                    return Err(StoreError::unavailable(format!("{path}: {error}")));
                }
                Ok(connection) => break connection,
            }
        };
        let file = OpenedFile::at(connect.get_filename()).map_err(StoreError::unavailable)?;
        let slot = Slot { connection: Some(connection), is_closed: false };
        let thread = Thread::start().map_err(StoreError::unavailable)?;
        let (slot, thread) = (Arc::new(Mutex::new(slot)), Arc::new(thread));
        Ok(Self { slot, thread, connect, file, busy_timeout })
    }

    pub(super) const fn file(&self) -> &OpenedFile {
        &self.file
    }

    /// Carries out a change, which commits its transaction where it is to last. Once it has the file's lock it goes on
    /// to its end, also where the caller goes away; before that it ends with its caller.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl AsyncFnOnce(Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let caller = Arc::new(());
        let patience = Patience { asked: Instant::now(), wanted: Arc::downgrade(&caller) };
        let (mut slot, writer) = (self.exclude().await, self.clone());
        let write = async move || writer.carry_out(&mut slot, &patience, change).await;
        let written = self.thread.run(write).await;
        drop(caller);
        written.unwrap_or_else(|| Err(StoreError::internal("the change has panicked")))
    }

    async fn carry_out<T>(
        &self,
        slot: &mut Slot,
        patience: &Patience,
        change: impl AsyncFnOnce(Tx<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.file.checked()?;
        // Taken out: a change that fails or panics leaves no connection in doubt behind.
        let mut connection = match slot.connection.take() {
            Some(connection) => connection,
            None if slot.is_closed => return Err(StoreError::unavailable("the store is closed")),
            None => self.connect_again(patience).await?,
        };
        let (done, is_in_order) = loop {
            // A deferred one would fail at its first write if another process wrote after its first read.
            match connection.begin_with("BEGIN IMMEDIATE").await {
                Err(error) if is_busy(&error) => {
                    if let Err(impatient) = self.look_again(patience, &error) {
                        break (Err(impatient), true);
                    }
                }
                Err(error) => break (Err(store_error(error)), false),
                Ok(tx) => {
                    let done = change(tx).await;
                    let is_ok = done.is_ok();
                    break (done, is_ok);
                }
            };
        };
        if is_in_order {
            slot.connection = Some(connection);
        } else {
            let _ = connection.close().await;
        }
        let done = done?;
        // Nothing is acknowledged that is in a file which nobody will open.
        self.file.checked().map(|()| done)
    }

    async fn connect_again(&self, patience: &Patience) -> Result<SqliteConnection, StoreError> {
        loop {
            match self.connect.connect().await {
                Err(error) if is_busy(&error) => self.look_again(patience, &error)?,
                connected => return connected.map_err(store_error),
            }
        }
    }

    /// Waits a little for another process, which has the lock.
    ///
    /// SQLite's own wait grows to 100 ms from one look to the next, so who has waited longest looks least often. The
    /// thread is the writer's own.
    fn look_again(&self, patience: &Patience, error: &sqlx::Error) -> Result<(), StoreError> {
        if patience.wanted.strong_count() > 0 && patience.asked.elapsed() < self.busy_timeout {
            std::thread::sleep(BETWEEN_LOOKS);
            return Ok(());
        }
        let limit = self.busy_timeout.as_secs_f64();
        let path = self.connect.get_filename().display();
        let text = format!("another process has the lock of {path}, for up to {limit} s: {error}");
        Err(StoreError::unavailable(text))
    }

    /// Waits for the changes that were asked for before. None begins while the guard is there.
    pub(super) async fn exclude(&self) -> OwnedMutexGuard<Slot> {
        Arc::clone(&self.slot).lock_owned().await
    }

    pub(super) async fn close(&self) {
        let mut slot = self.exclude().await;
        slot.is_closed = true;
        if let Some(connection) = slot.connection.take() {
            // What is not closed in order is closed when it is dropped.
            let _ = connection.close().await;
        }
    }
}

const PAUSE_WHILE_BUSY: Duration = Duration::from_millis(10);
/// A commit with its flush takes some 3 ms.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use session_core::Store;

    use super::super::{Durability, SqliteOptions, SqliteStore};
    use super::*;

    /// SQLite then ends the transaction by itself, which the driver does not learn.
    #[tokio::test]
    async fn a_disk_that_was_full_can_be_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::connect(folder.path().join("s.db")).await.unwrap();
        let fill = async |mut tx: Tx<'_>| {
            for statement in [
                "CREATE TABLE large (content BLOB)",
                "INSERT INTO large VALUES (zeroblob(4 << 20))",
            ] {
                sqlx::query("PRAGMA max_page_count = 1").execute(&mut *tx).await.unwrap();
                sqlx::query(statement).execute(&mut *tx).await.map_err(store_error)?;
            }
            Ok(())
        };
        let error = store.pools.writer.write(fill).await.unwrap_err();
        assert!(format!("{error:?}").contains("full"), "{error:?}");
        assert!(store.lease("a", "b", Duration::from_secs(1)).await.unwrap());
    }

    #[tokio::test]
    async fn the_connection_that_writes_is_as_durable_as_was_asked_for() {
        for (durability, level) in [(Durability::PowerLoss, 2), (Durability::ProcessDeath, 1)] {
            let folder = tempfile::tempdir().unwrap();
            let options = SqliteOptions::default().with_durability(durability);
            let path = folder.path().join("s.db");
            let store = SqliteStore::connect_with(path, options).await.unwrap();
            let fails = async |_: Tx<'_>| Err(StoreError::internal("for the test"));
            // The connection of the start, and the one after a change that failed.
            for _ in 0..2 {
                let ask = async |mut tx: Tx<'_>| {
                    let level = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *tx).await;
                    level.map_err(store_error)
                };
                let found: i64 = store.pools.writer.write(ask).await.unwrap();
                assert_eq!(found, level);
                let _: StoreError = store.pools.writer.write::<()>(fails).await.unwrap_err();
            }
        }
    }
}
