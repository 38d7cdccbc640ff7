//! The log of changes, and the cheap sign that there is something new in it.

use session_core::store::{Cursor, LogPage};
use session_core::{Event, SessionId, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Mutex;

use super::store_error;
use super::tx::Tx;
use crate::position::Position;
use crate::rows;

/// Appends an entry and answers its number.
pub(super) async fn append(tx: &mut Tx, event: &Event) -> Result<i64, StoreError> {
    sqlx::query_scalar(APPEND)
        .bind(event.kind.as_str())
        .bind(event.at.as_micros())
        .bind(event.by.to_string())
        .bind(event.tenant.as_ref().map_or("", TenantId::as_str))
        .bind(event.user.as_ref().map(|user| user.as_str()))
        .bind(event.session.as_ref().map(|id: &SessionId| id.as_bytes().to_vec()))
        .fetch_one(&mut **tx)
        .await
        .map_err(store_error)
}

/// Reads the log over a connection of its own, because `data_version` is a connection's: it
/// changes when any other connection, of this process or another, has written.
#[derive(Debug)]
pub(super) struct LogReader {
    options: SqliteConnectOptions,
    state: Mutex<Option<Reader>>,
}

#[derive(Debug)]
struct Reader {
    connection: SqliteConnection,
    /// The file's version when the log was read to this position, which was its end.
    end: Option<(i64, Cursor)>,
}

impl LogReader {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, state: Mutex::new(None) }
    }

    pub(super) async fn close(&self) {
        if let Some(reader) = self.state.lock().await.take() {
            // A connection that cannot be closed is dropped.
            let _ = reader.connection.close().await;
        }
    }

    pub(super) async fn since(
        &self,
        cursor: Option<&Cursor>,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        let mut state = self.state.lock().await;
        // Taken out: a read that fails or is dropped leaves no connection in doubt behind.
        let mut reader = match state.take() {
            Some(reader) => reader,
            None => {
                let connection = self.options.connect().await.map_err(store_error)?;
                Reader { connection, end: None }
            }
        };
        let page = reader.read(cursor, limit).await?;
        *state = Some(reader);
        Ok(page)
    }
}

impl Reader {
    async fn read(&mut self, cursor: Option<&Cursor>, limit: u32) -> Result<LogPage, StoreError> {
        let version: i64 = sqlx::query_scalar("PRAGMA data_version")
            .fetch_one(&mut self.connection)
            .await
            .map_err(store_error)?;
        if let (Some(cursor), Some((seen, end))) = (cursor, &self.end)
            && *seen == version
            && cursor == end
        {
            return Ok(nothing_since(end.clone(), false));
        }
        let page = match cursor.and_then(Position::parse) {
            Some(position) => self.read_from(position, limit).await?,
            None => nothing_since(self.last().await?, cursor.is_some()),
        };
        self.end = (!page.more).then(|| (version, page.next.clone()));
        Ok(page)
    }

    /// Reads the entry at the cursor too: if it is not the one that was there, the log is cut,
    /// or the file came back from the past.
    async fn read_from(&mut self, seen: Position, limit: u32) -> Result<LogPage, StoreError> {
        let rows = sqlx::query(SINCE)
            .bind(seen.seq)
            .bind(i64::from(limit) + 2)
            .fetch_all(&mut self.connection)
            .await
            .map_err(store_error)?;
        match seen.read_on(&rows, limit)? {
            Some(page) => Ok(page),
            None => Ok(nothing_since(self.last().await?, true)),
        }
    }

    async fn last(&mut self) -> Result<Cursor, StoreError> {
        let row =
            sqlx::query(LAST).fetch_optional(&mut self.connection).await.map_err(store_error)?;
        let position = row.as_ref().map(Position::of).transpose()?;
        Ok(position.unwrap_or(Position::START).cursor())
    }
}

fn nothing_since(next: Cursor, gap: bool) -> LogPage {
    LogPage { events: Vec::new(), next, more: false, gap }
}

const APPEND: &str = "INSERT INTO session_kit_log (tag, kind, at, actor, tenant, user_id, session_id) \
    VALUES (random(), ?, ?, ?, ?, ?, ?) RETURNING seq";
pub(super) const SINCE: &str = "SELECT * FROM session_kit_log WHERE seq >= ? ORDER BY seq LIMIT ?";
pub(super) const LAST: &str = "SELECT seq, tag FROM session_kit_log \
    WHERE seq = (SELECT MAX(seq) FROM session_kit_log)";
