//! Changes of sessions; each is one transaction that takes the write lock at its start.

use std::collections::{HashMap, HashSet};

use session_core::cleanup::SweepRule;
use session_core::session::note_ip_address;
use session_core::store::record;
use session_core::store::{Change, Commit, EndMany, Ended, Outcome, Selection, Touch, Version};
use session_core::{
    Actor, EndCause, Event, EventKind, Session, SessionId, StoreError, Timestamp, UserKey,
};
use sqlx::sqlite::SqlitePool;
use sqlx::{QueryBuilder, Sqlite};

use super::tx::{Tx, begin};
use super::{log, read, store_error};
use crate::columns::Columns;
use crate::{filter, rows};

pub(super) async fn commit(writer: &SqlitePool, commit: &Commit) -> Result<Outcome, StoreError> {
    let mut tx = begin(writer).await?;
    if version(&mut tx, &commit.owner).await? != commit.expected {
        return Ok(Outcome::Conflict);
    }
    add_user(&mut tx, &commit.owner).await?;
    let mut newest = None;
    for change in &commit.changes {
        let Applied::Yes(logged) = apply(&mut tx, &commit.owner, change).await? else {
            return Ok(Outcome::Conflict);
        };
        if let Some((kind, id)) = logged {
            newest = Some(log::append(&mut tx, &commit.event(kind, id)).await?);
        }
    }
    set_version(&mut tx, &commit.owner, newest).await?;
    tx.commit().await.map_err(store_error)?;
    Ok(Outcome::Done)
}

/// Whether a change found what it needs, and what the log says of it.
enum Applied {
    Yes(Option<(EventKind, SessionId)>),
    No,
}

async fn apply(tx: &mut Tx, owner: &UserKey, change: &Change) -> Result<Applied, StoreError> {
    let logged = match change {
        Change::Insert(session) => {
            insert(tx, session).await?;
            Some((EventKind::Created, session.id))
        }
        Change::End(id, cause) => {
            let gone = on_session(tx, DELETE, owner, *id).await?;
            gone.then_some((EventKind::Ended(*cause), *id))
        }
        Change::ReplaceToken { id, token, authenticated_at } => {
            let replaced = sqlx::query(REPLACE_TOKEN)
                .bind(&token.current.as_bytes()[..])
                .bind(token.retired.map(|retired| retired.digest.as_bytes().to_vec()))
                .bind(token.retired.map(|retired| retired.at.as_micros()))
                .bind(authenticated_at.map(Timestamp::as_micros))
                .bind(owner.tenant_text())
                .bind(owner.user.as_str())
                .bind(&id.as_bytes()[..])
                .execute(&mut **tx)
                .await
                .map_err(store_error)?;
            if replaced.rows_affected() == 0 {
                return Ok(Applied::No);
            }
            Some((EventKind::Rotated, *id))
        }
        Change::ClaimsChanged(id) => {
            let there = on_session(tx, TOUCH_NOTHING, owner, *id).await?;
            there.then_some((EventKind::ClaimsChanged, *id))
        }
    };
    Ok(Applied::Yes(logged))
}

