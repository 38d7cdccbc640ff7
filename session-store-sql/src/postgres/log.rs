//! Reads the log by snapshots: everything that is visible now and was not visible then.
//!
//! Three kinds of entries were not seen by a reader that has read up to an entry in a snapshot:
//! - Those of higher numbers, in any transaction. A server that dies may give the id of a
//!   failed transaction to another one, so for them the snapshot is not asked.
//! - Those of lower numbers whose transaction was open in the snapshot.
//! - Those of lower numbers whose transaction had an id already, but was too new for the snapshot.
//!   A transaction has its id before it draws a number, so one that got its id after the snapshot
//!   has higher numbers only. The ids in between are few, however far behind the reader is.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use session_core::store::{Cursor, Entries, LogPage, PageQuery, limit_within};
use session_core::{StoreError, Timestamp};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow, Postgres};

use super::db::{Db, micros, store_error};
use crate::columns::Columns;
use crate::names::Names;
use crate::{last_read, line, rows};

/// What a reader has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// Which log.
    incarnation: String,
    /// Everything that is visible in this snapshot.
    all_of: Snapshot,
    /// Besides, in the midst of a longer read: of what is visible in this one ...
    some_of: Option<Snapshot>,
    /// ... everything up to this number.
    up_to: i64,
    /// The newest entry that was seen, and its mark; zeros for none.
    newest: (i64, i64),
    /// The entries that were read last, without the newest. A failover that loses what was committed
    /// last may leave the newest and lose one of these.
    last: Vec<(i64, i64)>,
}

/// What a moment sees of the transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Snapshot {
    /// As PostgreSQL writes it.
    text: String,
    /// No transaction had this id or a later one when the snapshot was taken.
    next: i64,
}

/// A read of the log.
#[derive(Debug)]
struct Read<'r> {
    names: &'r Names,
    /// Where it begins; none for the end.
    from: Option<Seen>,
    /// Whether the reader has a cursor.
    goes_on: bool,
    entries: Entries,
    limit: u32,
}

pub(super) async fn since(
    db: &Db,
    cursor: Option<&Cursor>,
    entries: Entries,
    limit: u32,
) -> Result<LogPage, StoreError> {
    let seen = cursor.and_then(|cursor| serde_json::from_slice::<Seen>(&cursor.0).ok());
    let from = seen.filter(Seen::is_well_formed);
    let (goes_on, limit) = (cursor.is_some(), limit_within(limit, LogPage::MAX_LIMIT));
    let read = Read { names: &db.names, from, goes_on, entries, limit };
    db.line.read(&read).await
}

pub(super) async fn trim(db: &Db, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
    let trimmed: i32 = sqlx::query_scalar(db.sql(TRIM))
        .bind(micros(older_than))
        .bind(limit_within(limit, PageQuery::MAX_EXAMINED).cast_signed())
        .fetch_one(&db.pool)
        .await
        .map_err(store_error)?;
    Ok(u32::try_from(trimmed).unwrap_or(0))
}

impl line::Read<Postgres> for Read<'_> {
    async fn page(&self, connection: &mut PgConnection) -> Result<LogPage, StoreError> {
        let Some(seen) = &self.from else {
            return self.at_the_end(connection, self.goes_on).await;
        };
        let rows = self.rows(connection, seen).await?;
        let head = rows.first().ok_or_else(|| StoreError::internal("the log has lost its head"))?;
        if !get::<bool>(head, "continues")? {
            return self.at_the_end(connection, true).await;
        }
        let now = Snapshot::of(head)?;
        let last = rows.last().filter(|row| matches!(row.optional_integer("seq"), Ok(Some(_))));
        let more = last.map(|row| row.integer("examined")).transpose()? > Some(self.limit.into());
        let read = if last.is_some() { &rows[..] } else { &[] };
        let next = seen.clone().and(read, more, &now)?;
        let wanted = rows.iter().filter(|row| matches!(row.try_get("wanted"), Ok(Some(true))));
        let cursor = next.seen.cursor()?;
        // What was read belongs to the snapshot that the read was begun with: look once more.
        let more = more || next.is_continued;
        Ok(LogPage::new(wanted.map(rows::event), cursor, more, clock(head)?))
    }
}

