//! Chooses the sessions that a cleanup looks at, along the index of when they are due: at their deadline or
//! earlier. The function that ends what is overdue puts off what is in use again.

use session_core::StoreError;
use session_core::store::{EndedBatch, Sweep, limit_within};

use super::db::{Db, micros, store_error};
use crate::walk::{self, Walked};

/// The ids of up to `limit` sessions that are due, and where to go on.
pub(super) async fn choose(
    db: &Db,
    sweep: &Sweep,
    limit: u32,
) -> Result<Walked<Vec<u8>>, StoreError> {
    let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
    let after = walk::due_after(sweep)?;
    let rows = sqlx::query(db.sql(DUE))
        .bind(micros(sweep.overdue))
        .bind(after.at.as_micros())
        .bind(after.id.as_bytes().to_vec())
        .bind(i64::from(limit))
        .fetch_all(&db.pool)
        .await
        .map_err(store_error)?;
    walk::due(&rows, limit)
}

pub(super) const DUE: &str = "SELECT id, due FROM {t}sessions, \
    (SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint - $1 AS line) AS clock \
    WHERE due < line AND (due, id) > ($2, $3) ORDER BY due, id LIMIT $4";
