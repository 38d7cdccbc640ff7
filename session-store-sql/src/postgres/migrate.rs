//! Brings the schema up to date: numbered scripts, one node at a time.

use session_core::StoreError;
use sqlx::postgres::PgPool;

use super::store_error;
use crate::names::Names;
use crate::schema;

const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/postgres/0001_sessions.sql")];

pub(super) async fn run(pool: &PgPool, names: &Names) -> Result<(), StoreError> {
    let mut tx = pool.begin().await.map_err(store_error)?;
    // Held until the commit; even the first table is made by one node alone.
    sqlx::query(LOCK).bind(&names.channel).execute(&mut *tx).await.map_err(store_error)?;
    sqlx::query(names.sql(CREATE_VERSION)).execute(&mut *tx).await.map_err(store_error)?;
    let version: i64 = sqlx::query_scalar(names.sql(READ_VERSION))
        .fetch_one(&mut *tx)
        .await
        .map_err(store_error)?;
    for (number, script) in schema::missing(version, &MIGRATIONS)? {
        sqlx::raw_sql(names.sql(script)).execute(&mut *tx).await.map_err(store_error)?;
        let add = sqlx::query(names.sql(ADD_VERSION)).bind(number);
        add.execute(&mut *tx).await.map_err(store_error)?;
        tracing::info!(number, "applied a migration");
    }
    tx.commit().await.map_err(store_error)
}

/// The scripts as text, each noting its version.
pub(super) fn printed() -> Vec<String> {
    schema::printed(CREATE_VERSION, &MIGRATIONS, ADD_VERSION, "$1")
}

const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
const CREATE_VERSION: &str = "CREATE TABLE IF NOT EXISTS {t}migrations \
    (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())";
const READ_VERSION: &str = "SELECT COALESCE(MAX(version), 0)::bigint FROM {t}migrations";
const ADD_VERSION: &str = "INSERT INTO {t}migrations (version) VALUES ($1)";
