//! [`Store`](session_core::Store)s on SQL databases, through sqlx.
//!
//! | feature | type | database |
//! | --- | --- | --- |
//! | `sqlite` | [`SqliteStore`] | SQLite, bundled: one host, one or several processes |
//!
//! PostgreSQL and MySQL/MariaDB are planned.

#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "sqlite")]
pub use sqlite::{Durability, SqliteOptions, SqliteStore};
