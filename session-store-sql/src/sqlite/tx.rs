//! The connection that writes, and its transactions.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use session_core::StoreError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteTransaction};
use sqlx::{ConnectOptions, Connection as _};

use super::error::is_busy;
use super::file::OpenedFile;
use super::thread::Thread;
use super::{options, store_error};

pub(super) type Tx<'c> = SqliteTransaction<'c>;

/// Carries out the changes of this process one after another, in the order in which they were asked for, on a thread of
/// their own. Each statement is carried out by SQLite's thread, which then wakes the transaction: in a runtime that has
/// much to do it would wait for its turn, with the lock of the file.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    thread: Arc<Thread<Connection>>,
    file: OpenedFile,
}

/// What the thread writes with.
#[derive(Debug)]
struct Connection {
    /// None after a change that failed: SQLite may have ended its transaction by itself, which the driver does
    /// not learn. The next change opens another.
    open: Option<SqliteConnection>,
    is_closed: bool,
    options: SqliteConnectOptions,
    file: OpenedFile,
    busy_timeout: Duration,
}

/// How long a change waits for the lock.
struct Patience {
    asked: Instant,
    /// Gone with its caller.
    wanted: Weak<()>,
}

impl Patience {
    fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }
}

impl Writer {
    /// Opens the file, and makes it where it is missing.
    ///
    /// The first one switches the file to WAL mode; only then do readers join. Of two processes that switch
    /// it at the same moment, SQLite refuses one at once and does not wait for the busy timeout.
    pub(super) async fn open(
        options: &SqliteConnectOptions,
        busy_timeout: Duration,
    ) -> Result<Self, StoreError> {
        let begun = Instant::now();
        let options = options::writing(options.clone());
        let path = options.get_filename();
        let open = loop {
            match options.clone().create_if_missing(true).connect().await {
                Err(error) if is_busy(&error) && begun.elapsed() < busy_timeout => {
                    tokio::time::sleep(PAUSE_WHILE_BUSY).await;
                }
                Err(error) => {
                    return Err(StoreError::unavailable(format!("{}: {error}", path.display())));
                }
                Ok(connection) => break Some(connection),
            }
        };
        let file = OpenedFile::at(path).map_err(StoreError::unavailable)?;
        let connection =
            Connection { open, is_closed: false, options, file: file.clone(), busy_timeout };
        let thread = Thread::start("session-kit-sqlite", connection);
        Ok(Self { thread: Arc::new(thread.map_err(StoreError::unavailable)?), file })
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
        let write =
            async move |connection: &mut Connection| connection.carry_out(&patience, change).await;
        let written = self.thread.run(write).await;
        drop(caller);
        written.unwrap_or_else(|| Err(StoreError::internal("the change has panicked")))
    }

    /// Runs a job after the changes that were asked for before, and before any other.
    pub(super) async fn between<T: Send + 'static>(
        &self,
        job: impl AsyncFnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.thread.run(async move |_: &mut Connection| job().await).await
    }

    pub(super) async fn close(&self) {
        let close = async |connection: &mut Connection| {
            connection.is_closed = true;
            if let Some(open) = connection.open.take() {
                // What is not closed in order is closed when it is dropped.
                let _ = open.close().await;
            }
        };
        self.thread.run(close).await;
    }
}

