//! A decision about one user's sessions: one transaction that takes the write lock at its start.
//!
//! A commit names each session once, so its changes are applied kind by kind; only the log has to
//! tell them in their order.

use std::sync::Arc;

use session_core::store::{Change, Commit, Outcome};
use session_core::{DeviceInfo, StoreError, Timestamp, UserKey};

use super::history::remember;
use super::tx::Tx;
use super::{Pools, store_error};
use crate::steps;

pub(super) async fn commit(
    pools: &Pools,
    commit: &Commit,
    keeps_history: bool,
) -> Result<Outcome, StoreError> {
    commit.check()?;
    let (commit, clock) = (commit.clone(), pools.clock.clone());
    let (steps, after) = (steps::text(&commit.changes), Arc::clone(&pools.after));
    let change = async move |tx: Tx<'_>| {
        let outcome = decide(tx, &commit, &steps, clock.now(), keeps_history).await?;
        if outcome == Outcome::Done {
            after.wrote(commit.changes.len());
            if commit.invalidates() {
                after.invalidated();
            }
        }
        Ok(outcome)
    };
    pools.writer.write(change).await
}

/// Once the write lock is held.
async fn decide(
    mut tx: Tx<'_>,
    commit: &Commit,
    steps: &str,
    now: Timestamp,
    keeps_history: bool,
) -> Result<Outcome, StoreError> {
    if !is_possible(&mut tx, commit, steps, now).await? {
        return Ok(Outcome::Conflict);
    }
    // Before the changes: what they find is what the log tells.
    if let Some(newest) = tell(&mut tx, commit, steps).await? {
        apply(&mut tx, commit, steps, newest, keeps_history).await?;
    }
    tx.commit().await.map_err(store_error)?;
    Ok(Outcome::Done)
}

/// Whether the version holds, every change finds what it needs, and no block refuses an insert.
async fn is_possible(
    tx: &mut Tx<'_>,
    commit: &Commit,
    steps: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    sqlx::query_scalar(IS_POSSIBLE)
        .bind(commit.owner.tenant_text())
        .bind(commit.owner.user.as_str())
        .bind(steps)
        .bind(commit.expected.0)
        .bind(begins_any(commit))
        .bind(now.as_micros())
        .fetch_one(&mut **tx)
        .await
        .map_err(store_error)
}

/// Logs all changes but those that are passed over. Answers the number of the last entry.
async fn tell(tx: &mut Tx<'_>, commit: &Commit, steps: &str) -> Result<Option<i64>, StoreError> {
    let told = sqlx::query(TELL)
        .bind(commit.owner.tenant_text())
        .bind(commit.owner.user.as_str())
        .bind(steps)
        .bind(commit.at.as_micros())
        .bind(commit.by.to_string())
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok((told.rows_affected() > 0).then(|| told.last_insert_rowid()))
}

async fn apply(
    tx: &mut Tx<'_>,
    commit: &Commit,
    steps: &str,
    newest: i64,
    keeps_history: bool,
) -> Result<(), StoreError> {
    let Commit { owner, changes, .. } = commit;
    set_version(tx, owner, newest).await?;
    if begins_any(commit) {
        run(tx, INSERT, owner, steps).await?;
    }
    if changes.iter().any(|change| matches!(change, Change::Update { .. })) {
        run(tx, UPDATE, owner, steps).await?;
    }
    if changes.iter().any(|change| matches!(change, Change::End(..))) {
        if keeps_history {
            keep(tx, commit, steps).await?;
        }
        run(tx, END, owner, steps).await?;
        if !begins_any(commit) {
            run(tx, FORGET_USER, owner, steps).await?;
        }
    }
    Ok(())
}

fn begins_any(commit: &Commit) -> bool {
    commit.changes.iter().any(|change| matches!(change, Change::Insert(_)))
}

