//! Changes of sessions.

use std::collections::HashSet;

use session_core::cleanup::SweepRule;
use session_core::session::note_ip_address;
use session_core::store::{Change, Commit, EndMany, Ended, Outcome, PolicyChange, Touch};
use session_core::{
    Actor, EndCause, Event, EventKind, Session, SessionId, StoreError, StoreErrorKind, Timestamp,
};
use sqlx::QueryBuilder;
use sqlx::mysql::{MySql, MySqlPool};

use super::store_error;
use super::tx::{Failed, ROWS, Tx, begin, finish, lock_user, owners, retried};
use crate::names::Names;
use crate::{filter, policies, rows};

pub(super) async fn commit(
    pool: &MySqlPool,
    names: &Names,
    commit: &Commit,
) -> Result<Outcome, StoreError> {
    retried(|| try_commit(pool, names, commit)).await
}

async fn try_commit(pool: &MySqlPool, names: &Names, commit: &Commit) -> Result<Outcome, Failed> {
    let mut tx = begin(pool).await?;
    if lock_user(&mut tx, names, &commit.owner).await? != commit.expected.0 {
        return Ok(Outcome::Conflict);
    }
    let mut events = Vec::new();
    // Ends that follow one another end together.
    for changes in commit.changes.chunk_by(|a, b| is_end(a) && is_end(b)) {
        match apply(&mut tx, names, commit, changes).await? {
            Some(told) => events.extend(told),
            None => return Ok(Outcome::Conflict),
        }
    }
    finish(tx, names, std::slice::from_ref(&commit.owner), &events).await?;
    Ok(Outcome::Done)
}

const fn is_end(change: &Change) -> bool {
    matches!(change, Change::End(..))
}

/// Applies one change, or several ends; none where one did not find what it needs.
async fn apply(
    tx: &mut Tx,
    names: &Names,
    commit: &Commit,
    changes: &[Change],
) -> Result<Option<Vec<Event>>, Failed> {
    let told = match changes {
        [Change::Insert(session)] => {
            insert(tx, names, session).await?;
            vec![commit.event(EventKind::Created, session.id)]
        }
        [Change::ReplaceToken { id, token, authenticated_at }] => {
            let replaced = sqlx::query(names.sql(REPLACE_TOKEN))
                .bind(&token.current.as_bytes()[..])
                .bind(token.retired.map(|retired| retired.digest.as_bytes().to_vec()))
                .bind(token.retired.map(|retired| retired.at.as_micros()))
                .bind(authenticated_at.map(Timestamp::as_micros))
                .bind(&id.as_bytes()[..])
                .bind(rows::tenant_column(commit.owner.tenant.as_ref()))
                .bind(commit.owner.user.as_str())
                .execute(&mut **tx)
                .await?;
            if replaced.rows_affected() == 0 {
                return Ok(None);
            }
            vec![commit.event(EventKind::Rotated, *id)]
        }
        [Change::ClaimsChanged(id)] => {
            let there = own(tx, names, commit, &[*id]).await?;
            there.into_iter().map(|id| commit.event(EventKind::ClaimsChanged, id)).collect()
        }
        ends => end_own(tx, names, commit, ends).await?,
    };
    Ok(Some(told))
}

async fn end_own(
    tx: &mut Tx,
    names: &Names,
    commit: &Commit,
    ends: &[Change],
) -> Result<Vec<Event>, Failed> {
    let mut told = Vec::new();
    for ends in ends.chunks(ROWS) {
        let ends = ends.iter().filter_map(|change| match change {
            Change::End(id, cause) => Some((*id, *cause)),
            _ => None,
        });
        let ends: Vec<_> = ends.collect();
        let ids: Vec<_> = ends.iter().map(|(id, _)| *id).collect();
        let there: HashSet<_> = own(tx, names, commit, &ids).await?.into_iter().collect();
        delete(tx, names, &there.iter().copied().collect::<Vec<_>>()).await?;
        let gone = ends.into_iter().filter(|(id, _)| there.contains(id));
        told.extend(gone.map(|(id, cause)| commit.event(EventKind::Ended(cause), id)));
    }
    Ok(told)
}