impl Connection {
    async fn carry_out<T>(
        &mut self,
        patience: &Patience,
        change: impl AsyncFnOnce(Tx<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.file.checked()?;
        // Taken out: a change that fails or panics leaves no connection in doubt behind.
        let mut open = match self.open.take() {
            Some(open) => open,
            None if self.is_closed => return Err(StoreError::unavailable("the store is closed")),
            None => self.open_again(patience).await?,
        };
        let (done, is_in_order) = loop {
            // A deferred one would fail at its first write if another process wrote after its first read.
            match open.begin_with("BEGIN IMMEDIATE").await {
                Err(error) if is_busy(&error) => {
                    if let Err(impatient) = self.look_again(patience, &error) {
                        break (Err(impatient), true);
                    }
                }
                Err(error) => break (Err(store_error(error)), false),
                Ok(_) if !patience.is_wanted() => {
                    break (Err(StoreError::unavailable("the caller has gone")), true);
                }
                Ok(tx) => {
                    let done = change(tx).await;
                    let is_ok = done.is_ok();
                    break (done, is_ok);
                }
            };
        };
        if is_in_order {
            self.open = Some(open);
        } else {
            let _ = open.close().await;
        }
        let done = done?;
        // A change of a file that has been replaced is not acknowledged: it is lost.
        self.file.checked().map(|()| done)
    }

    async fn open_again(&self, patience: &Patience) -> Result<SqliteConnection, StoreError> {
        loop {
            self.file.checked()?;
            match self.options.connect().await {
                Err(error) if is_busy(&error) => self.look_again(patience, &error)?,
                connected => return connected.map_err(store_error),
            }
        }
    }

    /// Waits a little for another process, which has the lock.
    ///
    /// SQLite's own wait grows to 100 ms from one look to the next, so the process that has waited longest looks least
    /// often. The thread has nothing else to do.
    fn look_again(&self, patience: &Patience, error: &sqlx::Error) -> Result<(), StoreError> {
        if patience.is_wanted() && patience.asked.elapsed() < self.busy_timeout {
            std::thread::sleep(BETWEEN_LOOKS);
            return Ok(());
        }
        let limit = self.busy_timeout.as_secs_f64();
        let path = self.options.get_filename().display();
        Err(StoreError::unavailable(format!(
            "no turn to write within {limit} s: another process has the lock of {path}: {error}"
        )))
    }
}

const PAUSE_WHILE_BUSY: Duration = Duration::from_millis(10);
/// A commit with its flush takes some 3 ms.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::super::{Durability, SqliteOptions, SqliteStore};
    use super::*;

    async fn open(folder: &tempfile::TempDir) -> SqliteStore {
        SqliteStore::connect(folder.path().join("s.db")).await.unwrap()
    }

    async fn set(mut tx: Tx<'_>, version: i64) -> Result<(), StoreError> {
        let set =
            sqlx::query("INSERT OR ROLLBACK INTO session_kit_migrations (version) VALUES (?)");
        set.bind(version).execute(&mut *tx).await.map_err(store_error)?;
        tx.commit().await.map_err(store_error)
    }

    async fn versions(store: &SqliteStore) -> Vec<i64> {
        let versions = "SELECT version FROM session_kit_migrations ORDER BY version";
        sqlx::query_scalar(versions).fetch_all(&store.pools.readers).await.unwrap()
    }

    /// As SQLite does where the disk is full or fails in a commit.
    #[tokio::test]
    async fn a_transaction_that_sqlite_ends_by_itself_stops_no_later_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        store.pools.writer.write(async |tx: Tx<'_>| set(tx, 1).await).await.unwrap_err();
        store.pools.writer.write(async |tx: Tx<'_>| set(tx, 7).await).await.unwrap();
        assert_eq!(versions(&store).await, [1, 7]);
    }

    #[tokio::test]
    async fn a_change_that_waits_for_its_turn_ends_with_its_caller() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let mut busy = std::pin::pin!(store.pools.writer.between(async || gone.await.unwrap()));
        assert!(tokio::time::timeout(Duration::ZERO, &mut busy).await.is_err());
        let left = store.pools.writer.write(async |tx: Tx<'_>| set(tx, 7).await);
        assert!(tokio::time::timeout(Duration::ZERO, left).await.is_err());
        go.send(()).unwrap();
        store.pools.writer.write(async |tx: Tx<'_>| set(tx, 8).await).await.unwrap();
        assert_eq!(versions(&store).await, [1, 8]);
    }

    #[tokio::test]
    async fn a_store_that_was_closed_takes_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        store.close().await;
        let change = store.pools.writer.write(async |tx: Tx<'_>| set(tx, 7).await).await;
        assert!(change.unwrap_err().to_string().contains("the store is closed"));
    }

    #[tokio::test]
    async fn a_change_of_a_file_that_has_been_replaced_is_not_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let path = folder.path().join("s.db");
        let replaced = async move |tx: Tx<'_>| {
            std::fs::rename(&path, path.with_extension("old")).unwrap();
            set(tx, 7).await
        };
        store.pools.writer.write(replaced).await.unwrap_err();
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
