//! What an operator wants to know.

use std::collections::HashSet;

use session_core::store::StoreReport;
use session_core::{StoreError, Timestamp};

use super::db::{Db, store_error};
use super::migrate::{self, PROCEDURES, READ_VERSION};
use crate::columns::Columns;
use crate::schema;

impl Db {
    pub(super) async fn report(&self) -> Result<StoreReport, StoreError> {
        let row = sqlx::query(self.sql(STATE)).fetch_one(&self.pool).await.map_err(store_error)?;
        let version: i64 = sqlx::query_scalar(self.sql(READ_VERSION))
            .fetch_one(&self.pool)
            .await
            .map_err(store_error)?;
        let (newest, settled) = (row.integer("newest")?, row.integer("settled")?);
        let procedures = row.integer("procedures")?;
        let mut details = vec![
            ("sequencer".to_owned(), SEQUENCER.to_owned()),
            ("procedures".to_owned(), procedures.to_string()),
            ("newest id of the log".to_owned(), newest.to_string()),
            ("settled up to".to_owned(), settled.to_string()),
        ];
        if let Some(ended) = row.optional_integer("history_from")? {
            let ended = Timestamp::from_micros(ended);
            details.push(("history from".to_owned(), ended.to_string()));
        }
        let mut problems = self.missing_indexes().await?;
        details.push(schema::indexes_there(NEEDED.len(), problems.len()));
        let missing = migrate::missing(&self.pool, self).await?;
        problems.extend(missing.iter().map(|name| format!("the procedure {name} is missing")));
        if procedures < PROCEDURES {
            problems.push(format!(
                "the procedures have version {procedures}, this build makes {PROCEDURES}"
            ));
        }
        Ok(StoreReport {
            server: server(row.text("version")?),
            schema: Some(version),
            clock: Timestamp::from_micros(row.integer("clock")?),
            log_from: row.optional_integer("log_from")?.map(Timestamp::from_micros),
            // An entry has its place when it is committed.
            pending: 0,
            details,
            problems,
        })
    }

    async fn missing_indexes(&self) -> Result<Vec<String>, StoreError> {
        let there: Vec<String> = sqlx::query_scalar(INDEXES)
            .bind(self.names.fill("{t}sessions"))
            .bind(self.names.fill("{t}history"))
            .bind(self.names.fill("{t}leases"))
            .fetch_all(&self.pool)
            .await
            .map_err(store_error)?;
        let there: HashSet<_> = there.into_iter().collect();
        let needed = NEEDED.map(|index| self.names.fill(index));
        let missing = needed.into_iter().filter(|index| !there.contains(index));
        Ok(missing.map(|index| format!("the index {index} is missing")).collect())
    }
}

/// MariaDB names itself in its version, MySQL does not.
fn server(version: &str) -> String {
    let product = if version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
    format!("{product} {version}")
}

const SEQUENCER: &str = "none: the server numbers each entry, and a gate tells which are complete";
pub(super) const STATE: &str = "SELECT CONVERT(VERSION() USING utf8mb4) AS version, \
    TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS clock, procedures, settled, \
    (SELECT COALESCE(MAX(id), 0) FROM {t}log) AS newest, \
    (SELECT at FROM {t}log WHERE id > trimmed ORDER BY id LIMIT 1) AS log_from, \
    (SELECT MIN(ended) FROM {t}history) AS history_from \
    FROM {t}state WHERE only_row = 1";
const INDEXES: &str = "SELECT DISTINCT CONVERT(index_name USING utf8mb4) \
    FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name IN (?, ?, ?)";
const NEEDED: [&str; 11] = [
    "{i}sessions_by_user",
    "{i}sessions_by_name",
    "{i}sessions_by_tenant",
    "{i}sessions_by_time",
    "{i}sessions_by_client",
    "{i}sessions_by_due",
    "{i}history_by_user",
    "{i}history_by_name",
    "{i}history_by_tenant",
    "{i}history_by_time",
    "{i}leases_by_until",
];
