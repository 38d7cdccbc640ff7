//! Reads of sessions.

use session_core::store::{EndMany, Loaded, Page, PageQuery, UserState, Version};
use session_core::{SessionId, StoreError, UserKey};
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::{place, store_error};
use crate::columns::Columns;
use crate::filter::CHOSEN;
use crate::rows;
use crate::walk::{self, Walk, Walked};

pub(super) async fn user(readers: &SqlitePool, owner: &UserKey) -> Result<UserState, StoreError> {
    // One transaction, so that all three statements see the same moment.
    let mut tx = readers.begin().await.map_err(store_error)?;
    let tenant = owner.tenant_text();
    let user = owner.user.as_str();
    let version: Option<i64> = sqlx::query_scalar(VERSION)
        .bind(tenant)
        .bind(user)
        .fetch_optional(&mut *tx)
        .await
        .map_err(store_error)?;
    let sessions = sqlx::query(STANDINGS)
        .bind(tenant)
        .bind(user)
        .fetch_all(&mut *tx)
        .await
        .map_err(store_error)?;
    let places = place::of(&mut tx, owner).await?;
    tx.commit().await.map_err(store_error)?;
    Ok(UserState {
        version: version.map_or(Version::NONE, Version),
        sessions: sessions.iter().map(rows::standing).collect::<Result<_, _>>()?,
        policies: places.policies,
        blocks: places.blocks,
    })
}

pub(super) async fn load(
    readers: &SqlitePool,
    id: SessionId,
) -> Result<Option<Loaded>, StoreError> {
    let row = sqlx::query(LOAD)
        .bind(&id.as_bytes()[..])
        .fetch_optional(readers)
        .await
        .map_err(store_error)?;
    row.map(|row| {
        let version = Version(row.integer("version")?);
        Ok(Loaded { session: rows::session(&row)?, version })
    })
    .transpose()
}

pub(super) async fn page(readers: &SqlitePool, query: &PageQuery) -> Result<Page, StoreError> {
    let walk = Walk::page(query);
    Ok(walk_on(readers, walk, rows::SESSION, SESSIONS, rows::session).await?.into())
}

/// The ids of the sessions that one call of `end_many` ends.
pub(super) async fn choose(
    readers: &SqlitePool,
    end: &EndMany,
    limit: u32,
) -> Result<Walked<Vec<u8>>, StoreError> {
    let walk = Walk::choose(end, limit)?;
    walk_on(readers, walk, CHOSEN, SESSIONS, walk::id).await
}

pub(super) async fn walk_on<T>(
    readers: &SqlitePool,
    mut walk: Walk<T>,
    columns: &str,
    table: &str,
    read: fn(&SqliteRow) -> Result<T, StoreError>,
) -> Result<Walked<T>, StoreError> {
    loop {
        let mut chunk = walk.statement(columns, table);
        let rows = chunk.build().fetch_all(readers).await.map_err(store_error)?;
        if let Some(walked) = walk.absorb(&rows, read)? {
            return Ok(walked);
        }
    }
}

pub(super) const SESSIONS: &str = "session_kit_sessions";
pub(super) const VERSION: &str =
    "SELECT version FROM session_kit_users WHERE tenant = ? AND user_id = ?";
pub(super) const STANDINGS: &str = "SELECT id, device_kind, client_id, signed_in, last_accessed, \
    deadline, claimed FROM session_kit_sessions WHERE tenant = ? AND user_id = ?";
/// After a restore of tables of different moments, a session may be there without its user's row.
pub(super) const LOAD: &str = "SELECT s.*, COALESCE(u.version, 0) AS version \
    FROM session_kit_sessions AS s \
    LEFT JOIN session_kit_users AS u ON u.tenant = s.tenant AND u.user_id = s.user_id WHERE s.id = ?";
