//! The log of changes, and the cheap sign that there is something new in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use session_core::store::{Cursor, Entries, LogPage, LogPosition, PageQuery, limit_within};
use session_core::{Event, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Mutex;

use super::file::OpenedFile;
use super::tx::Tx;
use super::{Clock, Pools, store_error};
use crate::{position, rows};

/// Appends an entry.
pub(super) async fn append(tx: &mut Tx<'_>, event: &Event) -> Result<(), StoreError> {
    sqlx::query(APPEND)
        .bind(event.kind.as_str())
        .bind(event.at.as_micros())
        .bind(event.by.to_string())
        .bind(rows::tenant_text(event.tenant.as_ref()))
        .bind(event.user.as_ref().map(|user| user.as_str()))
        .bind(event.session.as_ref().map(|id| id.as_bytes().to_vec()))
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

/// Looks at the first entries only, and takes the write lock only where some of them go. Another
/// node may trim at the same time; each entry goes once.
pub(super) async fn trim(
    pools: &Pools,
    older_than: Duration,
    limit: u32,
) -> Result<u32, StoreError> {
    let kept: Option<i64> = sqlx::query_scalar(FIRST_KEPT)
        .bind(pools.clock.now().minus(older_than).as_micros())
        .bind(limit_within(limit, PageQuery::MAX_EXAMINED))
        .fetch_one(pools.readers()?)
        .await
        .map_err(store_error)?;
    let Some(kept) = kept else { return Ok(0) };
    let after = Arc::clone(&pools.after);
    let trim = async move |mut tx: Tx<'_>| {
        let trimmed = sqlx::query(TRIM).bind(kept).execute(&mut *tx).await.map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        let trimmed = u32::try_from(trimmed.rows_affected()).unwrap_or(u32::MAX);
        after.wrote(trimmed as usize / ENTRIES_OF_A_SESSION);
        Ok(trimmed)
    };
    pools.writer.write(trim).await
}

/// Reads the log over a connection of its own, because `data_version` is a connection's: it
/// changes when any other connection, of this process or another, has written.
#[derive(Debug)]
pub(super) struct LogReader {
    options: SqliteConnectOptions,
    file: OpenedFile,
    clock: Clock,
    state: Mutex<Option<Reader>>,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct Reader {
    connection: SqliteConnection,
    /// The file's version when the log was read to this position, which was its end.
    end: Option<(i64, Cursor)>,
}

impl LogReader {
    pub(super) fn new(options: SqliteConnectOptions, file: OpenedFile, clock: Clock) -> Self {
        Self { options, file, clock, state: Mutex::new(None), is_closed: AtomicBool::new(false) }
    }

    pub(super) async fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        if let Some(reader) = self.state.lock().await.take() {
            // A connection that cannot be closed is dropped.
            let _ = reader.connection.close().await;
        }
    }

    pub(super) async fn since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        let limit = limit_within(limit, LogPage::MAX_LIMIT);
        self.file.checked()?;
        let mut state = self.state.lock().await;
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(StoreError::unavailable("the store is closed"));
        }
        // Taken out: a read that fails or is dropped leaves no connection in doubt behind.
        let mut reader = match state.take() {
            Some(reader) => reader,
            None => {
                let connection = self.options.connect().await.map_err(store_error)?;
                Reader { connection, end: None }
            }
        };
        let page = reader.read(cursor, entries, limit, &self.clock).await?;
        *state = Some(reader);
        Ok(page)
    }
}

impl Reader {
    async fn read(
        &mut self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
        clock: &Clock,
    ) -> Result<LogPage, StoreError> {
        let version: i64 = sqlx::query_scalar("PRAGMA data_version")
            .fetch_one(&mut self.connection)
            .await
            .map_err(store_error)?;
        if let (Some(cursor), Some((seen, end))) = (cursor, &self.end)
            && *seen == version
            && cursor == end
        {
            return Ok(LogPage::at_end(end.clone(), false, clock.now()));
        }
        let page = match cursor.and_then(LogPosition::parse) {
            Some(position) => self.read_from(position, entries, limit, clock).await?,
            None => LogPage::at_end(self.last().await?, cursor.is_some(), clock.now()),
        };
        self.end = (!page.more).then(|| (version, page.next.clone()));
        Ok(page)
    }

    /// Reads the entry at the cursor too: if it is not the one that was there, the log is cut,
    /// or the file came back from the past.
    async fn read_from(
        &mut self,
        seen: LogPosition,
        entries: Entries,
        limit: u32,
        clock: &Clock,
    ) -> Result<LogPage, StoreError> {
        let rows = sqlx::query(SINCE)
            .bind(seen.number)
            .bind(i64::from(limit) + 2)
            .fetch_all(&mut self.connection)
            .await
            .map_err(store_error)?;
        match position::read_on(seen, &rows, entries, limit, clock.now())? {
            Some(page) => Ok(page),
            None => Ok(LogPage::at_end(self.last().await?, true, clock.now())),
        }
    }

    async fn last(&mut self) -> Result<Cursor, StoreError> {
        let row =
            sqlx::query(LAST).fetch_optional(&mut self.connection).await.map_err(store_error)?;
        let position = row.as_ref().map(position::of).transpose()?;
        Ok(position.unwrap_or(LogPosition::START).cursor())
    }
}

/// Entries that are trimmed rewrite far fewer pages than as many sessions do.
const ENTRIES_OF_A_SESSION: usize = 32;

const APPEND: &str = "INSERT INTO session_kit_log (tag, kind, at, actor, tenant, user_id, session_id) \
    VALUES (random(), ?, ?, ?, ?, ?, ?)";
pub(super) const SINCE: &str = "SELECT * FROM session_kit_log WHERE seq >= ? ORDER BY seq LIMIT ?";
pub(super) const LAST: &str = "SELECT seq, tag FROM session_kit_log \
    WHERE seq = (SELECT MAX(seq) FROM session_kit_log)";
/// The first entry that is not old enough, or else the last that is looked at, if another is before
/// it.
pub(super) const FIRST_KEPT: &str = "SELECT MAX(kept) FROM ( \
    SELECT COALESCE(MIN(seq) FILTER (WHERE at >= ?1), MAX(seq)) AS kept, MIN(seq) AS first \
    FROM (SELECT seq, at FROM session_kit_log ORDER BY seq LIMIT ?2 + 1)) WHERE kept > first";
pub(super) const TRIM: &str = "DELETE FROM session_kit_log WHERE seq < ?";

#[cfg(test)]
mod tests {
    use session_core::policy::{Policy, PolicyScope};
    use session_core::store::PolicyChange;
    use session_core::{Actor, Store, Timestamp};

    use super::super::{SqliteOptions, SqliteStore};
    use super::*;

    /// Requests hold every connection that reads: the follower hears the log all the same.
    #[tokio::test]
    async fn the_log_is_read_beside_a_saturated_pool() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::default().with_readers(1);
        let store = SqliteStore::connect_with(folder.path().join("s.db"), options).await.unwrap();
        let _held = store.pools.readers.acquire().await.unwrap();
        assert!(store.pools.readers.try_acquire().is_none(), "it is saturated");
        let end = store.log_since(None, Entries::All, 10).await.unwrap().next;
        let (policy, at) = (Some(Policy::default()), Timestamp::EPOCH);
        let change = PolicyChange { scope: PolicyScope::Deployment, policy, at, by: Actor::System };
        store.set_policy(&change).await.unwrap();
        let told = store.log_since(Some(&end), Entries::All, 10).await.unwrap();
        assert_eq!(told.events, [change.event()]);
    }
}
