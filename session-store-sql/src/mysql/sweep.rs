//! Chooses sessions for the cleanup: what is due first. A session is due at its deadline or earlier; the
//! procedure that ends what is overdue puts off what is in use again.

use session_core::StoreError;
use session_core::store::{Continuation, EndedBatch, Sweep, limit_within};

use super::db::{Db, micros, store_error};
use crate::walk;

impl Db {
    /// Chooses, then ends those that are still overdue.
    pub(super) async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
        let after = walk::due_after(sweep)?;
        let rows = sqlx::query(self.sql(DUE))
            .bind(after.at.as_micros())
            .bind(micros(sweep.overdue))
            .bind(after.at.as_micros())
            .bind(after.id.as_bytes().to_vec())
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(store_error)?;
        let chosen = walk::due(&rows, limit)?;
        let ended = self.end_chosen(chosen.found, sweep.into(), &sweep.into()).await?;
        Ok(EndedBatch { ended, next: chosen.next.map(Continuation::at) })
    }
}

pub(super) const DUE: &str = "SELECT id, due FROM {t}sessions \
    WHERE due >= ? \
    AND due < TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) - ? \
    AND (due > ? OR id > ?) ORDER BY due, id LIMIT ?";