/// Those of the sessions that exist and are the committing user's, locked.
async fn own(
    tx: &mut Tx,
    names: &Names,
    commit: &Commit,
    ids: &[SessionId],
) -> Result<Vec<SessionId>, Failed> {
    let found = lock_sessions(tx, names, ids, None).await?;
    let own = found.into_iter().filter(|session| session.owner == commit.owner);
    Ok(own.map(|session| session.id).collect())
}

/// Locks those of the sessions that exist and, where a rule is given, are past its line.
async fn lock_sessions(
    tx: &mut Tx,
    names: &Names,
    ids: &[SessionId],
    rule: Option<&SweepRule>,
) -> Result<Vec<Ended>, Failed> {
    let mut select = QueryBuilder::<MySql>::new(names.fill(
        "SELECT id, CONVERT(tenant USING utf8mb4) AS tenant, \
         CONVERT(user_id USING utf8mb4) AS user_id FROM {t}sessions WHERE id IN (NULL",
    ));
    ids.iter().for_each(|id| {
        select.push(", ").push_bind(id.as_bytes().to_vec());
    });
    select.push(")");
    if let Some(rule) = rule {
        select.push(" AND (last_accessed < ").push_bind(rule.inactive_before.as_micros());
        select.push(" OR absolute_expiry <= ").push_bind(rule.expired_by.as_micros()).push(")");
    }
    select.push(" ORDER BY id FOR UPDATE");
    let found = select.build().fetch_all(&mut **tx).await?;
    Ok(found.iter().map(rows::ended).collect::<Result<_, _>>()?)
}

async fn delete(tx: &mut Tx, names: &Names, ids: &[SessionId]) -> Result<(), sqlx::Error> {
    let mut delete =
        QueryBuilder::<MySql>::new(names.fill("DELETE FROM {t}sessions WHERE id IN (NULL"));
    ids.iter().for_each(|id| {
        delete.push(", ").push_bind(id.as_bytes().to_vec());
    });
    delete.push(")").build().execute(&mut **tx).await?;
    Ok(())
}

async fn insert(tx: &mut Tx, names: &Names, session: &Session) -> Result<(), sqlx::Error> {
    let token = &session.token;
    sqlx::query(names.sql(INSERT))
        .bind(&session.id.as_bytes()[..])
        .bind(rows::tenant_column(session.owner.tenant.as_ref()))
        .bind(session.owner.user.as_str())
        .bind(session.device_kind.as_str())
        .bind(session.device_info.as_ref().map(|info| info.as_str()))
        .bind(session.client_id.as_ref().map(|client| client.as_str()))
        .bind(rows::addresses_column(&session.ip_addresses))
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
        .await?;
    Ok(())
}

pub(super) async fn touch(
    pool: &MySqlPool,
    names: &Names,
    batch: &[Touch],
) -> Result<Vec<SessionId>, StoreError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    retried(|| try_touch(pool, names, batch)).await
}

async fn try_touch(
    pool: &MySqlPool,
    names: &Names,
    batch: &[Touch],
) -> Result<Vec<SessionId>, Failed> {
    let mut tx = begin(pool).await?;
    let ids: Vec<_> = batch.iter().map(|touch| touch.id).collect();
    let found = lock_sessions(&mut tx, names, &ids, None).await?;
    let found: HashSet<_> = found.into_iter().map(|session| session.id).collect();
    touch_times(&mut tx, names, batch).await?;
    let with_addresses = batch.iter().filter(|touch| !touch.ip_addresses.is_empty());
    for touch in with_addresses.filter(|touch| found.contains(&touch.id)) {
        merge_addresses(&mut tx, names, touch).await?;
    }
    tx.commit().await?;
    Ok(ids.into_iter().filter(|id| !found.contains(id)).collect())
}

