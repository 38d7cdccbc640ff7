//! Changes of sessions: calls of procedures that the migrations make.

use std::collections::HashSet;

use serde_json::{Value, json};
use session_core::cleanup::SweepRule;
use session_core::policy::Policy;
use session_core::store::record;
use session_core::store::{Change, Commit, EndMany, Ended, Outcome, PolicyChange, Touch};
use session_core::{Actor, EndCause, EventKind, SessionId, StoreError, StoreErrorKind, Timestamp};
use sqlx::QueryBuilder;
use sqlx::mysql::{MySql, MySqlPool};

use super::retry::retried;
use super::store_error;
use crate::names::Names;
use crate::{columns::Columns, filter, rows, steps};

pub(super) async fn commit(
    pool: &MySqlPool,
    names: &Names,
    commit: &Commit,
) -> Result<Outcome, StoreError> {
    let changes = steps::text(in_order(&commit.changes));
    let by = commit.by.to_string();
    let call = || {
        sqlx::query_scalar(names.sql(COMMIT))
            .bind(commit.owner.tenant_text())
            .bind(commit.owner.user.as_str())
            .bind(commit.expected.0)
            .bind(&changes)
            .bind(commit.at.as_micros())
            .bind(&by)
            .fetch_one(pool)
    };
    let done: i64 = retried(call).await?;
    Ok(if done == 1 { Outcome::Done } else { Outcome::Conflict })
}

/// Ends that follow one another are in the order in which everybody locks sessions, and what has
/// ended is not changed any more.
fn in_order(changes: &[Change]) -> Vec<&Change> {
    let is_end = |change: &Change| matches!(change, Change::End(..));
    let mut ordered = Vec::with_capacity(changes.len());
    for run in changes.chunk_by(|a, b| is_end(a) && is_end(b)) {
        let from = ordered.len();
        ordered.extend(run);
        ordered[from..].sort_by_key(|change| change.session());
    }
    let mut ended = HashSet::new();
    ordered.retain(|change| {
        let id = change.session();
        if is_end(change) { ended.insert(id) } else { !ended.contains(&id) }
    });
    ordered
}

pub(super) async fn touch(
    pool: &MySqlPool,
    names: &Names,
    batch: &[Touch],
) -> Result<Vec<SessionId>, StoreError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let mut ordered: Vec<_> = batch.iter().collect();
    ordered.sort_by_key(|touch| touch.id);
    let touches = ordered.into_iter().map(|touch| {
        json!({
            "id": const_hex::encode(touch.id.as_bytes()),
            "at": touch.last_accessed.as_micros(),
            "ips": record::address_list(&touch.ip_addresses),
        })
    });
    let touches = Value::Array(touches.collect()).to_string();
    let call = || sqlx::query(names.sql(TOUCH)).bind(&touches).fetch_all(pool);
    let gone = retried(call).await?;
    let gone: HashSet<_> =
        gone.iter().map(|row| row.bytes("id").map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
    let gone = batch.iter().filter(|touch| gone.contains(&touch.id.as_bytes()[..]));
    Ok(gone.map(|touch| touch.id).collect())
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
        let chosen: Vec<Vec<u8>> =
            select.build_query_scalar().fetch_all(pool).await.map_err(store_error)?;
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
    let chosen: Vec<Vec<u8>> = sqlx::query_scalar(names.sql(CHOOSE_OLD))
        .bind(rule.expired_by.as_micros())
        .bind(limit)
        .bind(rule.inactive_before.as_micros())
        .bind(rule.inactive_before.as_micros())
        .bind(limit)
        .bind(limit)
        .fetch_all(pool)
        .await
        .map_err(store_error)?;
    let kind = EventKind::Ended(EndCause::Expired);
    end_chosen(pool, names, &chosen, Some(rule), kind, at, &Actor::System).await
}

async fn end_chosen(
    pool: &MySqlPool,
    names: &Names,
    chosen: &[Vec<u8>],
    rule: Option<&SweepRule>,
    kind: EventKind,
    at: Timestamp,
    by: &Actor,
) -> Result<Vec<Ended>, StoreError> {
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let mut chosen = chosen.to_vec();
    chosen.sort_unstable();
    let ids = Value::Array(chosen.iter().map(|id| const_hex::encode(id).into()).collect());
    let (ids, by) = (ids.to_string(), by.to_string());
    let call = || {
        sqlx::query(names.sql(END))
            .bind(&ids)
            .bind(rule.map(|rule| rule.inactive_before.as_micros()))
            .bind(rule.map(|rule| rule.expired_by.as_micros()))
            .bind(kind.as_str())
            .bind(at.as_micros())
            .bind(&by)
            .fetch_all(pool)
    };
    let ended = retried(call).await?;
    ended.iter().map(rows::ended).collect()
}

pub(super) async fn set_policy(
    pool: &MySqlPool,
    names: &Names,
    change: &PolicyChange,
) -> Result<(), StoreError> {
    let (tenant, user) = change.scope.key();
    let policy = change.policy.as_ref().map(Policy::to_stored);
    let by = change.by.to_string();
    let call = || {
        sqlx::query(names.sql(SET_POLICY))
            .bind(tenant)
            .bind(user)
            .bind(&policy)
            .bind(change.at.as_micros())
            .bind(&by)
            .execute(pool)
    };
    retried(call).await?;
    Ok(())
}

const COMMIT: &str = "CALL {t}commit(?, ?, ?, ?, ?, ?)";
const TOUCH: &str = "CALL {t}touch(?)";
const END: &str = "CALL {t}end_sessions(?, ?, ?, ?, ?, ?)";
const SET_POLICY: &str = "CALL {t}set_policy(?, ?, ?, ?, ?)";
pub(super) const CHOOSE: &str = "SELECT id FROM {t}sessions WHERE true";
pub(super) const CHOOSE_OLD: &str = "SELECT id FROM ( \
        (SELECT id FROM {t}sessions WHERE absolute_expiry <= ? \
            ORDER BY absolute_expiry LIMIT ?) \
        UNION (SELECT id FROM {t}sessions \
            WHERE signed_in < ? AND last_accessed < ? ORDER BY signed_in LIMIT ?) \
    ) AS old LIMIT ?";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_in_the_order_of_locks_and_nothing_follows_them() {
        let id = |n: u8| SessionId::from_bytes([n; 16]);
        let end = |n| Change::End(id(n), EndCause::Evicted);
        let tell = |n| Change::ClaimsChanged(id(n));
        let changes = [tell(9), end(3), end(1), end(3), end(2), tell(1), tell(4), end(0)];
        let wanted = [tell(9), end(1), end(2), end(3), tell(4), end(0)];
        let ordered: Vec<_> = in_order(&changes).into_iter().cloned().collect();
        assert_eq!(steps::text(&ordered), steps::text(&wanted));
    }
}