impl Read<'_> {
    async fn rows(
        &self,
        connection: &mut PgConnection,
        seen: &Seen,
    ) -> Result<Vec<PgRow>, StoreError> {
        let (last, last_tags): (Vec<_>, Vec<_>) = seen.last.iter().copied().unzip();
        let rows = sqlx::query(self.names.sql(SINCE))
            .bind(&seen.all_of.text)
            .bind(seen.some_of.as_ref().map(|snapshot| &snapshot.text))
            .bind(seen.up_to)
            .bind(i64::from(self.limit) + 1)
            .bind(&seen.incarnation)
            .bind(seen.newest.0)
            .bind(seen.newest.1)
            .bind(seen.all_of.next.to_string())
            .bind(self.entries.unwanted_kinds().collect::<Vec<_>>())
            .bind(last)
            .bind(last_tags);
        rows.fetch_all(connection).await.map_err(store_error)
    }

    async fn at_the_end(
        &self,
        connection: &mut PgConnection,
        gap: bool,
    ) -> Result<LogPage, StoreError> {
        let adopt = sqlx::query(self.names.sql(ADOPT));
        adopt.execute(&mut *connection).await.map_err(store_error)?;
        let end = sqlx::query(self.names.sql(END));
        let row = end.fetch_one(connection).await.map_err(store_error)?;
        let seen = Seen {
            incarnation: row.text("incarnation")?.to_owned(),
            all_of: Snapshot::of(&row)?,
            some_of: None,
            up_to: 0,
            newest: (row.integer("seq")?, row.integer("tag")?),
            last: Vec::new(),
        };
        Ok(LogPage::at_end(seen.cursor()?, gap, clock(&row)?))
    }
}

struct Next {
    seen: Seen,
    is_continued: bool,
}

impl Seen {
    fn is_well_formed(&self) -> bool {
        self.all_of.is_well_formed()
            && self.some_of.as_ref().is_none_or(Snapshot::is_well_formed)
            && self.last.len() <= last_read::REMEMBERED
    }

    /// What has been seen after a page of these entries.
    fn and(mut self, page: &[PgRow], more: bool, now: &Snapshot) -> Result<Next, StoreError> {
        let page = page.iter().map(|row| Ok((row.integer("seq")?, row.integer("tag")?)));
        let page = page.collect::<Result<Vec<_>, StoreError>>()?;
        self.up_to = page.last().map_or(self.up_to, |last| last.0);
        (self.newest, self.last) = noted(self.newest, &self.last, &page);
        let target = self.some_of.take().unwrap_or_else(|| now.clone());
        if more {
            self.some_of = Some(target);
            return Ok(Next { seen: self, is_continued: false });
        }
        // Done with the target; what has come since is for the next read.
        let is_continued = target.text != now.text;
        self.all_of = target;
        self.up_to = 0;
        Ok(Next { seen: self, is_continued })
    }

    fn cursor(&self) -> Result<Cursor, StoreError> {
        serde_json::to_vec(self).map(Cursor).map_err(StoreError::internal)
    }
}

impl Snapshot {
    fn of(row: &PgRow) -> Result<Self, StoreError> {
        Ok(Self { text: row.text("snapshot")?.to_owned(), next: row.integer("next_xid")? })
    }

    /// A snapshot is numbers, colons and commas; anything else would fail in the database.
    fn is_well_formed(&self) -> bool {
        let mut parts = self.text.split(':');
        let number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u64>().is_ok());
        let ends = number(parts.next()) && number(parts.next());
        let list = parts.next().is_some_and(|list| {
            list.is_empty() || list.split(',').all(|xid| xid.parse::<u64>().is_ok())
        });
        ends && list && parts.next().is_none() && self.text.len() < 64 * 1024 && self.next >= 0
    }
}

/// The newest entry and the others that were read last, after a page. Late ones count as read last:
/// each may have been committed after all of its page.
fn noted(
    newest: (i64, i64),
    last: &[(i64, i64)],
    page: &[(i64, i64)],
) -> ((i64, i64), Vec<(i64, i64)>) {
    let (late, new) = page.split_at(page.partition_point(|entry| *entry < newest));
    let next = new.last().copied().unwrap_or(newest);
    let before = (newest != next && newest != NONE).then_some(newest);
    let read = last.iter().chain(&before).chain(new).chain(late);
    let read = read.copied().filter(|entry| *entry != next).collect();
    (next, last_read::remembered(read))
}

fn clock(row: &PgRow) -> Result<Timestamp, StoreError> {
    row.integer("clock").map(Timestamp::from_micros)
}

fn get<'r, T>(row: &'r PgRow, column: &'static str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column).map_err(store_error)
}

/// Before the first entry.
const NONE: (i64, i64) = (0, 0);

