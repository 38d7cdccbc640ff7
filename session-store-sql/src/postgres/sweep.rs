//! Chooses the sessions that a cleanup ends, along the index of their deadlines.
//!
//! That index goes by the deadline cut to ten minutes. A session in the last ten minutes of the
//! walk may be passed over; a call goes on where the last one ended.

use session_core::store::{Continuation, EndedBatch, PageCursor, PageQuery, Sweep, limit_within};
use session_core::{SessionId, StoreError, Timestamp};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::db::{Db, micros, store_error};
use crate::columns::Columns;
use crate::walk::{self, Walked};

/// The ids of up to `limit` sessions that are overdue, and where to go on.
pub(super) async fn choose(
    db: &Db,
    sweep: &Sweep,
    limit: u32,
) -> Result<Walked<Vec<u8>>, StoreError> {
    let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
    let mut behind = sweep.after.as_ref().map(Continuation::place).transpose()?.unwrap_or(START);
    let (mut found, mut examined) = (Vec::new(), 0);
    loop {
        let chunk = chunk(limit, examined);
        let rows = read(db, sweep, behind, chunk).await?;
        for row in &rows {
            examined += 1;
            behind = walk::position_of(row, "due")?;
            if row.try_get("overdue").map_err(store_error)? {
                found.push(row.bytes("id")?.to_vec());
            }
            if found.len() == limit as usize {
                return Ok(Walked { found, next: Some(behind) });
            }
        }
        if rows.len() < chunk as usize {
            return Ok(Walked { found, next: None });
        }
        if examined >= PageQuery::MAX_EXAMINED {
            return Ok(Walked { found, next: Some(behind) });
        }
    }
}

async fn read(
    db: &Db,
    sweep: &Sweep,
    behind: PageCursor,
    limit: u32,
) -> Result<Vec<PgRow>, StoreError> {
    let rows = sqlx::query(db.sql(OVERDUE))
        .bind(micros(sweep.overdue))
        .bind(behind.at.as_micros())
        .bind(behind.id.as_bytes().to_vec())
        .bind(i64::from(limit));
    rows.fetch_all(&db.pool).await.map_err(store_error)
}

/// Small where enough is found soon, large where nearly everything is passed over.
fn chunk(limit: u32, examined: u32) -> u32 {
    let left = PageQuery::MAX_EXAMINED.saturating_sub(examined).max(1);
    (limit + 1).max(GROWTH * examined).min(left)
}

const GROWTH: u32 = 4;
/// Before every session.
const START: PageCursor =
    PageCursor { at: Timestamp::from_micros(i64::MIN), id: SessionId::from_bytes([0; 16]) };
pub(super) const OVERDUE: &str = "SELECT id, due, deadline < line AS overdue FROM {t}sessions, \
    (SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint - $1 AS line) AS clock \
    WHERE due < line AND (due, id) > ($2, $3) ORDER BY due, id LIMIT $4";
