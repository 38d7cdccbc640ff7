//! [`Store`](session_core::Store)s on SQL databases, through sqlx.
//!
//! | feature | type | database |
//! | --- | --- | --- |
//! | `sqlite` | [`SqliteStore`] | SQLite, bundled: one host, one or several processes |
//! | `postgres` | [`PostgresStore`] | PostgreSQL 15 and later: any number of hosts |
//! | `mysql` | [`MySqlStore`] | MySQL 8, MariaDB 10.11 and later: any number of hosts |
//!
//! Each opens by `connect(url)` or `connect_with(url, options)`; PostgreSQL and MySQL also by
//! `with_pool(pool, options)`. The tables, their indexes and the statements of each operation are
//! in `docs/sql.md`.
//!
//! # SQLite
//! The file is in WAL mode with `synchronous = FULL` by default ([`Durability`]). A process writes
//! over one connection, and every write transaction begins with `IMMEDIATE`: a read transaction
//! that turns into a write fails at once and does not wait. Sessions to end are chosen by
//! a reader; the write lock is held only to end them, which is one statement each for the history,
//! the sessions, the log and the versions of the users, however many sessions end. `trim_log` and
//! `forget` by age take it only where a row goes. Checkpoints run on a connection of their own beside
//! the writes; where the write-ahead log has reached 8 MiB, one takes a turn among the writes, so that
//! SQLite begins the log again. A commit makes one only when the log reaches 128 MiB.
//!
//! Writes take turns, so a block holds for every commit that begins after `set_block` has returned,
//! and no other commit is under way then. The clock is that of the host.
//!
//! SQLite has one writer at a time, so the numbers of the log are in the order of commits and have
//! no holes. Each entry also has a random mark, by which a restored backup that has gone another
//! way is told from the log that a cursor was read from. A user's version is a number of the log,
//! so it never comes back. The follower has a connection of its own and reads the log only when
//! `PRAGMA data_version` has changed on it.
//!
//! After each commit that makes a cached session wrong a store writes a byte to `PATH-hint`, which
//! every store on the file watches. (SQLite's own log is written before a change can be read.) Where the
//! file system has no events, a node polls.
//!
//! # PostgreSQL
//! A change is one round trip to a function. The function locks the user's row before the user's
//! sessions, and those by id, so no two changes wait for one another in a circle. A change waits up
//! to 5 s for a lock. Functions live in a file apart from the scripts that make tables and are
//! applied again when they change; an older node leaves newer ones alone.
//!
//! Each call that ends sessions moves their records into the history with one statement, however many
//! end.
//!
//! A commit that inserts holds advisory locks of the deployment, the tenant and the user in shared
//! mode until it ends, and reads their blocks after the locks are granted. `set_block` takes the
//! lock of its place exclusively. It waits for the sign-ins there that are under way; those that
//! come later wait for it and find the block. Sign-ins do not wait for one another. The keys of the
//! locks contain the identifier of a table, so two stores in one database have different ones.
//!
//! A log entry's number is drawn before its commit, so numbers are not the order of commits. Each
//! entry carries its transaction's id. A cursor is the *snapshot* that was read, the newest number,
//! and the next transaction id at that time. The next read takes the higher numbers, and of the
//! lower ones those of transactions that were open in the snapshot or that had an id and were too
//! new for it. Beside a foreign transaction that stays open, a read looks up that one id. A cursor
//! is compared with the log's incarnation, the highest transaction id (a server that came back from
//! the past), the marks of the newest entry and of up to 32 that were read last, and what has been
//! trimmed. A dump that is restored on a younger server gets that server's ids and another
//! incarnation. Only a prefix of the log goes, by number. It ends at the first entry that is too
//! young, whose transaction is not older than every open one, or that is the newest.
//!
//! A task sends `NOTIFY` after a commit that makes a cached session wrong, without a flush, one at a
//! time; changes that come during one share the next. A connection of its own listens. A pooler in
//! transaction mode would pass it to another client, so a connection whose server's end is older than
//! itself is not listened on.
//!
//! Sessions have room in their pages and no index on what a touch writes, so a touch stays within
//! its page. The index for the cleanup is on `due`, which a touch leaves alone: a session is due at
//! its deadline or earlier. A cleanup looks at what is due, and puts off to its deadline what has been
//! used since.
//!
//! The clock that a reader of the log is told, and by which sessions, the history and the log are
//! deleted, is that of the server, read in the same statement.
//!
//! # MySQL and MariaDB
//! A change is one call of a procedure and one transaction at READ COMMITTED. (REPEATABLE READ
//! locks gaps, and the sign-ins of two new users could deadlock.) Locks are taken in one order:
//! users, sessions by id, places of policies and blocks, a gate that changes share. Nothing is
//! locked that all changes wait for. A call that meets a deadlock or a lock timeout is retried up
//! to ten times. Names are compared as bytes, because collations fold case and trailing spaces.
//! Procedures are applied again when their version rises. There is no push.
//!
//! Sessions that end are locked first. One statement then copies their records into the history and
//! another deletes them, however many end.
//!
//! A commit reads the blocks of its owner after it has locked its gate, in a snapshot of that
//! moment. `set_block` commits the block, and then waits until both gates were empty once: every
//! commit that may have missed the block has ended by then. Sign-ins do not wait for it.
//!
//! Ids of the log are drawn inside transactions. A reader keeps the ids that it has not seen, and
//! the last entries that it read, and looks for them at its next read. The server's clock is in the
//! first row of what it reads. A *gate* is one of two rows that every change locks in share mode.
//! When the closed gate can be locked exclusively, every change that began behind it has ended; after
//! both, an id that is not there never comes. Nothing that came after an open id is trimmed. A page
//! reaches up to the newest entry of an earlier snapshot, so a user's entries come in order, on
//! MariaDB too, whose snapshots can have what depends on a change and not the change.

mod columns;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod db;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod error;
mod filter;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod last_read;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod line;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod names;
mod places;
#[cfg(any(feature = "mysql", feature = "sqlite"))]
mod position;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod schema;
#[cfg(feature = "sqlite")]
mod sqlite;
mod steps;
mod walk;

#[cfg(feature = "mysql")]
pub use mysql::{MySqlOptions, MySqlStore};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{Durability, SqliteOptions, SqliteStore};