/// One statement, so one snapshot. The head says whether the log continues where the reader left
/// it. The rest are the entries that the reader wants, and the last one that the page examined.
///
/// `age` counts from the next id that the server gives. `OFFSET 0` keeps the planner from working
/// the head out for each entry, and from looking for late entries along the numbers; `LIMIT 1` tells it
/// that there is one head.
pub(super) const SINCE: &str = "SELECT head.*, entry.* FROM ( \
        SELECT pg_current_snapshot()::text AS snapshot, {t}clock() AS clock, \
            pg_snapshot_xmax(pg_current_snapshot())::text::bigint \
                + age(pg_snapshot_xmax(pg_current_snapshot())::xid) AS next_xid, meta.foreign_to, \
            meta.incarnation = $5 \
            AND pg_snapshot_xmax($1::text::pg_snapshot) \
                <= pg_snapshot_xmax(pg_current_snapshot()) \
            AND pg_visible_in_snapshot(meta.trimmed_xid, $1::text::pg_snapshot) \
            AND NOT EXISTS (SELECT FROM pg_snapshot_xip($1::text::pg_snapshot) AS open \
                WHERE open <= meta.trimmed_xid) \
            AND meta.trimmed_seq <= $6 \
            AND (meta.trimmed_seq = $6 OR EXISTS \
                (SELECT FROM {t}log WHERE seq = $6 AND tag = $7)) \
            AND NOT EXISTS (SELECT FROM unnest($10::bigint[], $11::bigint[]) AS last (seq, tag) \
                WHERE last.seq > meta.trimmed_seq AND last.tag IS DISTINCT FROM \
                    (SELECT tag FROM {t}log WHERE seq = last.seq)) AS continues \
        FROM (SELECT * FROM {t}meta LIMIT 1) AS meta OFFSET 0) AS head \
    LEFT JOIN LATERAL ( \
        SELECT * FROM ( \
            SELECT *, kind <> ALL ($9::text[]) AS wanted, \
                row_number() OVER (ORDER BY seq) AS place, count(*) OVER () AS examined \
            FROM (SELECT * FROM ( \
                (SELECT seq, tag, kind, at, actor, tenant, user_id, session_id FROM {t}log \
                WHERE seq > GREATEST($3, $6) \
                AND ($2::text IS NULL OR pg_visible_in_snapshot(xid, $2::text::pg_snapshot)) \
                ORDER BY seq LIMIT $4) \
                UNION ALL \
                (SELECT seq, tag, kind, at, actor, tenant, user_id, session_id FROM \
                    ((SELECT * FROM {t}log WHERE $3 < $6 \
                    AND xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot))) OFFSET 0) \
                    UNION ALL \
                    (SELECT * FROM {t}log WHERE $3 < $6 \
                    AND xid >= pg_snapshot_xmax($1::text::pg_snapshot) \
                    AND xid < $8::text::xid8 OFFSET 0)) AS late \
                WHERE ($2::text IS NULL OR pg_visible_in_snapshot(xid, $2::text::pg_snapshot)) \
                AND seq > GREATEST($3, head.foreign_to) AND seq <= $6 ORDER BY seq LIMIT $4)) AS unseen \
            ORDER BY seq LIMIT $4) AS unseen) AS examined \
        WHERE place < $4 AND (wanted OR place = LEAST(examined, $4 - 1)) \
        ORDER BY seq) AS entry ON true";
/// A dump has the transaction ids of the server it is from. After a restore onto a server with lower ones,
/// the log gets a new incarnation that starts behind the restored entries; they are not rewritten.
pub(super) const ADOPT: &str = "UPDATE {t}meta SET incarnation = gen_random_uuid()::text, \
        trimmed_xid = '0', foreign_to = COALESCE((SELECT max(seq) FROM {t}log \
            WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())), foreign_to) \
    WHERE trimmed_xid >= pg_snapshot_xmax(pg_current_snapshot()) \
        OR EXISTS (SELECT FROM (SELECT seq FROM {t}log \
            WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()) ORDER BY xid DESC LIMIT 100) AS ahead \
            WHERE seq > foreign_to)";
pub(super) const END: &str = "SELECT meta.incarnation, pg_current_snapshot()::text AS snapshot, \
    {t}clock() AS clock, \
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint \
        + age(pg_snapshot_xmax(pg_current_snapshot())::xid) AS next_xid, \
    COALESCE(newest.seq, 0) AS seq, COALESCE(newest.tag, 0) AS tag \
    FROM {t}meta AS meta LEFT JOIN LATERAL \
        (SELECT seq, tag FROM {t}log ORDER BY seq DESC LIMIT 1) AS newest ON true";
const TRIM: &str = "SELECT {t}trim_log($1, $2)";
