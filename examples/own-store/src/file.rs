//! The database file: its tables, its transactions and its errors.

use std::sync::Arc;

use redb::{
    Database, Error, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition,
    WriteTransaction,
};
use session_core::StoreError;
use tokio::sync::{Mutex, Notify};

type Id = &'static [u8; 16];
type Texts = (&'static str, &'static str);

/// The record of a session by its id.
pub(crate) const SESSIONS: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("sessions");
/// All sessions, newest sign-in first ([`Place`](crate::walk::Place)).
pub(crate) const NEWEST: TableDefinition<'_, (i64, Id), ()> = TableDefinition::new("newest");
/// The sessions of one user, newest sign-in first: tenant, user, place.
pub(crate) const BY_USER: TableDefinition<'_, (&str, &str, i64, Id), ()> =
    TableDefinition::new("by_user");
/// The version of each user that has sessions: tenant and user.
pub(crate) const USERS: TableDefinition<'_, Texts, i64> = TableDefinition::new("users");
/// The log by number: mark, time, event.
pub(crate) const LOG: TableDefinition<'_, i64, (i64, i64, &[u8])> = TableDefinition::new("log");
/// The policies that are set, by the key of their scope.
pub(crate) const POLICIES: TableDefinition<'_, Texts, &str> = TableDefinition::new("policies");
/// The leases by name: holder, until when.
pub(crate) const LEASES: TableDefinition<'_, &str, (&str, i64)> = TableDefinition::new("leases");
/// What the file says of itself.
const ABOUT: TableDefinition<'_, &str, i64> = TableDefinition::new("about");

/// The layout of the tables above.
pub(crate) const SCHEMA: i64 = 1;

pub(crate) struct File {
    pub(crate) database: Database,
    /// Writers wait here, and not in a thread each.
    pub(crate) turn: Arc<Mutex<()>>,
    /// Notified when the log has grown.
    pub(crate) told: Notify,
}

/// The tables of one write transaction.
pub(crate) struct Tables<'t> {
    pub(crate) sessions: Table<'t, Id, &'static [u8]>,
    pub(crate) newest: Table<'t, (i64, Id), ()>,
    pub(crate) by_user: Table<'t, (&'static str, &'static str, i64, Id), ()>,
    pub(crate) users: Table<'t, Texts, i64>,
    pub(crate) log: Table<'t, i64, (i64, i64, &'static [u8])>,
    pub(crate) policies: Table<'t, Texts, &'static str>,
    pub(crate) leases: Table<'t, &'static str, (&'static str, i64)>,
    /// Whether this transaction has appended to the log.
    pub(crate) told: bool,
}

impl File {
    /// Makes the tables where there are none, and refuses those of another layout.
    pub(crate) fn new(database: Database) -> Result<Self, Failure> {
        let file = Self { database, turn: Default::default(), told: Notify::new() };
        let transaction = file.begin_write()?;
        Tables::open(&transaction)?;
        let schema = {
            let mut about = transaction.open_table(ABOUT)?;
            let found = about.get("schema")?.map(|schema| schema.value());
            if found.is_none() {
                about.insert("schema", SCHEMA)?;
            }
            found.unwrap_or(SCHEMA)
        };
        if schema != SCHEMA {
            let error = format!("the file has schema {schema}, this program knows {SCHEMA}");
            return Err(StoreError::internal(error).into());
        }
        transaction.commit()?;
        Ok(file)
    }

    /// Reads from a snapshot: everything that was committed before, and nothing of what commits
    /// meanwhile.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        read(&self.database.begin_read()?)
    }

    /// Changes the tables in one atomic step, which is on the disk when this returns. A change that
    /// answers none, or an error, has not happened.
    pub(crate) fn write<T>(
        &self,
        change: impl FnOnce(&mut Tables<'_>) -> Result<Option<T>, Failure>,
    ) -> Result<Option<T>, Failure> {
        let transaction = self.begin_write()?;
        let mut tables = Tables::open(&transaction)?;
        let Some(answer) = change(&mut tables)? else { return Ok(None) };
        let told = tables.told;
        drop(tables);
        transaction.commit()?;
        if told {
            self.told.notify_waiters();
        }
        Ok(Some(answer))
    }

    fn begin_write(&self) -> Result<WriteTransaction, Failure> {
        let mut transaction = self.database.begin_write()?;
        // Without it, opening the file after a crash walks all of it.
        transaction.set_quick_repair(true);
        Ok(transaction)
    }
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, Failure> {
        Ok(Self {
            sessions: transaction.open_table(SESSIONS)?,
            newest: transaction.open_table(NEWEST)?,
            by_user: transaction.open_table(BY_USER)?,
            users: transaction.open_table(USERS)?,
            log: transaction.open_table(LOG)?,
            policies: transaction.open_table(POLICIES)?,
            leases: transaction.open_table(LEASES)?,
            told: false,
        })
    }
}

/// What went wrong: in the file, or in what it holds.
pub(crate) enum Failure {
    File(Error),
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Store(error) => error,
            Failure::File(error @ Error::Corrupted(_)) => Self::corrupt(error),
            Failure::File(
                error @ (Error::Io(_)
                | Error::PreviousIo
                | Error::DatabaseAlreadyOpen
                | Error::DatabaseClosed),
            ) => Self::unavailable(error),
            Failure::File(error) => Self::internal(error),
        }
    }
}

macro_rules! failures {
    ($($error:ident),+) => {
        $(impl From<redb::$error> for Failure {
            fn from(error: redb::$error) -> Self {
                Self::File(error.into())
            }
        })+
    };
}

failures!(CommitError, DatabaseError, StorageError, TableError, TransactionError);
