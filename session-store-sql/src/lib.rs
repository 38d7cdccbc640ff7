//! [`Store`](session_core::Store)s on SQL databases, through sqlx.
//!
//! | feature | type | database |
//! | --- | --- | --- |
//! | `sqlite` | [`SqliteStore`] | SQLite, bundled: one host, one or several processes |
//! | `postgres` | [`PostgresStore`] | PostgreSQL 15 and later: any number of hosts |
//! | `mysql` | [`MySqlStore`] | MySQL 8, MariaDB 10.11 and later: any number of hosts |

mod columns;
mod filter;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod names;
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
