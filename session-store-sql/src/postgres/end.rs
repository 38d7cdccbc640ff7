//! Ends many sessions: chooses in one statement without locks, then ends what was chosen in
//! another. The second checks again what may have changed, and moves the records into the history.

use session_core::store::{Continuation, EndMany, Ended, EndedBatch, Ending, Recheck, Sweep};
use session_core::{DeviceInfo, StoreError, Timestamp};
use sqlx::postgres::Postgres;

use super::db::{Db, micros, store_error};
use super::sweep;
use crate::filter::CHOSEN;
use crate::rows;
use crate::walk::{self, Walk, Walked};

pub(super) async fn end_many(db: &Db, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
    end_chosen(db, choose(db, end, limit).await?, end.into(), &end.into()).await
}

pub(super) async fn sweep(db: &Db, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
    let chosen = sweep::choose(db, sweep, limit).await?;
    end_chosen(db, chosen, sweep.into(), &sweep.into()).await
}

/// What a selection goes by never changes, except that a session is used or ends.
async fn choose(db: &Db, end: &EndMany, limit: u32) -> Result<Walked<Vec<u8>>, StoreError> {
    let mut walk = Walk::choose(end, limit)?;
    let table = db.names.fill("{t}sessions");
    loop {
        let mut statement = walk.statement::<Postgres>(CHOSEN, &table);
        // The text differs with the number of ids: not worth a place among the prepared ones.
        let chunk = statement.build().persistent(end.selection.ids.is_none());
        let rows = chunk.fetch_all(&db.pool).await.map_err(store_error)?;
        if let Some(walked) = walk.absorb(&rows, walk::id)? {
            return Ok(walked);
        }
    }
}

/// Ends those of the chosen sessions that are still there and for which the recheck holds.
async fn end_chosen(
    db: &Db,
    Walked { found, next }: Walked<Vec<u8>>,
    recheck: Recheck,
    ending: &Ending,
) -> Result<EndedBatch, StoreError> {
    let next = next.map(Continuation::at);
    if found.is_empty() {
        return Ok(EndedBatch { ended: Vec::new(), next });
    }
    let rows = sqlx::query(db.sql(END))
        .bind(found)
        .bind(recheck.overdue.map(micros))
        .bind(recheck.accessed_before.map(Timestamp::as_micros))
        .bind(ending.cause.as_str())
        .bind(ending.at.as_micros())
        .bind(ending.by.to_string())
        .bind(ending.from.as_ref().map(DeviceInfo::as_str))
        .bind(db.keeps_history())
        .fetch_all(&db.pool)
        .await
        .map_err(store_error)?;
    let ended: Result<Vec<Ended>, _> = rows.iter().map(rows::ended).collect();
    Ok(EndedBatch { ended: ended?, next })
}

const END: &str = "SELECT * FROM {t}end_sessions($1, $2, $3, $4, $5, $6, $7, $8)";
