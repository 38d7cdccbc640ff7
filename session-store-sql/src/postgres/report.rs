//! What an operator wants to know.

use session_core::store::StoreReport;
use session_core::{StoreError, Timestamp};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::db::{Db, store_error};
use super::migrate;
use super::push::Hearing;
use crate::columns::Columns;
use crate::schema;

pub(super) async fn report(db: &Db, hearing: &Hearing) -> Result<StoreReport, StoreError> {
    let row = sqlx::query(db.sql(REPORT)).fetch_one(&db.pool).await.map_err(store_error)?;
    let functions = row.integer("functions")?;
    let mut details = vec![
        ("sequencer".to_owned(), SEQUENCER.to_owned()),
        ("push".to_owned(), hearing.text().to_owned()),
        ("functions".to_owned(), functions.to_string()),
    ];
    if let Some(ended) = row.optional_integer("history_from")? {
        details.push(("history from".to_owned(), Timestamp::from_micros(ended).to_string()));
    }
    let open = row.optional_integer("oldest_open")?;
    if let Some(seconds) = open {
        details.push(("oldest writing transaction".to_owned(), format!("{seconds} s")));
    }
    let mut problems = index_problems(db).await?;
    details.push(schema::indexes_there(INDEXES.len(), problems.len()));
    if functions < migrate::functions_version() {
        problems.push(format!(
            "the functions have version {functions}, this build needs {}",
            migrate::functions_version()
        ));
    }
    if hearing.is_behind_pooler() {
        problems.push("a pooler lends connections out, so pushes are not heard".to_owned());
    }
    if open.is_some_and(|seconds| seconds >= LONG) {
        problems.push("a transaction that stays open keeps the log from being trimmed".to_owned());
    }
    Ok(StoreReport {
        server: format!("PostgreSQL {}", row.text("server")?),
        schema: row.optional_integer("schema")?,
        clock: Timestamp::from_micros(row.integer("clock")?),
        log_from: row.optional_integer("log_from")?.map(Timestamp::from_micros),
        pending: 0,
        details,
        problems,
    })
}

/// Indexes that are missing, or that the server does not use because building them failed.
async fn index_problems(db: &Db) -> Result<Vec<String>, StoreError> {
    let expected: Vec<_> = INDEXES.iter().map(|index| db.names.fill(index)).collect();
    let missing = sqlx::query(db.sql(FIND_INDEXES))
        .bind(expected)
        .fetch_all(&db.pool)
        .await
        .map_err(store_error)?;
    let problem = |row: &PgRow| {
        let name = row.text("name")?;
        let valid: Option<bool> = row.try_get("valid").map_err(store_error)?;
        Ok(match valid {
            None => Some(format!("the index {name} is missing")),
            Some(false) => Some(format!("the index {name} is invalid")),
            Some(true) => None,
        })
    };
    missing.iter().filter_map(|row| problem(row).transpose()).collect()
}

/// A transaction that is open for longer, in seconds, is worth a word.
const LONG: i64 = 3600;
const SEQUENCER: &str = "none: a sequence numbers each entry, and readers go by snapshots";
const INDEXES: [&str; 13] = [
    "{i}sessions_by_user",
    "{i}sessions_by_name",
    "{i}sessions_by_tenant",
    "{i}sessions_by_time",
    "{i}sessions_by_client",
    "{i}sessions_by_tenant_client",
    "{i}sessions_by_due",
    "{i}history_by_user",
    "{i}history_by_name",
    "{i}history_by_tenant",
    "{i}history_by_time",
    "{i}log_by_xid",
    "{i}leases_by_until",
];
const REPORT: &str = "SELECT current_setting('server_version') AS server, \
    (SELECT max(version)::bigint FROM {t}migrations) AS schema, \
    (SELECT functions_version FROM {t}meta) AS functions, \
    {t}clock() AS clock, \
    (SELECT at FROM {t}log ORDER BY seq LIMIT 1) AS log_from, \
    (SELECT min(ended) FROM {t}history) AS history_from, \
    (SELECT max(extract(epoch FROM clock_timestamp() - xact_start))::bigint \
        FROM pg_stat_activity WHERE backend_xid IS NOT NULL) AS oldest_open";
const FIND_INDEXES: &str = "SELECT expected.name, bool_and(i.indisvalid) AS valid \
    FROM unnest($1::text[]) AS expected (name) LEFT JOIN ( \
        SELECT c.relname, i.indisvalid FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid \
        WHERE i.indrelid IN ('{t}sessions'::regclass, '{t}history'::regclass, \
            '{t}log'::regclass, '{t}leases'::regclass)) AS i \
    ON i.relname = expected.name GROUP BY expected.name ORDER BY expected.name";
