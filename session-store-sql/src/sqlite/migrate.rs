//! Brings the schema up to date: numbered scripts, in one transaction that takes the write lock
//! first, so that any number of processes may start at once.

use session_core::StoreError;

use super::store_error;
use super::tx::{Tx, Writer};
use crate::schema;

pub(super) const MIGRATIONS: [&str; 1] =
    [include_str!("../../migrations/sqlite/0001_sessions.sql")];

pub(super) async fn run(writer: &Writer) -> Result<(), StoreError> {
    writer.write(apply).await
}

async fn apply(mut tx: Tx<'_>) -> Result<(), StoreError> {
    sqlx::query(CREATE_VERSION).execute(&mut *tx).await.map_err(store_error)?;
    let versions: Vec<i64> =
        sqlx::query_scalar(READ_VERSIONS).fetch_all(&mut *tx).await.map_err(store_error)?;
    for (number, script) in schema::missing(&versions, &MIGRATIONS)? {
        sqlx::raw_sql(script).execute(&mut *tx).await.map_err(store_error)?;
        sqlx::query(ADD_VERSION).bind(number).execute(&mut *tx).await.map_err(store_error)?;
        tracing::info!(number, "applied a migration");
    }
    tx.commit().await.map_err(store_error)
}

/// The scripts as text, each noting its version.
pub(super) fn printed() -> Vec<String> {
    schema::printed(CREATE_VERSION, &MIGRATIONS, ADD_VERSION, "?")
}

/// The names of the indexes that the scripts make.
pub(super) fn indexes() -> impl Iterator<Item = &'static str> {
    let names = MIGRATIONS.iter().flat_map(|script| script.split("CREATE INDEX ").skip(1));
    names.filter_map(|rest| rest.split_whitespace().next())
}

const CREATE_VERSION: &str = "CREATE TABLE IF NOT EXISTS session_kit_migrations \
    (version INTEGER PRIMARY KEY, applied TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) STRICT";
const READ_VERSIONS: &str = "SELECT version FROM session_kit_migrations";
const ADD_VERSION: &str = "INSERT INTO session_kit_migrations (version) VALUES (?)";
