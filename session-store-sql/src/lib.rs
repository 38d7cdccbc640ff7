//! [`Store`](session_core::Store)s on SQL databases, through sqlx.
//!
//! | feature | type | database |
//! | --- | --- | --- |
//! | `sqlite` | [`SqliteStore`] | SQLite, bundled: one host, one or several processes |
//! | `postgres` | [`PostgresStore`] | PostgreSQL 15 and later: any number of hosts |
//!
//! MySQL and MariaDB are planned.

mod columns;
mod filter;
mod policies;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{Durability, SqliteOptions, SqliteStore};
