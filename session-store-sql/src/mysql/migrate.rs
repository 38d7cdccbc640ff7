//! Brings the schema up to date, one node at a time: numbered scripts that make tables, and the
//! procedures, which are made again when they change. MySQL commits each definition by itself, so
//! every script can be run again from its beginning.

use std::time::Duration;

use session_core::StoreError;
use sqlx::mysql::{MySql, MySqlConnection};
use sqlx::{Connection, Executor};

use super::db::{Db, store_error};
use crate::schema;

const MIGRATIONS: [&str; 1] = [include_str!("../../migrations/mysql/0001_sessions.sql")];

/// Older and newer nodes share the procedures: see the rule at the beginning of the first file.
const PROCEDURE_FILES: [&str; 7] = [
    include_str!("../../migrations/mysql/procedures/commit.sql"),
    include_str!("../../migrations/mysql/procedures/end.sql"),
    include_str!("../../migrations/mysql/procedures/history.sql"),
    include_str!("../../migrations/mysql/procedures/touch.sql"),
    include_str!("../../migrations/mysql/procedures/policy.sql"),
    include_str!("../../migrations/mysql/procedures/read.sql"),
    include_str!("../../migrations/mysql/procedures/log.sql"),
];

/// Raised with every change of a procedure. A node makes them again if the database has older ones or
/// others of the same version, or lacks one, and leaves newer ones alone.
pub(super) const PROCEDURES: i64 = 1;

pub(super) async fn run(db: &Db) -> Result<(), StoreError> {
    // The lock is the connection's: one of its own, closed at the end whatever happens.
    let mut connection = db.pool.acquire().await.map_err(store_error)?.detach();
    let locked: Option<i64> = sqlx::query_scalar("SELECT GET_LOCK(?, ?)")
        .bind(&db.names.channel)
        .bind(LOCK_WAIT.as_secs())
        .fetch_one(&mut connection)
        .await
        .map_err(store_error)?;
    if locked != Some(1) {
        return Err(StoreError::timed_out("GET_LOCK", LOCK_WAIT));
    }
    make_tables(&mut connection, db).await?;
    make_procedures(&mut connection, db).await?;
    connection.close().await.map_err(store_error)
}

async fn make_tables(connection: &mut MySqlConnection, db: &Db) -> Result<(), StoreError> {
    let create = sqlx::query(db.sql(CREATE_VERSION));
    create.execute(&mut *connection).await.map_err(store_error)?;
    let versions: Vec<i64> = sqlx::query_scalar(db.sql(READ_VERSIONS))
        .fetch_all(&mut *connection)
        .await
        .map_err(store_error)?;
    for (number, script) in schema::missing(&versions, &MIGRATIONS)? {
        sqlx::raw_sql(db.sql(script)).execute(&mut *connection).await.map_err(store_error)?;
        let add = sqlx::query(db.sql(ADD_VERSION)).bind(number);
        add.execute(&mut *connection).await.map_err(store_error)?;
        tracing::info!(number, "applied a migration");
    }
    Ok(())
}

async fn make_procedures(connection: &mut MySqlConnection, db: &Db) -> Result<(), StoreError> {
    let (in_force, text): (i64, Vec<u8>) = sqlx::query_as(db.sql(READ_PROCEDURES))
        .fetch_one(&mut *connection)
        .await
        .map_err(store_error)?;
    let same = in_force == PROCEDURES && text == digest().as_bytes();
    if in_force > PROCEDURES || (same && missing(&mut *connection, db).await?.is_empty()) {
        return Ok(());
    }
    for file in PROCEDURE_FILES {
        sqlx::raw_sql(db.sql(file)).execute(&mut *connection).await.map_err(store_error)?;
    }
    let note = sqlx::query(db.sql(NOTE_PROCEDURES)).bind(PROCEDURES).bind(digest());
    note.execute(&mut *connection).await.map_err(store_error)?;
    tracing::info!(version = PROCEDURES, "made the procedures");
    Ok(())
}

/// The procedures that the database lacks, as after a restore of a dump without routines.
pub(super) async fn missing<'c>(
    connection: impl Executor<'c, Database = MySql>,
    db: &Db,
) -> Result<Vec<String>, StoreError> {
    let there: Vec<String> =
        sqlx::query_scalar(READ_NAMES).fetch_all(connection).await.map_err(store_error)?;
    let needed = procedures().map(|name| db.names.fill(name));
    Ok(needed.filter(|name| !there.contains(name)).collect())
}

fn procedures() -> impl Iterator<Item = &'static str> {
    let definitions =
        PROCEDURE_FILES.iter().flat_map(|file| file.split("\nCREATE PROCEDURE ").skip(1));
    definitions.filter_map(|rest| rest.split('(').next())
}

fn digest() -> String {
    schema::digest(&PROCEDURE_FILES.join("\n"))
}

/// The scripts as text, each noting its version, and the procedures. The client program takes a
/// semicolon for the end of a statement, also in the middle of a procedure, unless told otherwise.
pub(super) fn printed() -> Vec<String> {
    let mut scripts = schema::printed(CREATE_VERSION, &MIGRATIONS, ADD_VERSION, "?");
    let note = NOTE_PROCEDURES.replacen('?', &PROCEDURES.to_string(), 1);
    let note = note.replacen('?', &format!("'{}'", digest()), 1);
    let procedures = PROCEDURE_FILES.join("\n");
    let procedures = procedures.replace("\nCREATE PROCEDURE", "\nDELIMITER //\nCREATE PROCEDURE");
    let procedures = procedures.replace("\nEND;\n", "\nEND//\nDELIMITER ;\n");
    scripts.push(format!("{procedures}\n{note};\n"));
    scripts
}

const LOCK_WAIT: Duration = Duration::from_secs(60);
const CREATE_VERSION: &str = "CREATE TABLE IF NOT EXISTS {t}migrations \
    (version BIGINT NOT NULL PRIMARY KEY) ENGINE = InnoDB";
const READ_VERSIONS: &str = "SELECT version FROM {t}migrations";
pub(super) const READ_VERSION: &str = "SELECT COALESCE(MAX(version), 0) FROM {t}migrations";
const ADD_VERSION: &str = "INSERT INTO {t}migrations (version) VALUES (?)";
const READ_PROCEDURES: &str =
    "SELECT procedures, procedures_digest FROM {t}state WHERE only_row = 1";
const NOTE_PROCEDURES: &str =
    "UPDATE {t}state SET procedures = ?, procedures_digest = ? WHERE only_row = 1";
const READ_NAMES: &str = "SELECT CONVERT(routine_name USING utf8mb4) \
    FROM information_schema.routines \
    WHERE routine_schema = DATABASE() AND routine_type = 'PROCEDURE'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_procedure_raises_their_version() {
        assert_eq!(
            (PROCEDURES, digest().as_str()),
            (1, "1af50f8f0fcc5195"),
            "raise PROCEDURES if these were released, and write the digest down"
        );
        assert!(!printed().concat().contains("procedures = ?"));
        assert!(procedures().any(|name| name == "{t}commit_1"));
    }
}
