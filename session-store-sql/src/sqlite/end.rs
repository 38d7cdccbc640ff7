//! Ends many sessions. They are chosen by a reader, outside of the transaction that takes the write
//! lock; what is gone or in use again by then is not ended.

use session_core::cleanup::SweepRule;
use session_core::store::{Continuation, EndMany, Ended, EndedBatch, Sweep, limit_within};
use session_core::{Actor, EndCause, EventKind, StoreError, Timestamp};
use sqlx::sqlite::SqlitePool;

use super::tx::{Tx, begin};
use super::{Pools, read, store_error};
use crate::{rows, walk};

/// What the log says of sessions that end.
struct Why<'a> {
    cause: EndCause,
    at: Timestamp,
    by: &'a Actor,
}

pub(super) async fn end_many(
    pools: &Pools,
    end: &EndMany,
    limit: u32,
) -> Result<EndedBatch, StoreError> {
    let chosen = read::choose(&pools.readers, end, limit).await?;
    let why = Why { cause: end.cause, at: end.at, by: &end.by };
    let ended = end_chosen(&pools.writer, &chosen.found, None, &why).await?;
    Ok(EndedBatch { ended, next: chosen.next.map(walk::continuation) })
}

/// First along the index of the last access, then along that of the expiry. What has ended or is
/// in use again has left them, so a call need not know where exactly the last one ended.
pub(super) async fn sweep(
    pools: &Pools,
    sweep: &Sweep,
    limit: u32,
) -> Result<EndedBatch, StoreError> {
    let Sweep { rule, after, at } = sweep;
    let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
    let mut chosen = Vec::new();
    let mut next = None;
    for (index, statement, line) in lines(rule, after.as_ref())? {
        let left = i64::from(limit) - chosen.len().cast_signed() as i64;
        let found = sqlx::query_scalar(statement)
            .bind(line.as_micros())
            .bind(left)
            .fetch_all(&pools.readers)
            .await
            .map_err(store_error)?;
        chosen.extend(found);
        if chosen.len() == limit as usize {
            next = Some(Continuation(index.to_vec()));
            break;
        }
    }
    let why = Why { cause: EndCause::Expired, at: *at, by: &Actor::System };
    let ended = end_chosen(&pools.writer, &chosen, Some(rule), &why).await?;
    Ok(EndedBatch { ended, next })
}

type Line = (&'static [u8], &'static str, Timestamp);

/// The indexes that are still to be looked at, each with where to look.
fn lines(rule: &SweepRule, after: Option<&Continuation>) -> Result<Vec<Line>, StoreError> {
    let unused: Line = (b"unused", UNUSED, rule.inactive_before);
    let expired: Line = (b"expired", EXPIRED, rule.expired_by);
    match after.map(|after| after.0.as_slice()) {
        None | Some(b"unused") => Ok(vec![unused, expired]),
        Some(b"expired") => Ok(vec![expired]),
        Some(_) => Err(Continuation::malformed()),
    }
}

/// Ends those of the chosen sessions that are still there and, where there is a rule, still covered.
async fn end_chosen(
    writer: &SqlitePool,
    chosen: &[Vec<u8>],
    rule: Option<&SweepRule>,
    why: &Why<'_>,
) -> Result<Vec<Ended>, StoreError> {
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = chosen.iter().map(const_hex::encode).collect();
    let mut tx = begin(writer).await?;
    let rows = sqlx::query(END)
        .bind(serde_json::json!(ids).to_string())
        .bind(rule.map(|rule| rule.inactive_before.as_micros()))
        .bind(rule.map(|rule| rule.expired_by.as_micros()))
        .fetch_all(&mut *tx)
        .await
        .map_err(store_error)?;
    let ended = rows.iter().map(rows::ended).collect::<Result<Vec<_>, _>>()?;
    if !ended.is_empty() {
        tell(&mut tx, &ended, why).await?;
        tx.commit().await.map_err(store_error)?;
    }
    Ok(ended)
}

/// Logs sessions that have been deleted, and raises the versions of their users.
async fn tell(tx: &mut Tx, ended: &[Ended], why: &Why<'_>) -> Result<(), StoreError> {
    let entry = |Ended { id, owner }: &Ended| {
        serde_json::json!([
            const_hex::encode(id.as_bytes()),
            owner.tenant_text(),
            owner.user.as_str()
        ])
    };
    let entries: Vec<_> = ended.iter().map(entry).collect();
    let told = sqlx::query(TELL)
        .bind(serde_json::Value::Array(entries).to_string())
        .bind(EventKind::Ended(why.cause).as_str())
        .bind(why.at.as_micros())
        .bind(why.by.to_string())
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    let before = told.last_insert_rowid() - ended.len().cast_signed() as i64;
    for statement in [SET_VERSIONS, FORGET_USERS] {
        sqlx::query(statement).bind(before).execute(&mut **tx).await.map_err(store_error)?;
    }
    Ok(())
}

pub(super) const UNUSED: &str = "SELECT id FROM session_kit_sessions WHERE last_accessed < ? \
    ORDER BY last_accessed LIMIT ?";
pub(super) const EXPIRED: &str = "SELECT id FROM session_kit_sessions WHERE absolute_expiry <= ? \
    ORDER BY absolute_expiry LIMIT ?";
pub(super) const END: &str = "DELETE FROM session_kit_sessions \
    WHERE id IN (SELECT unhex(value) FROM json_each(?1)) \
    AND (?2 IS NULL OR +last_accessed < ?2 OR +absolute_expiry <= ?3) \
    RETURNING id, tenant, user_id";
pub(super) const TELL: &str = "INSERT INTO session_kit_log (tag, kind, at, actor, tenant, user_id, session_id) \
    SELECT random(), ?2, ?3, ?4, value ->> 1, value ->> 2, unhex(value ->> 0) \
    FROM json_each(?1) ORDER BY key";
/// ?1 is the number of the last entry before.
pub(super) const SET_VERSIONS: &str = "UPDATE session_kit_users SET version = told.newest \
    FROM (SELECT tenant, user_id, MAX(seq) AS newest FROM session_kit_log WHERE seq > ?1 \
        GROUP BY tenant, user_id) AS told \
    WHERE session_kit_users.tenant = told.tenant AND session_kit_users.user_id = told.user_id";
pub(super) const FORGET_USERS: &str = "DELETE FROM session_kit_users WHERE (tenant, user_id) IN \
        (SELECT tenant, user_id FROM session_kit_log WHERE seq > ?1) \
    AND NOT EXISTS (SELECT 1 FROM session_kit_sessions AS s \
        WHERE s.tenant = session_kit_users.tenant AND s.user_id = session_kit_users.user_id)";
