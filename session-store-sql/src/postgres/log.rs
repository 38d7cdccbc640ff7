//! Reads the log by snapshots: whatever is visible now and was not visible then.

use serde::{Deserialize, Serialize};
use session_core::store::{Cursor, LogPage};
use session_core::{StoreError, StoreErrorKind, Timestamp};
use sqlx::Row;
use sqlx::postgres::{PgPool, PgRow};

use super::store_error;
use crate::columns::Columns;
use crate::names::Names;
use crate::rows;

/// What a reader has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// Which log.
    incarnation: String,
    /// Everything that is visible in this snapshot.
    all_of: String,
    /// Besides, in the midst of a longer read: of what is visible in this one ...
    #[serde(default)]
    some_of: Option<String>,
    /// ... everything up to this number.
    #[serde(default)]
    up_to: i64,
    /// The newest entry that was seen, and its mark; zeros for none.
    newest: (i64, i64),
}

pub(super) async fn since(
    pool: &PgPool,
    names: &Names,
    cursor: Option<&Cursor>,
    limit: u32,
) -> Result<LogPage, StoreError> {
    let seen = cursor.and_then(|cursor| serde_json::from_slice::<Seen>(&cursor.0).ok());
    match seen {
        Some(seen) if seen.is_well_formed() => read(pool, names, seen, limit).await,
        _ => at_the_end(pool, names, cursor.is_some()).await,
    }
}

pub(super) async fn trim(
    pool: &PgPool,
    names: &Names,
    before: Timestamp,
    limit: u32,
) -> Result<u32, StoreError> {
    let trimmed: i32 = sqlx::query_scalar(names.sql(TRIM))
        .bind(before.as_micros())
        .bind(i32::try_from(limit).unwrap_or(i32::MAX))
        .fetch_one(pool)
        .await
        .map_err(store_error)?;
    Ok(u32::try_from(trimmed).unwrap_or(0))
}

async fn read(pool: &PgPool, names: &Names, seen: Seen, limit: u32) -> Result<LogPage, StoreError> {
    let found = sqlx::query(names.sql(SINCE))
        .bind(&seen.all_of)
        .bind(&seen.some_of)
        .bind(seen.up_to)
        .bind(i64::from(limit) + 1)
        .bind(&seen.incarnation)
        .bind(seen.newest.0)
        .bind(seen.newest.1)
        .fetch_all(pool)
        .await
        .map_err(store_error)?;
    let Some(head) = found.first() else {
        return Err(StoreError::internal("the log has lost its head"));
    };
    if !get::<bool>(head, "continues")? {
        return at_the_end(pool, names, true).await;
    }
    let entries: Vec<_> =
        found.iter().filter(|row| matches!(row.optional_integer("seq"), Ok(Some(_)))).collect();
    let more = entries.len() > limit as usize;
    let entries = &entries[..entries.len().min(limit as usize)];
    let (events, unreadable): (Vec<_>, Vec<_>) =
        entries.iter().map(|row| rows::event(*row)).partition(Result::is_ok);
    let next = seen.and(entries, more, head.text("snapshot")?)?;
    Ok(LogPage {
        events: events.into_iter().flatten().collect(),
        // What was read belongs to the snapshot that it was begun with: look once more.
        more: more || next.is_continued,
        next: next.seen.cursor()?,
        // An entry of a newer version must not stop the reader: it counts as missed.
        gap: !unreadable.is_empty(),
    })
}

async fn at_the_end(pool: &PgPool, names: &Names, gap: bool) -> Result<LogPage, StoreError> {
    sqlx::query(names.sql(ADOPT)).execute(pool).await.map_err(store_error)?;
    let row = sqlx::query(names.sql(END)).fetch_one(pool).await.map_err(store_error)?;
    let seen = Seen {
        incarnation: row.text("incarnation")?.to_owned(),
        all_of: row.text("snapshot")?.to_owned(),
        some_of: None,
        up_to: 0,
        newest: (row.integer("seq")?, row.integer("tag")?),
    };
    Ok(LogPage { events: Vec::new(), next: seen.cursor()?, more: false, gap })
}

struct Next {
    seen: Seen,
    is_continued: bool,
}

