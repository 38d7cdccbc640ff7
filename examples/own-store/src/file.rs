//! The database file: its tables, its transactions and its errors.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use redb::{Database, Error, TableDefinition, WriteTransaction};
use session_core::StoreError;
use tokio::sync::{Mutex, Notify};

pub(crate) type Id = &'static [u8; 16];
pub(crate) type Bytes = &'static [u8];
type Text = &'static str;
/// An entry of the log: its mark, the mark of the one before it, its time, the event.
pub(crate) type Entry = (i64, i64, i64, Bytes);

/// A session by its id.
pub(crate) const SESSIONS: TableDefinition<'_, Id, Bytes> = TableDefinition::new("sessions");
/// Sessions in the order of [`Place`](crate::read::Place), once in every scope of their user.
pub(crate) const PLACES: Places = TableDefinition::new("places");
pub(crate) type Places = TableDefinition<'static, (Text, Text, i64, Id), ()>;
/// An ended session by its id.
pub(crate) const HISTORY: TableDefinition<'_, Id, Bytes> = TableDefinition::new("history");
/// Ended sessions, as [`PLACES`], by when they ended.
pub(crate) const ENDED: Places = TableDefinition::new("ended");
/// The version of each user that has sessions, by tenant and user.
pub(crate) const USERS: TableDefinition<'_, (Text, Text), i64> = TableDefinition::new("users");
/// The log by number.
pub(crate) const LOG: TableDefinition<'_, i64, Entry> = TableDefinition::new("log");
/// The policies that are set, by the key of their scope.
pub(crate) const POLICIES: TableDefinition<'_, (Text, Text), Text> =
    TableDefinition::new("policies");
/// The blocks that are set, by the key of their scope.
pub(crate) const BLOCKS: TableDefinition<'_, (Text, Text), Text> = TableDefinition::new("blocks");
/// The secret of the fleet, once it has one.
pub(crate) const FLEET_KEY: TableDefinition<'_, (), &[u8; 32]> = TableDefinition::new("fleet_key");
/// The leases by name: holder, until when.
pub(crate) const LEASES: TableDefinition<'_, Text, (Text, i64)> = TableDefinition::new("leases");

#[derive(Debug)]
pub(crate) struct File {
    pub(crate) database: Database,
    /// Writers wait for it instead of blocking a thread each.
    pub(crate) turn: Arc<Mutex<()>>,
    /// Notified after every change.
    pub(crate) changed: Notify,
    /// Whether ended sessions are kept.
    pub(crate) history: AtomicBool,
}

impl File {
    /// Makes the tables where there are none. Those of other types than above are an error.
    pub(crate) fn new(database: Database) -> Result<Self, Error> {
        let (turn, changed, history) = (Arc::default(), Notify::new(), AtomicBool::new(true));
        let file = Self { database, turn, changed, history };
        file.write(|file| {
            let _ = (file.open_table(SESSIONS)?, file.open_table(PLACES)?, file.open_table(USERS)?);
            let _ = (file.open_table(LOG)?, file.open_table(POLICIES)?, file.open_table(LEASES)?);
            let _ = (file.open_table(HISTORY)?, file.open_table(ENDED)?, file.open_table(BLOCKS)?);
            let _ = file.open_table(FLEET_KEY)?;
            Ok(Some(()))
        })?;
        Ok(file)
    }

    /// Changes the tables in one atomic step, which is on the disk when this returns. A change that
    /// answers none, or an error, has not happened.
    pub(crate) fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let mut transaction = self.database.begin_write()?;
        // Otherwise the first start after a crash reads the whole file.
        transaction.set_quick_repair(true);
        let Some(answer) = change(&transaction)? else { return Ok(None) };
        transaction.commit()?;
        self.changed.notify_waiters();
        Ok(Some(answer))
    }
}

/// An error of the core, as one of redb: inside this store, one type will do.
pub(crate) fn core_error(error: StoreError) -> Error {
    Error::Backend(error.into())
}

/// What the caller can make of an error.
pub(crate) fn store_error(error: Error) -> StoreError {
    match error {
        Error::Backend(error) => error.downcast().map_or_else(StoreError::internal, |error| *error),
        Error::Corrupted(_) => StoreError::corrupt(error),
        Error::Io(_) | Error::PreviousIo | Error::DatabaseAlreadyOpen => {
            StoreError::unavailable(error)
        }
        _ => StoreError::internal(error),
    }
}
