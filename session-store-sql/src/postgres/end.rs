//! Ends many sessions: chooses in one statement without locks, then ends what was chosen in
//! another. The second checks again what may have changed.

use session_core::cleanup::SweepRule;
use session_core::store::{Continuation, EndMany, Ended, EndedBatch, Sweep};
use session_core::{Actor, EndCause, EventKind, StoreError, Timestamp};
use sqlx::postgres::Postgres;

use super::db::{Db, store_error};
use super::sweep::Old;
use crate::rows;
use crate::walk::{self, Walk, Walked};

pub(super) async fn end_many(db: &Db, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
    let Walked { found, next } = choose(db, end, limit).await?;
    let kind = EventKind::Ended(end.cause);
    let ended = end_chosen(db, found, None, kind, end.at, &end.by).await?;
    Ok(EndedBatch { ended, next: next.map(walk::continuation) })
}

pub(super) async fn sweep(db: &Db, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
    let (found, next): (_, Option<Continuation>) = Old::choose(db, sweep, limit).await?;
    let kind = EventKind::Ended(EndCause::Expired);
    let rule = Some(&sweep.rule);
    let ended = end_chosen(db, found, rule, kind, sweep.at, &Actor::System).await?;
    Ok(EndedBatch { ended, next })
}

/// What a selection goes by never changes, except that a session ends.
async fn choose(db: &Db, end: &EndMany, limit: u32) -> Result<Walked<Vec<u8>>, StoreError> {
    let mut walk = Walk::choose(end, limit)?;
    let table = db.names.fill("{t}sessions");
    loop {
        let mut statement = walk.statement::<Postgres>("id, signed_in", &table);
        // The text differs with the number of ids: not worth a place among the prepared ones.
        let chunk = statement.build().persistent(end.selection.ids.is_none());
        let rows = chunk.fetch_all(&db.pool).await.map_err(store_error)?;
        if let Some(walked) = walk.absorb(&rows, walk::id)? {
            return Ok(walked);
        }
    }
}

async fn end_chosen(
    db: &Db,
    chosen: Vec<Vec<u8>>,
    rule: Option<&SweepRule>,
    kind: EventKind,
    at: Timestamp,
    by: &Actor,
) -> Result<Vec<Ended>, StoreError> {
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let found = sqlx::query(db.sql(END))
        .bind(chosen)
        .bind(rule.map(|rule| rule.inactive_before.as_micros()))
        .bind(rule.map(|rule| rule.expired_by.as_micros()))
        .bind(kind.as_str())
        .bind(at.as_micros())
        .bind(by.to_string())
        .fetch_all(&db.pool)
        .await
        .map_err(store_error)?;
    found.iter().map(rows::ended).collect()
}

const END: &str = "SELECT * FROM {t}end_sessions($1, $2, $3, $4, $5, $6)";
