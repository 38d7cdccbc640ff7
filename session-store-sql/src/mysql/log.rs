//! Reads the log by numbers, which are in the order of commits and have no holes.

use session_core::store::{Cursor, LogPage};
use session_core::{StoreError, Timestamp};
use sqlx::mysql::{MySqlPool, MySqlRow};

use super::store_error;
use crate::names::Names;
use crate::position::Position;

pub(super) async fn since(
    pool: &MySqlPool,
    names: &Names,
    cursor: Option<&Cursor>,
    limit: u32,
) -> Result<LogPage, StoreError> {
    let Some(seen) = cursor.and_then(Position::parse) else {
        return at_the_end(pool, names, cursor.is_some()).await;
    };
    // MariaDB makes a snapshot while others commit, and it may have what depends on a change and not
    // the change. The next snapshot has both: what is still missing then has been cut.
    for _ in 0..2 {
        let found = sqlx::query(names.sql(SINCE))
            .bind(seen.seq)
            .bind(i64::from(limit) + 2)
            .fetch_all(pool)
            .await
            .map_err(store_error)?;
        if let Some(page) = seen.read_on(&found, limit)? {
            return Ok(page);
        }
    }
    at_the_end(pool, names, true).await
}

pub(super) async fn trim(
    pool: &MySqlPool,
    names: &Names,
    before: Timestamp,
    limit: u32,
) -> Result<u32, StoreError> {
    let trimmed = sqlx::query(names.sql(TRIM))
        .bind(before.as_micros())
        .bind(limit)
        .execute(pool)
        .await
        .map_err(store_error)?;
    Ok(u32::try_from(trimmed.rows_affected()).unwrap_or(u32::MAX))
}

async fn at_the_end(pool: &MySqlPool, names: &Names, gap: bool) -> Result<LogPage, StoreError> {
    let row: Option<MySqlRow> =
        sqlx::query(names.sql(LAST)).fetch_optional(pool).await.map_err(store_error)?;
    let position = row.as_ref().map(Position::of).transpose()?.unwrap_or(Position::START);
    Ok(LogPage { events: Vec::new(), next: position.cursor(), more: false, gap })
}

pub(super) const SINCE: &str = "SELECT seq, tag, CONVERT(kind USING utf8mb4) AS kind, at, \
    CONVERT(actor USING utf8mb4) AS actor, CONVERT(tenant USING utf8mb4) AS tenant, \
    CONVERT(user_id USING utf8mb4) AS user_id, session_id \
    FROM {t}log WHERE seq >= ? ORDER BY seq LIMIT ?";
pub(super) const LAST: &str = "SELECT seq, tag FROM {t}log ORDER BY seq DESC LIMIT 1";
pub(super) const TRIM: &str = "DELETE FROM {t}log WHERE at < ? \
    AND seq < (SELECT last FROM {t}counter) ORDER BY seq LIMIT ?";