impl Seen {
    /// A snapshot is numbers, colons and commas; anything else would fail in the database.
    fn is_well_formed(&self) -> bool {
        let snapshot = |text: &str| {
            let mut parts = text.split(':');
            let number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u64>().is_ok());
            let ends = number(parts.next()) && number(parts.next());
            let list = parts.next().is_some_and(|list| {
                list.is_empty() || list.split(',').all(|xid| xid.parse::<u64>().is_ok())
            });
            ends && list && parts.next().is_none() && text.len() < 64 * 1024
        };
        snapshot(&self.all_of) && self.some_of.as_deref().is_none_or(snapshot)
    }

    /// What has been seen after these entries.
    fn and(mut self, entries: &[&PgRow], more: bool, now: &str) -> Result<Next, StoreError> {
        if let Some(last) = entries.last() {
            let last = (last.integer("seq")?, last.integer("tag")?);
            self.newest = self.newest.max(last);
            self.up_to = last.0;
        }
        let target = self.some_of.take().unwrap_or_else(|| now.to_owned());
        if more {
            self.some_of = Some(target);
            return Ok(Next { seen: self, is_continued: false });
        }
        // Done with the target; whatever has come since is for the next read.
        let is_continued = target != now;
        self.all_of = target;
        self.up_to = 0;
        Ok(Next { seen: self, is_continued })
    }

    fn cursor(&self) -> Result<Cursor, StoreError> {
        let bytes = serde_json::to_vec(self);
        bytes.map(Cursor).map_err(|error| StoreError::internal(error))
    }
}

fn get<'r, T>(row: &'r PgRow, column: &'static str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column).map_err(store_error)
}

/// One statement, so one snapshot: the head says whether the log continues where the reader left
/// it, the rest are the entries: those of higher numbers than the newest that was seen, and those of
/// lower ones that were committed late. (Higher ones were not seen whatever their transaction: a
/// server that dies may give a failed transaction's id again. `OFFSET 0` keeps the planner from
/// looking for late ones along the numbers.)
pub(super) const SINCE: &str = "SELECT head.*, entry.* FROM ( \
        SELECT pg_current_snapshot()::text AS snapshot, \
            meta.incarnation = $5 \
            AND pg_snapshot_xmax($1::text::pg_snapshot) \
                <= pg_snapshot_xmax(pg_current_snapshot()) \
            AND pg_visible_in_snapshot(meta.trimmed_xid, $1::text::pg_snapshot) \
            AND NOT EXISTS (SELECT FROM pg_snapshot_xip($1::text::pg_snapshot) AS open \
                WHERE open <= meta.trimmed_xid) \
            AND meta.trimmed_seq <= $6 \
            AND (meta.trimmed_seq = $6 OR EXISTS \
                (SELECT FROM {t}log WHERE seq = $6 AND tag = $7)) AS continues \
        FROM {t}meta AS meta) AS head \
    LEFT JOIN LATERAL ( \
        SELECT * FROM ( \
            (SELECT seq, tag, kind, at, actor, tenant, user_id, session_id FROM {t}log \
            WHERE seq > GREATEST($3, $6) \
            AND ($2::text IS NULL OR pg_visible_in_snapshot(xid, $2::text::pg_snapshot)) \
            ORDER BY seq LIMIT $4) \
            UNION ALL \
            (SELECT seq, tag, kind, at, actor, tenant, user_id, session_id FROM \
                (SELECT * FROM {t}log WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot) \
                AND xid < pg_snapshot_xmax(pg_current_snapshot()) OFFSET 0) AS recent \
            WHERE NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot) \
            AND ($2::text IS NULL OR pg_visible_in_snapshot(xid, $2::text::pg_snapshot)) \
            AND seq > $3 AND seq <= $6 ORDER BY seq LIMIT $4)) AS unseen \
        ORDER BY seq LIMIT $4) AS entry ON true";
/// A dump has the transaction ids of the server it is from; where it was restored on one that has not
/// come so far, its log would never end. It gets this server's, and is another log from now on.
pub(super) const ADOPT: &str = "WITH foreign_ids AS ( \
        SELECT FROM {t}meta WHERE trimmed_xid >= pg_snapshot_xmax(pg_current_snapshot()) \
        OR EXISTS (SELECT FROM {t}log WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))), \
    renewed AS (UPDATE {t}meta SET incarnation = gen_random_uuid()::text, trimmed_xid = '0' \
        WHERE EXISTS (SELECT FROM foreign_ids)) \
    UPDATE {t}log SET xid = pg_current_xact_id() WHERE EXISTS (SELECT FROM foreign_ids) \
        AND xid >= pg_snapshot_xmax(pg_current_snapshot())";
pub(super) const END: &str = "SELECT meta.incarnation, pg_current_snapshot()::text AS snapshot, \
    COALESCE(newest.seq, 0) AS seq, COALESCE(newest.tag, 0) AS tag \
    FROM {t}meta AS meta LEFT JOIN LATERAL \
        (SELECT seq, tag FROM {t}log ORDER BY seq DESC LIMIT 1) AS newest ON true";
const TRIM: &str = "SELECT {t}trim_log($1, $2)";
