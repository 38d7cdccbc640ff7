//! Brings the schema up to date, one node at a time: numbered scripts that make tables, then the
//! functions.

use session_core::StoreError;
use sqlx::postgres::{PgConnection, PgPool};

use super::db::store_error;
use crate::names::Names;
use crate::schema;

const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/postgres/0001_sessions.sql")];
const FUNCTIONS: &str = include_str!("../../migrations/postgres/functions.sql");

pub(super) async fn run(pool: &PgPool, names: &Names) -> Result<(), StoreError> {
    let mut tx = pool.begin().await.map_err(store_error)?;
    // Held until the commit; even the first table is made by one node alone.
    sqlx::query(LOCK).bind(&names.channel).execute(&mut *tx).await.map_err(store_error)?;
    sqlx::query(names.sql(CREATE_VERSION)).execute(&mut *tx).await.map_err(store_error)?;
    let versions: Vec<i64> = sqlx::query_scalar(names.sql(READ_VERSIONS))
        .fetch_all(&mut *tx)
        .await
        .map_err(store_error)?;
    for (number, script) in schema::missing(&versions, &MIGRATIONS)? {
        sqlx::raw_sql(names.sql(script)).execute(&mut *tx).await.map_err(store_error)?;
        let add = sqlx::query(names.sql(ADD_VERSION)).bind(number);
        add.execute(&mut *tx).await.map_err(store_error)?;
        tracing::info!(number, "applied a migration");
    }
    apply_functions(&mut tx, names).await?;
    tx.commit().await.map_err(store_error)
}

/// Older functions than those in force are not applied: a newer node may rely on what they lack.
async fn apply_functions(tx: &mut PgConnection, names: &Names) -> Result<(), StoreError> {
    let (in_force, text): (i64, String) =
        sqlx::query_as(names.sql(READ_FUNCTIONS)).fetch_one(&mut *tx).await.map_err(store_error)?;
    let version = functions_version();
    if in_force > version || (in_force == version && text == functions_digest()) {
        return Ok(());
    }
    sqlx::raw_sql(names.sql(FUNCTIONS)).execute(&mut *tx).await.map_err(store_error)?;
    sqlx::query(names.sql(NOTE_FUNCTIONS))
        .bind(version)
        .bind(functions_digest())
        .execute(tx)
        .await
        .map_err(store_error)?;
    tracing::info!(version, "applied the functions");
    Ok(())
}

/// The scripts as text, each noting its version, and the functions at last.
pub(super) fn printed() -> Vec<String> {
    let mut printed = schema::printed(CREATE_VERSION, &MIGRATIONS, ADD_VERSION, "$1");
    let note = NOTE_FUNCTIONS.replace("$1", &functions_version().to_string());
    let note = note.replace("$2", &format!("'{}'", functions_digest()));
    printed.push(format!("{FUNCTIONS}\n{note};\n"));
    printed
}

/// The version that the file of functions states.
pub(super) fn functions_version() -> i64 {
    let stated = FUNCTIONS.lines().find_map(|line| line.strip_prefix("-- Version: "));
    stated.and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn functions_digest() -> String {
    schema::digest(FUNCTIONS)
}

const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
const CREATE_VERSION: &str = "CREATE TABLE IF NOT EXISTS {t}migrations \
    (version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())";
const READ_VERSIONS: &str = "SELECT version::bigint FROM {t}migrations";
const ADD_VERSION: &str = "INSERT INTO {t}migrations (version) VALUES ($1)";
const READ_FUNCTIONS: &str = "SELECT functions_version, functions_digest FROM {t}meta";
const NOTE_FUNCTIONS: &str = "UPDATE {t}meta SET functions_version = $1, functions_digest = $2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_function_raises_their_version() {
        assert_eq!(
            (functions_version(), functions_digest().as_str()),
            (1, "79e525daa4cfefb0"),
            "raise the version if these were released, and write the digest down"
        );
        assert!(!printed().concat().contains("functions_version = $1"));
    }
}
