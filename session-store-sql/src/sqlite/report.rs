//! What an operator wants to know of the file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use session_core::store::StoreReport;
use session_core::{StoreError, Timestamp};
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::{Pools, checkpoint, migrate, store_error};
use crate::schema;

pub(super) async fn of(pools: &Pools) -> Result<StoreReport, StoreError> {
    let path = pools.writer.file().path();
    let row = sqlx::query(FACTS).fetch_one(pools.readers()?).await.map_err(store_error)?;
    let text = |column| row.try_get::<String, _>(column).map_err(store_error);
    let journal = text("journal_mode")?;
    let missing = missing_indexes(pools.readers()?).await?;
    let mut report = StoreReport {
        server: format!("SQLite {}", text("version")?),
        schema: row.try_get("schema").map_err(store_error)?,
        clock: pools.clock.now(),
        log_from: time(&row, "log_from")?,
        problems: missing.clone(),
        ..StoreReport::default()
    };
    if journal != "wal" {
        report.problems.push(format!(
            "the journal mode is `{journal}` and not `wal`: readers and writers wait for each other"
        ));
    }
    if !pools.after.hints.is_watching() {
        report.problems.push(
            "the hint file cannot be written or watched, or was deleted: changes by other processes are \
             seen late"
                .to_owned(),
        );
    }
    let log = beside(path, "-wal");
    if std::fs::metadata(&log).is_ok_and(|log| log.len() > checkpoint::LARGEST) {
        report.problems.push(
            "the write-ahead log is long: it is used again once no reader of the file stays open, and cut \
             by the commit after that"
                .to_owned(),
        );
    }
    let detail = |name: &str, value| (name.to_owned(), value);
    report.details = vec![
        detail("sequencer", SEQUENCER.to_owned()),
        detail("file", path.display().to_string()),
        detail("file size", size(path.to_owned())),
        detail("journal mode", journal),
        detail("write-ahead log size", size(log)),
        detail("durability", durability(&row)?.to_owned()),
        schema::indexes_there(migrate::indexes().count(), missing.len()),
    ];
    if let Some(ended) = time(&row, "history_from")? {
        report.details.push(detail("history from", ended.to_string()));
    }
    Ok(report)
}

fn time(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, StoreError> {
    let at: Option<i64> = row.try_get(column).map_err(store_error)?;
    Ok(at.map(Timestamp::from_micros))
}

fn durability(row: &SqliteRow) -> Result<&'static str, StoreError> {
    let synchronous: i64 = row.try_get("synchronous").map_err(store_error)?;
    Ok(match synchronous {
        0 => "none",
        1 => "death of the process",
        _ => "power loss",
    })
}

async fn missing_indexes(readers: &SqlitePool) -> Result<Vec<String>, StoreError> {
    let there = sqlx::query_scalar(INDEXES).fetch_all(readers).await.map_err(store_error)?;
    let there: HashSet<String> = there.into_iter().collect();
    let missing = migrate::indexes().filter(|index| !there.contains(*index));
    Ok(missing.map(|index| format!("the index `{index}` is missing")).collect())
}

/// In bytes; a file that cannot be looked at is named as such.
fn size(path: PathBuf) -> String {
    match std::fs::metadata(path) {
        Ok(file) => file.len().to_string(),
        Err(error) => error.to_string(),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

const SEQUENCER: &str = "none: the file numbers each entry, and its one writer is the order";
const FACTS: &str = "SELECT sqlite_version() AS version, \
    (SELECT MAX(version) FROM session_kit_migrations) AS schema, \
    (SELECT at FROM session_kit_log ORDER BY seq LIMIT 1) AS log_from, \
    (SELECT MIN(ended) FROM session_kit_history) AS history_from, \
    (SELECT journal_mode FROM pragma_journal_mode) AS journal_mode, \
    (SELECT synchronous FROM pragma_synchronous) AS synchronous";
const INDEXES: &str = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL";