/// Copies the sessions that end into the history.
async fn keep(tx: &mut Tx<'_>, commit: &Commit, steps: &str) -> Result<(), StoreError> {
    sqlx::query(REMEMBER)
        .bind(commit.owner.tenant_text())
        .bind(commit.owner.user.as_str())
        .bind(steps)
        .bind(commit.at.as_micros())
        .bind(commit.by.to_string())
        .bind(commit.from.as_ref().map(DeviceInfo::as_str))
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

async fn set_version(tx: &mut Tx<'_>, owner: &UserKey, newest: i64) -> Result<(), StoreError> {
    sqlx::query(SET_VERSION)
        .bind(owner.tenant_text())
        .bind(owner.user.as_str())
        .bind(newest)
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

async fn run(
    tx: &mut Tx<'_>,
    statement: &'static str,
    owner: &UserKey,
    steps: &str,
) -> Result<(), StoreError> {
    sqlx::query(statement)
        .bind(owner.tenant_text())
        .bind(owner.user.as_str())
        .bind(steps)
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

/// All of them: ?1 tenant, ?2 user, ?3 steps. Here ?5 tells whether a session begins, and ?6 when.
pub(super) const IS_POSSIBLE: &str = "SELECT ?4 = COALESCE( \
        (SELECT version FROM session_kit_users WHERE tenant = ?1 AND user_id = ?2), 0) \
    AND NOT EXISTS (SELECT 1 FROM json_each(?3) AS step \
        LEFT JOIN session_kit_sessions AS s ON s.id = unhex(step.value ->> 'id') \
        WHERE CASE step.value ->> 'do' \
            WHEN 'insert' THEN s.id IS NOT NULL OR EXISTS (SELECT 1 FROM session_kit_history AS h \
                WHERE h.id = unhex(step.value ->> 'id')) \
            WHEN 'update' THEN s.tenant IS NOT ?1 OR s.user_id IS NOT ?2 \
            ELSE false END) \
    AND NOT (?5 AND EXISTS (SELECT 1 FROM session_kit_policies AS p \
        WHERE (p.tenant, p.user_id) IN (VALUES ('', ''), (?1, ''), (?1, ?2)) \
        AND p.block IS NOT NULL AND (p.blocked_until IS NULL OR p.blocked_until > ?6)))";
pub(super) const TELL: &str = "INSERT INTO session_kit_log (tag, kind, at, actor, tenant, user_id, session_id) \
    SELECT random(), step.value ->> 'kind', ?4, ?5, ?1, ?2, unhex(step.value ->> 'id') \
    FROM json_each(?3) AS step \
    WHERE step.value ->> 'do' = 'insert' OR EXISTS (SELECT 1 FROM session_kit_sessions AS s \
        WHERE s.id = unhex(step.value ->> 'id') AND s.tenant IS ?1 AND s.user_id IS ?2) \
    ORDER BY step.key";
pub(super) const SET_VERSION: &str = "INSERT INTO session_kit_users (tenant, user_id, version) VALUES (?1, ?2, ?3) \
    ON CONFLICT DO UPDATE SET version = excluded.version";
const INSERT: &str = "INSERT INTO session_kit_sessions (id, tenant, user_id, device_kind, \
        client_id, ip_addresses, signed_in, last_accessed, deadline, claimed, details, due) \
    SELECT unhex(value ->> 'id'), ?1, ?2, value ->> 'device_kind', \
        value ->> 'client_id', value ->> 'ip_addresses', value ->> 'signed_in', \
        value ->> 'last_accessed', value ->> 'deadline', value ->> 'claimed', value ->> 'details', \
        value ->> 'deadline' \
    FROM json_each(?3) WHERE value ->> 'do' = 'insert'";
pub(super) const UPDATE: &str = "UPDATE session_kit_sessions SET \
        details = step.value ->> 'details', \
        deadline = MAX(deadline, step.value ->> 'deadline') \
    FROM json_each(?3) AS step WHERE step.value ->> 'do' = 'update' \
        AND session_kit_sessions.id = unhex(step.value ->> 'id') \
        AND tenant IS ?1 AND user_id IS ?2";
pub(super) const REMEMBER: &str = remember!(
    "step.value ->> 'kind'",
    "json_each(?3) AS step CROSS JOIN session_kit_sessions AS s \
        ON s.id = unhex(step.value ->> 'id') \
        WHERE step.value ->> 'do' = 'end' AND s.tenant IS ?1 AND s.user_id IS ?2"
);
// `IS`, not `=`: the plan must go by the id, however many sessions the user has.
pub(super) const END: &str = "DELETE FROM session_kit_sessions WHERE id IN \
        (SELECT unhex(value ->> 'id') FROM json_each(?3) WHERE value ->> 'do' = 'end') \
    AND tenant IS ?1 AND user_id IS ?2";
pub(super) const FORGET_USER: &str = "DELETE FROM session_kit_users WHERE tenant = ?1 AND user_id = ?2 AND NOT EXISTS \
        (SELECT 1 FROM session_kit_sessions WHERE tenant = ?1 AND user_id = ?2)";
