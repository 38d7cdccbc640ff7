//! What `doctor` shows.

use redb::{ReadTransaction, ReadableTableMetadata};
use session_core::store::StoreReport;

use crate::file::{BY_USER, Failure, LOG, NEWEST, SCHEMA, SESSIONS};
use crate::log::begins_at;
use crate::settings::clock;

/// Every session has one row in each index. redb counts the rows of a table as they come and go, so
/// this walks none.
pub(crate) fn report(file: &ReadTransaction) -> Result<StoreReport, Failure> {
    let sessions = file.open_table(SESSIONS)?.len()?;
    let indexes = [
        ("newest", file.open_table(NEWEST)?.len()?),
        ("by_user", file.open_table(BY_USER)?.len()?),
    ];
    let torn = indexes.iter().filter(|(_, rows)| *rows != sessions);
    let problem = |(name, rows): &(_, _)| format!("{name} has {rows} rows for {sessions} sessions");
    Ok(StoreReport {
        server: "redb 4".to_owned(),
        schema: Some(SCHEMA),
        clock: clock(),
        log_from: begins_at(&file.open_table(LOG)?)?,
        pending: 0,
        details: vec![("sessions".to_owned(), sessions.to_string())],
        problems: torn.map(problem).collect(),
    })
}
