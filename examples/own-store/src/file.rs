//! The database file: its tables, its transactions and its errors.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use redb::{Database, Error, Key, ReadableTable, TableDefinition, Value};
use session_core::StoreError;
use tokio::sync::{Mutex, Notify};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
pub(crate) type Read = redb::ReadTransaction;
pub(crate) type Write = redb::WriteTransaction;

pub(crate) type Id = &'static [u8; 16];
pub(crate) type Bytes = &'static [u8];
pub(crate) type Text = &'static str;
pub(crate) type Records = TableDefinition<'static, Id, Bytes>;
pub(crate) type Places = TableDefinition<'static, (Text, Text, i64, Id), ()>;
/// A tenant and a user, empty for none.
pub(crate) type Names = (Text, Text);
pub(crate) type Settings = TableDefinition<'static, Names, Text>;
/// An entry of the log: its mark, the mark of the one before it, its time, the event.
pub(crate) type Entry = (i64, i64, i64, Bytes);

/// A session by its id.
pub(crate) const SESSIONS: Records = TableDefinition::new("sessions");
/// Sessions by the time of their sign-in, in the order of [`key`](crate::places::key), once in every
/// scope of their user.
pub(crate) const PLACES: Places = TableDefinition::new("places");
/// An ended session by its id.
pub(crate) const HISTORY: Records = TableDefinition::new("history");
/// Ended sessions by the time of their end, as in [`PLACES`].
pub(crate) const ENDS: Places = TableDefinition::new("ends");
/// The version of each user that has sessions, by tenant and user.
pub(crate) const USERS: TableDefinition<'_, Names, i64> = TableDefinition::new("users");
/// The log by number.
pub(crate) const LOG: TableDefinition<'_, i64, Entry> = TableDefinition::new("log");
/// The policies and the blocks that are set, by the key of their scope.
pub(crate) const POLICIES: Settings = TableDefinition::new("policies");
pub(crate) const BLOCKS: Settings = TableDefinition::new("blocks");
/// The secret of the fleet: one row.
pub(crate) const SECRET: TableDefinition<'_, (), &[u8; 32]> = TableDefinition::new("secret");
/// The leases by name: holder, until when. Their names by that time.
pub(crate) const LEASES: TableDefinition<'_, Text, (Text, i64)> = TableDefinition::new("leases");
pub(crate) const ENDINGS: TableDefinition<'_, (i64, Text), ()> = TableDefinition::new("endings");

#[derive(Debug)]
pub(crate) struct File {
    pub(crate) database: Database,
    /// Writers wait for it instead of blocking a thread each.
    pub(crate) turn: Arc<Mutex<()>>,
    /// Where it is off, what ends is not remembered.
    pub(crate) keeps_history: AtomicBool,
    /// Notified after every change.
    pub(crate) changed: Notify,
}

impl File {
    /// Makes the tables that are read where there are none. Those of other types are an error.
    pub(crate) fn new(database: Database) -> Result<Self> {
        let keeps_history = AtomicBool::new(true);
        let file = Self { database, turn: Arc::default(), keeps_history, changed: Notify::new() };
        file.write(|file| {
            let _ = (file.open_table(SESSIONS)?, file.open_table(PLACES)?, file.open_table(USERS)?);
            let _ = (file.open_table(HISTORY)?, file.open_table(ENDS)?, file.open_table(LOG)?);
            let _ = (file.open_table(POLICIES)?, file.open_table(BLOCKS)?);
            Ok(Some(()))
        })?;
        Ok(file)
    }

    /// Changes the tables in one atomic step, which is on the disk when this returns. A change that
    /// answers none, or an error, has not happened.
    pub(crate) fn write<T>(
        &self,
        change: impl FnOnce(&Write) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut transaction = self.database.begin_write()?;
        // Otherwise the first start after a crash reads the whole file.
        transaction.set_quick_repair(true);
        let Some(answer) = change(&transaction)? else { return Ok(None) };
        transaction.commit()?;
        self.changed.notify_waiters();
        Ok(Some(answer))
    }
}

/// What a table has under a key, as the core reads it.
pub(crate) fn get<K: Key + 'static, V: Value + 'static, T>(
    table: &impl ReadableTable<K, V>,
    key: K::SelfType<'_>,
    read: impl FnOnce(V::SelfType<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>> {
    table.get(key)?.map(|found| read(found.value())).transpose().map_err(core_error)
}

/// Passes over a record that cannot be read.
pub(crate) fn readable<T>(found: Result<Option<T>>) -> Result<Option<T>> {
    found.or_else(|error| if matches!(error, Error::Backend(_)) { Ok(None) } else { Err(error) })
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
