//! Brings the schema up to date: numbered scripts, one node at a time. MySQL commits each
//! definition by itself, so every script can be run again from its beginning.

use session_core::StoreError;
use sqlx::Connection;
use sqlx::mysql::{MySqlConnection, MySqlPool};

use super::store_error;
use crate::names::Names;
use crate::schema;

const MIGRATIONS: [&str; 2] = [
    include_str!("../../migrations/mysql/0001_sessions.sql"),
    include_str!("../../migrations/mysql/0002_procedures.sql"),
];

pub(super) async fn run(pool: &MySqlPool, names: &Names) -> Result<(), StoreError> {
    // The lock is the connection's: one of its own, closed at the end whatever happens.
    let mut connection = pool.acquire().await.map_err(store_error)?.detach();
    let locked: Option<i64> = sqlx::query_scalar("SELECT GET_LOCK(?, 60)")
        .bind(&names.channel)
        .fetch_one(&mut connection)
        .await
        .map_err(store_error)?;
    if locked != Some(1) {
        return Err(StoreError::timed_out());
    }
    migrate(&mut connection, names).await?;
    connection.close().await.map_err(store_error)
}

async fn migrate(connection: &mut MySqlConnection, names: &Names) -> Result<(), StoreError> {
    let create = sqlx::query(names.sql(CREATE_VERSION));
    create.execute(&mut *connection).await.map_err(store_error)?;
    let version: i64 = sqlx::query_scalar(names.sql(READ_VERSION))
        .fetch_one(&mut *connection)
        .await
        .map_err(store_error)?;
    for (number, script) in schema::missing(version, &MIGRATIONS)? {
        sqlx::raw_sql(names.sql(script)).execute(&mut *connection).await.map_err(store_error)?;
        let add = sqlx::query(names.sql(ADD_VERSION)).bind(number);
        add.execute(&mut *connection).await.map_err(store_error)?;
        tracing::info!(number, "applied a migration");
    }
    Ok(())
}

/// The scripts as text, each noting its version. The client program takes a semicolon for the end
/// of a statement, also in the middle of a procedure, unless told otherwise.
pub(super) fn printed() -> Vec<String> {
    let mut scripts = schema::printed(CREATE_VERSION, &MIGRATIONS, ADD_VERSION, "?");
    for script in &mut scripts {
        *script = script.replace("\nCREATE PROCEDURE", "\nDELIMITER //\nCREATE PROCEDURE");
        *script = script.replace("\nEND;\n", "\nEND//\nDELIMITER ;\n");
    }
    scripts
}

const CREATE_VERSION: &str = "CREATE TABLE IF NOT EXISTS {t}migrations \
    (version BIGINT NOT NULL PRIMARY KEY) ENGINE = InnoDB";
const READ_VERSION: &str = "SELECT COALESCE(MAX(version), 0) FROM {t}migrations";
const ADD_VERSION: &str = "INSERT INTO {t}migrations (version) VALUES (?)";
