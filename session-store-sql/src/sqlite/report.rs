//! What an operator wants to know of the file.

use std::collections::HashSet;
use std::time::SystemTime;

use session_core::store::StoreReport;
use session_core::{StoreError, Timestamp};
use sqlx::sqlite::SqlitePool;

use super::{migrate, store_error};

pub(super) async fn of(readers: &SqlitePool) -> Result<StoreReport, StoreError> {
    let mut report = StoreReport {
        server: format!("SQLite {}", text(readers, "SELECT sqlite_version()").await?),
        schema: ask(readers, migrate::READ_VERSION).await?,
        // The file has no other clock than its host's.
        clock: Timestamp::EPOCH.plus(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()),
        log_from: ask(readers, LOG_FROM).await?.map(Timestamp::from_micros),
        ..StoreReport::default()
    };
    for (name, pragma) in PRAGMAS {
        report.details.push((name.to_owned(), text(readers, pragma).await?));
    }
    let mode = text(readers, "PRAGMA journal_mode").await?;
    if mode != "wal" {
        report.problems.push(format!(
            "the journal mode is `{mode}`, not `wal`: readers and writers wait for each other"
        ));
    }
    let indexes = sqlx::query_scalar(INDEXES).fetch_all(readers).await.map_err(store_error)?;
    let indexes: HashSet<String> = indexes.into_iter().collect();
    for index in migrate::indexes().filter(|index| !indexes.contains(*index)) {
        report.problems.push(format!("the index `{index}` is missing"));
    }
    Ok(report)
}

async fn ask(readers: &SqlitePool, question: &'static str) -> Result<Option<i64>, StoreError> {
    let answer = sqlx::query_scalar(question).fetch_optional(readers).await;
    Ok(answer.map_err(store_error)?.flatten())
}

/// Every answer as text, whatever its type.
async fn text(readers: &SqlitePool, question: &'static str) -> Result<String, StoreError> {
    use sqlx::{Row, ValueRef};
    let row = sqlx::query(question).fetch_one(readers).await.map_err(store_error)?;
    let is_null = row.try_get_raw(0).map_err(store_error)?.is_null();
    if is_null {
        return Ok(String::new());
    }
    let number: Result<i64, _> = row.try_get(0);
    number.map_or_else(|_| row.try_get(0).map_err(store_error), |number| Ok(number.to_string()))
}

const PRAGMAS: [(&str, &str); 0] = [];
const LOG_FROM: &str = "SELECT at FROM session_kit_log ORDER BY seq LIMIT 1";
const INDEXES: &str = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL";