async fn insert(tx: &mut Tx, session: &Session) -> Result<(), StoreError> {
    let token = &session.token;
    sqlx::query(INSERT)
        .bind(&session.id.as_bytes()[..])
        .bind(session.owner.tenant_text())
        .bind(session.owner.user.as_str())
        .bind(session.device_kind.as_str())
        .bind(session.device_info.as_ref().map(|info| info.as_str()))
        .bind(session.client_id.as_ref().map(|client| client.as_str()))
        .bind(record::address_list(&session.ip_addresses))
        .bind(session.signed_in.as_micros())
        .bind(session.last_accessed.as_micros())
        .bind(session.authenticated_at.as_micros())
        .bind(session.absolute_expiry.map(Timestamp::as_micros))
        .bind(session.data.as_ref().map(|data| data.as_json()))
        .bind(&token.current.as_bytes()[..])
        .bind(&token.family.as_bytes()[..])
        .bind(token.retired.map(|retired| retired.digest.as_bytes().to_vec()))
        .bind(token.retired.map(|retired| retired.at.as_micros()))
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

pub(super) async fn touch(
    writer: &SqlitePool,
    batch: &[Touch],
) -> Result<Vec<SessionId>, StoreError> {
    let mut tx = begin(writer).await?;
    let found = touch_times(&mut tx, batch).await?;
    for touch in batch.iter().filter(|touch| !touch.ip_addresses.is_empty()) {
        merge_addresses(&mut tx, touch).await?;
    }
    tx.commit().await.map_err(store_error)?;
    Ok(batch.iter().map(|touch| touch.id).filter(|id| !found.contains(id)).collect())
}

/// All times in one statement; answers which sessions exist.
async fn touch_times(tx: &mut Tx, batch: &[Touch]) -> Result<HashSet<SessionId>, StoreError> {
    let pairs: Vec<_> = batch
        .iter()
        .map(|touch| (const_hex::encode(touch.id.as_bytes()), touch.last_accessed.as_micros()))
        .collect();
    let pairs = serde_json::json!(pairs).to_string();
    let rows = sqlx::query(TOUCH).bind(pairs).fetch_all(&mut **tx).await.map_err(store_error)?;
    let mut found = HashSet::with_capacity(rows.len());
    for row in &rows {
        let id = row.bytes("id")?;
        found.extend(<[u8; 16]>::try_from(id).map(SessionId::from_bytes));
    }
    Ok(found)
}

async fn merge_addresses(tx: &mut Tx, touch: &Touch) -> Result<(), StoreError> {
    let id = &touch.id.as_bytes()[..];
    let column: Option<String> = sqlx::query_scalar(READ_ADDRESSES)
        .bind(id)
        .fetch_optional(&mut **tx)
        .await
        .map_err(store_error)?;
    let Some(column) = column else { return Ok(()) };
    let mut addresses = record::parse_addresses(&column)?;
    touch.ip_addresses.iter().for_each(|ip| note_ip_address(&mut addresses, *ip));
    sqlx::query(WRITE_ADDRESSES)
        .bind(record::address_list(&addresses))
        .bind(id)
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

pub(super) async fn end_many(
    writer: &SqlitePool,
    end: &EndMany,
    limit: u32,
) -> Result<Vec<Ended>, StoreError> {
    let mut tx = begin(writer).await?;
    let mut delete = delete_selected(&end.selection, limit);
    let rows = delete.build().fetch_all(&mut *tx).await.map_err(store_error)?;
    let ended = rows.iter().map(rows::ended).collect::<Result<Vec<_>, _>>()?;
    log_ended(&mut tx, &ended, end.cause, end.at, &end.by).await?;
    tx.commit().await.map_err(store_error)?;
    Ok(ended)
}

pub(super) fn delete_selected(selection: &Selection, limit: u32) -> QueryBuilder<Sqlite> {
    let mut delete = QueryBuilder::new(
        "DELETE FROM session_kit_sessions WHERE id IN \
         (SELECT id FROM session_kit_sessions WHERE true",
    );
    filter::selection(&mut delete, selection);
    delete.push(" LIMIT ").push_bind(i64::from(limit)).push(") RETURNING id, tenant, user_id");
    delete
}

/// Two statements, each along its own index.
pub(super) async fn sweep(
    writer: &SqlitePool,
    rule: &SweepRule,
    at: Timestamp,
    limit: u32,
) -> Result<Vec<Ended>, StoreError> {
    let mut tx = begin(writer).await?;
    let mut ended = Vec::new();
    for (statement, line) in
        [(SWEEP_UNUSED, rule.inactive_before), (SWEEP_EXPIRED, rule.expired_by)]
    {
        let left = i64::from(limit) - ended.len().cast_signed() as i64;
        let rows = sqlx::query(statement)
            .bind(line.as_micros())
            .bind(left)
            .fetch_all(&mut *tx)
            .await
            .map_err(store_error)?;
        for row in &rows {
            ended.push(rows::ended(row)?);
        }
    }
    log_ended(&mut tx, &ended, EndCause::Expired, at, &Actor::System).await?;
    tx.commit().await.map_err(store_error)?;
    Ok(ended)
}

pub(super) async fn trim_log(
    writer: &SqlitePool,
    before: Timestamp,
    limit: u32,
) -> Result<u32, StoreError> {
    let trimmed = sqlx::query(TRIM)
        .bind(before.as_micros())
        .bind(limit)
        .execute(writer)
        .await
        .map_err(store_error)?;
    Ok(u32::try_from(trimmed.rows_affected()).unwrap_or(u32::MAX))
}

/// Logs sessions that have been deleted and raises the versions of their users.
async fn log_ended(
    tx: &mut Tx,
    ended: &[Ended],
    cause: EndCause,
    at: Timestamp,
    by: &Actor,
) -> Result<(), StoreError> {
    let mut newest = HashMap::new();
    for Ended { id, owner } in ended {
        let kind = EventKind::Ended(cause);
        let event = Event::of_session(kind, at, by.clone(), owner.clone(), *id);
        newest.insert(owner, log::append(tx, &event).await?);
    }
    for (owner, seq) in newest {
        set_version(tx, owner, Some(seq)).await?;
    }
    Ok(())
}

async fn version(tx: &mut Tx, owner: &UserKey) -> Result<Version, StoreError> {
    let version: Option<i64> = sqlx::query_scalar(read::VERSION)
        .bind(owner.tenant_text())
        .bind(owner.user.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(version.map_or(Version::NONE, Version))
}

async fn add_user(tx: &mut Tx, owner: &UserKey) -> Result<(), StoreError> {
    on_user(tx, ADD_USER, owner).await
}

/// Raises a user's version; a user without sessions is forgotten.
async fn set_version(tx: &mut Tx, owner: &UserKey, newest: Option<i64>) -> Result<(), StoreError> {
    if let Some(newest) = newest {
        sqlx::query(SET_VERSION)
            .bind(newest)
            .bind(owner.tenant_text())
            .bind(owner.user.as_str())
            .execute(&mut **tx)
            .await
            .map_err(store_error)?;
    }
    on_user(tx, FORGET_USER, owner).await
}

async fn on_user(tx: &mut Tx, statement: &'static str, owner: &UserKey) -> Result<(), StoreError> {
    sqlx::query(statement)
        .bind(owner.tenant_text())
        .bind(owner.user.as_str())
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

/// Runs a statement on one session of a user; answers whether it exists.
async fn on_session(
    tx: &mut Tx,
    statement: &'static str,
    owner: &UserKey,
    id: SessionId,
) -> Result<bool, StoreError> {
    let done = sqlx::query(statement)
        .bind(owner.tenant_text())
        .bind(owner.user.as_str())
        .bind(&id.as_bytes()[..])
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(done.rows_affected() > 0)
}

const ADD_USER: &str = "INSERT INTO session_kit_users (tenant, user_id, version) \
    VALUES (?, ?, 0) ON CONFLICT DO NOTHING";
pub(super) const SET_VERSION: &str =
    "UPDATE session_kit_users SET version = ? WHERE tenant = ? AND user_id = ?";
pub(super) const FORGET_USER: &str = "DELETE FROM session_kit_users WHERE tenant = ?1 AND user_id = ?2 \
    AND NOT EXISTS \
    (SELECT 1 FROM session_kit_sessions WHERE tenant = ?1 AND user_id = ?2)";
const INSERT: &str = "INSERT INTO session_kit_sessions (id, tenant, user_id, device_kind, \
    device_info, client_id, ip_addresses, signed_in, last_accessed, authenticated_at, \
    absolute_expiry, data, token_current, token_family, token_retired, token_retired_at) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
pub(super) const DELETE: &str =
    "DELETE FROM session_kit_sessions WHERE tenant = ?1 AND user_id = ?2 AND id = ?3";
const TOUCH_NOTHING: &str = "UPDATE session_kit_sessions SET last_accessed = last_accessed \
    WHERE tenant = ?1 AND user_id = ?2 AND id = ?3";
pub(super) const REPLACE_TOKEN: &str = "UPDATE session_kit_sessions SET token_current = ?, \
    token_retired = ?, token_retired_at = ?, \
    authenticated_at = COALESCE(?, authenticated_at) WHERE tenant = ? AND user_id = ? AND id = ?";
pub(super) const TOUCH: &str = "UPDATE session_kit_sessions \
    SET last_accessed = MAX(last_accessed, touched.at) \
    FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS at FROM json_each(?)) AS touched \
    WHERE session_kit_sessions.id = touched.id RETURNING session_kit_sessions.id";
const READ_ADDRESSES: &str = "SELECT ip_addresses FROM session_kit_sessions WHERE id = ?";
const WRITE_ADDRESSES: &str = "UPDATE session_kit_sessions SET ip_addresses = ? WHERE id = ?";
pub(super) const SWEEP_UNUSED: &str = "DELETE FROM session_kit_sessions WHERE id IN \
    (SELECT id FROM session_kit_sessions WHERE last_accessed < ?1 \
    ORDER BY last_accessed LIMIT ?2) AND last_accessed < ?1 RETURNING id, tenant, user_id";
pub(super) const SWEEP_EXPIRED: &str = "DELETE FROM session_kit_sessions WHERE id IN \
    (SELECT id FROM session_kit_sessions WHERE absolute_expiry <= ?1 \
    ORDER BY absolute_expiry LIMIT ?2) AND absolute_expiry <= ?1 RETURNING id, tenant, user_id";
pub(super) const TRIM: &str = "DELETE FROM session_kit_log WHERE seq IN \
    (SELECT seq FROM session_kit_log WHERE at < ?1 \
    AND seq < (SELECT MAX(seq) FROM session_kit_log) ORDER BY seq LIMIT ?2)";
