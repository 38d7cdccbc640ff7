//! Changes. Whoever changes a user's sessions locks the user's row first, in the functions that
//! the migrations make; a change is one round trip.

use std::collections::HashSet;
use std::time::Duration;

use session_core::cleanup::SweepRule;
use session_core::policy::Policy;
use session_core::store::record;
use session_core::store::{Commit, EndMany, Ended, Outcome, PolicyChange, Touch};
use session_core::{Actor, EndCause, EventKind, SessionId, StoreError, StoreErrorKind, Timestamp};
use sqlx::QueryBuilder;
use sqlx::postgres::PgPool;

use super::store_error;
use crate::names::Names;
use crate::{filter, rows, steps};

pub(super) async fn commit(
    pool: &PgPool,
    names: &Names,
    commit: &Commit,
) -> Result<Outcome, StoreError> {
    let done: bool = sqlx::query_scalar(names.sql(COMMIT))
        .bind(commit.owner.tenant_text())
        .bind(commit.owner.user.as_str())
        .bind(commit.expected.0)
        .bind(steps::text(&commit.changes))
        .bind(commit.at.as_micros())
        .bind(commit.by.to_string())
        .fetch_one(pool)
        .await
        .map_err(store_error)?;
    Ok(if done { Outcome::Done } else { Outcome::Conflict })
}

pub(super) async fn touch(
    pool: &PgPool,
    names: &Names,
    batch: &[Touch],
) -> Result<Vec<SessionId>, StoreError> {
    let ids: Vec<_> = batch.iter().map(|touch| touch.id.as_bytes().to_vec()).collect();
    let times: Vec<_> = batch.iter().map(|touch| touch.last_accessed.as_micros()).collect();
    let addresses: Vec<_> =
        batch.iter().map(|touch| record::address_list(&touch.ip_addresses)).collect();
    let found: Vec<Vec<u8>> = sqlx::query_scalar(names.sql(TOUCH))
        .bind(ids)
        .bind(times)
        .bind(addresses)
        .fetch_all(pool)
        .await
        .map_err(store_error)?;
    let found: HashSet<_> = found.into_iter().collect();
    let gone = batch.iter().filter(|touch| !found.contains(&touch.id.as_bytes()[..]));
    Ok(gone.map(|touch| touch.id).collect())
}

/// Chooses, then ends: what a selection goes by never changes, so only who is gone meanwhile has
/// to be made up for.
pub(super) async fn end_many(
    pool: &PgPool,
    names: &Names,
    end: &EndMany,
    limit: u32,
) -> Result<Vec<Ended>, StoreError> {
    let kind = EventKind::Ended(end.cause);
    let mut ended = Vec::new();
    loop {
        let left = limit as usize - ended.len();
        let mut select = QueryBuilder::new("SELECT id FROM ");
        select.push(names.fill("{t}sessions")).push(" WHERE true");
        filter::selection(&mut select, &end.selection);
        select.push(" LIMIT ").push_bind(i64::try_from(left).unwrap_or(i64::MAX));
        let chosen = select.build_query_scalar().fetch_all(pool).await.map_err(store_error)?;
        let all = chosen.len() < left;
        ended.extend(end_chosen(pool, names, chosen, None, kind, end.at, &end.by).await?);
        if all || ended.len() >= limit as usize {
            return Ok(ended);
        }
    }
}

pub(super) async fn sweep(
    pool: &PgPool,
    names: &Names,
    rule: &SweepRule,
    at: Timestamp,
    limit: u32,
) -> Result<Vec<Ended>, StoreError> {
    let chosen: Vec<Vec<u8>> = sqlx::query_scalar(names.sql(CHOOSE_OLD))
        .bind(rule.inactive_before.as_micros())
        .bind(rule.expired_by.as_micros())
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(store_error)?;
    let kind = EventKind::Ended(EndCause::Expired);
    end_chosen(pool, names, chosen, Some(rule), kind, at, &Actor::System).await
}

async fn end_chosen(
    pool: &PgPool,
    names: &Names,
    chosen: Vec<Vec<u8>>,
    rule: Option<&SweepRule>,
    kind: EventKind,
    at: Timestamp,
    by: &Actor,
) -> Result<Vec<Ended>, StoreError> {
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let found = sqlx::query(names.sql(END))
        .bind(chosen)
        .bind(rule.map(|rule| rule.inactive_before.as_micros()))
        .bind(rule.map(|rule| rule.expired_by.as_micros()))
        .bind(kind.as_str())
        .bind(at.as_micros())
        .bind(by.to_string())
        .fetch_all(pool)
        .await
        .map_err(store_error)?;
    found.iter().map(rows::ended).collect()
}

pub(super) async fn lease(
    pool: &PgPool,
    names: &Names,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<bool, StoreError> {
    let taken = sqlx::query(names.sql(LEASE))
        .bind(name)
        .bind(holder)
        .bind(ttl.as_secs_f64())
        .execute(pool)
        .await
        .map_err(store_error)?;
    Ok(taken.rows_affected() > 0)
}

pub(super) async fn set_policy(
    pool: &PgPool,
    names: &Names,
    change: &PolicyChange,
) -> Result<(), StoreError> {
    let (tenant, user) = change.scope.key();
    let policy = change.policy.as_ref().map(Policy::to_stored);
    sqlx::query(names.sql(SET_POLICY))
        .bind(tenant)
        .bind(user)
        .bind(policy)
        .bind(change.at.as_micros())
        .bind(change.by.to_string())
        .execute(pool)
        .await
        .map_err(store_error)?;
    Ok(())
}

const COMMIT: &str = "SELECT {t}commit($1, $2, $3, $4::jsonb, $5, $6)";
pub(super) const TOUCH: &str = "WITH touched AS ( \
        SELECT t.id, t.at, string_to_array(t.ips, ',') AS ips \
        FROM unnest($1::bytea[], $2::bigint[], $3::text[]) AS t (id, at, ips)), \
    found AS ( \
        SELECT s.id FROM {t}sessions AS s JOIN touched ON touched.id = s.id \
        ORDER BY s.id FOR NO KEY UPDATE OF s) \
    UPDATE {t}sessions AS s SET last_accessed = GREATEST(s.last_accessed, t.at), \
        ip_addresses = CASE WHEN t.ips = '{}' THEN s.ip_addresses ELSE ( \
            SELECT array_to_string(merged[GREATEST(1, cardinality(merged) - 15):], ',') \
            FROM (SELECT ARRAY(SELECT known FROM \
                unnest(string_to_array(s.ip_addresses, ',')) WITH ORDINALITY AS a (known, n) \
                WHERE known <> ALL (t.ips) ORDER BY n) || t.ips AS merged) AS m) END \
    FROM touched AS t JOIN found ON found.id = t.id WHERE s.id = t.id RETURNING s.id";
pub(super) const CHOOSE_OLD: &str = "(SELECT id FROM {t}sessions WHERE absolute_expiry <= $2 \
        ORDER BY absolute_expiry LIMIT $3) \
    UNION (SELECT id FROM {t}sessions WHERE signed_in < $1 AND last_accessed < $1 \
        ORDER BY signed_in LIMIT $3) LIMIT $3";
const END: &str = "SELECT * FROM {t}end_sessions($1, $2, $3, $4, $5, $6)";
const LEASE: &str = "INSERT INTO {t}leases AS held (name, holder, until) \
    VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3)) \
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until \
    WHERE held.holder = excluded.holder OR held.until <= clock_timestamp()";
const SET_POLICY: &str = "SELECT {t}set_policy($1, $2, $3, $4, $5)";