/// All times in one statement.
async fn touch_times(tx: &mut Tx, names: &Names, batch: &[Touch]) -> Result<(), sqlx::Error> {
    let mut update = QueryBuilder::<MySql>::new(names.fill("UPDATE {t}sessions AS s JOIN ("));
    for (n, touch) in batch.iter().enumerate() {
        update.push(if n == 0 { "SELECT CAST(" } else { " UNION ALL SELECT CAST(" });
        update.push_bind(touch.id.as_bytes().to_vec()).push(" AS BINARY(16)) AS id, CAST(");
        update.push_bind(touch.last_accessed.as_micros()).push(" AS SIGNED) AS at");
    }
    update.push(") AS t ON t.id = s.id SET s.last_accessed = GREATEST(s.last_accessed, t.at)");
    update.build().execute(&mut **tx).await?;
    Ok(())
}

async fn merge_addresses(tx: &mut Tx, names: &Names, touch: &Touch) -> Result<(), Failed> {
    let id = &touch.id.as_bytes()[..];
    let column: String =
        sqlx::query_scalar(names.sql(READ_ADDRESSES)).bind(id).fetch_one(&mut **tx).await?;
    let mut addresses = rows::addresses(&column).map_err(StoreError::from)?;
    touch.ip_addresses.iter().for_each(|ip| note_ip_address(&mut addresses, *ip));
    sqlx::query(names.sql(WRITE_ADDRESSES))
        .bind(rows::addresses_column(&addresses))
        .bind(id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Chooses, then ends: what a selection goes by never changes, so only who is gone meanwhile has
/// to be made up for.
pub(super) async fn end_many(
    pool: &MySqlPool,
    names: &Names,
    end: &EndMany,
    limit: u32,
) -> Result<Vec<Ended>, StoreError> {
    let mut ended = Vec::new();
    loop {
        let left = limit as usize - ended.len();
        let mut select = QueryBuilder::<MySql>::new(names.fill(CHOOSE));
        filter::selection(&mut select, &end.selection);
        select.push(" LIMIT ").push_bind(i64::try_from(left).unwrap_or(i64::MAX));
        let chosen = select.build().fetch_all(pool).await.map_err(store_error)?;
        let chosen = chosen.iter().map(rows::ended).collect::<Result<Vec<_>, _>>()?;
        let all = chosen.len() < left;
        let kind = EventKind::Ended(end.cause);
        ended.extend(end_chosen(pool, names, &chosen, None, kind, end.at, &end.by).await?);
        if all || ended.len() >= limit as usize {
            return Ok(ended);
        }
    }
}

pub(super) async fn sweep(
    pool: &MySqlPool,
    names: &Names,
    rule: &SweepRule,
    at: Timestamp,
    limit: u32,
) -> Result<Vec<Ended>, StoreError> {
    let chosen = sqlx::query(names.sql(CHOOSE_OLD))
        .bind(rule.expired_by.as_micros())
        .bind(limit)
        .bind(rule.inactive_before.as_micros())
        .bind(rule.inactive_before.as_micros())
        .bind(limit)
        .bind(limit)
        .fetch_all(pool)
        .await
        .map_err(store_error)?;
    let chosen = chosen.iter().map(rows::ended).collect::<Result<Vec<_>, _>>()?;
    let kind = EventKind::Ended(EndCause::Expired);
    end_chosen(pool, names, &chosen, Some(rule), kind, at, &Actor::System).await
}

/// Users before sessions, both in order: so nobody waits in a circle.
async fn end_chosen(
    pool: &MySqlPool,
    names: &Names,
    chosen: &[Ended],
    rule: Option<&SweepRule>,
    kind: EventKind,
    at: Timestamp,
    by: &Actor,
) -> Result<Vec<Ended>, StoreError> {
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    retried(|| try_end(pool, names, chosen, rule, kind, at, by)).await
}

async fn try_end(
    pool: &MySqlPool,
    names: &Names,
    chosen: &[Ended],
    rule: Option<&SweepRule>,
    kind: EventKind,
    at: Timestamp,
    by: &Actor,
) -> Result<Vec<Ended>, Failed> {
    let owners = owners(chosen);
    let ids: Vec<_> = chosen.iter().map(|session| session.id).collect();
    let mut tx = begin(pool).await?;
    for owner in &owners {
        lock_user(&mut tx, names, owner).await?;
    }
    let ended = lock_sessions(&mut tx, names, &ids, rule).await?;
    let gone: Vec<_> = ended.iter().map(|session| session.id).collect();
    delete(&mut tx, names, &gone).await?;
    let event = |session: &Ended| {
        Event::of_session(kind, at, by.clone(), session.owner.clone(), session.id)
    };
    let events: Vec<_> = ended.iter().map(event).collect();
    finish(tx, names, &owners, &events).await?;
    Ok(ended)
}

pub(super) async fn set_policy(
    pool: &MySqlPool,
    names: &Names,
    change: &PolicyChange,
) -> Result<(), StoreError> {
    retried(|| try_set_policy(pool, names, change)).await
}

async fn try_set_policy(
    pool: &MySqlPool,
    names: &Names,
    change: &PolicyChange,
) -> Result<(), Failed> {
    let (tenant, user) = policies::key(&change.scope)?;
    let policy = change.policy.as_ref().map(serde_json::to_string).transpose();
    let policy = policy.map_err(|error| StoreError::new(StoreErrorKind::Internal, error))?;
    let mut tx = begin(pool).await?;
    let statement = match &policy {
        Some(policy) => sqlx::query(names.sql(SET)).bind(tenant).bind(user).bind(policy),
        None => sqlx::query(names.sql(UNSET)).bind(tenant).bind(user),
    };
    statement.execute(&mut *tx).await?;
    finish(tx, names, &[], &[change.event()]).await
}

const INSERT: &str = "INSERT INTO {t}sessions (id, tenant, user_id, device_kind, device_info, \
    client_id, ip_addresses, signed_in, last_accessed, authenticated_at, absolute_expiry, data, \
    token_current, token_family, token_retired, token_retired_at) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const REPLACE_TOKEN: &str = "UPDATE {t}sessions SET token_current = ?, token_retired = ?, \
    token_retired_at = ?, authenticated_at = COALESCE(?, authenticated_at) \
    WHERE id = ? AND tenant = ? AND user_id = ?";
const READ_ADDRESSES: &str =
    "SELECT CONVERT(ip_addresses USING utf8mb4) FROM {t}sessions WHERE id = ?";
const WRITE_ADDRESSES: &str = "UPDATE {t}sessions SET ip_addresses = ? WHERE id = ?";
pub(super) const CHOOSE: &str = "SELECT id, CONVERT(tenant USING utf8mb4) AS tenant, \
    CONVERT(user_id USING utf8mb4) AS user_id FROM {t}sessions WHERE true";
pub(super) const CHOOSE_OLD: &str = "SELECT id, CONVERT(tenant USING utf8mb4) AS tenant, \
    CONVERT(user_id USING utf8mb4) AS user_id FROM ( \
        (SELECT id, tenant, user_id FROM {t}sessions WHERE absolute_expiry <= ? \
            ORDER BY absolute_expiry LIMIT ?) \
        UNION (SELECT id, tenant, user_id FROM {t}sessions \
            WHERE signed_in < ? AND last_accessed < ? ORDER BY signed_in LIMIT ?) \
    ) AS old LIMIT ?";
const SET: &str = "INSERT INTO {t}policies (tenant, user_id, policy) VALUES (?, ?, ?) \
    ON DUPLICATE KEY UPDATE policy = VALUES(policy)";
const UNSET: &str = "DELETE FROM {t}policies WHERE tenant = ? AND user_id = ?";
