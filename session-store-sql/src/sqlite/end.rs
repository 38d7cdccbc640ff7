//! Ends many sessions. They are chosen by a reader, outside of the transaction that takes the write
//! lock; what is gone or in use again by then is not ended.

use std::sync::Arc;

use session_core::store::{
    Continuation, EndMany, Ended, EndedBatch, Ending, Recheck, Sweep, limit_within,
};
use session_core::{DeviceInfo, EventKind, StoreError, Timestamp};

use super::history::remember;
use super::tx::Tx;
use super::{Pools, read, store_error};
use crate::{rows, walk};

pub(super) async fn end_many(
    pools: &Pools,
    end: &EndMany,
    limit: u32,
    keeps_history: bool,
) -> Result<EndedBatch, StoreError> {
    let chosen = read::choose(pools.readers()?, end, limit).await?;
    let (recheck, ending) = (Recheck::from(end), Ending::from(end));
    let ended = end_chosen(pools, &chosen.found, recheck, &ending, keeps_history).await?;
    Ok(EndedBatch { ended, next: chosen.next.map(Continuation::at) })
}

/// Along the index of when sessions are due. What is in use again is put off to its deadline.
pub(super) async fn sweep(
    pools: &Pools,
    sweep: &Sweep,
    limit: u32,
    keeps_history: bool,
) -> Result<EndedBatch, StoreError> {
    let limit = limit_within(limit, EndedBatch::MAX_LIMIT);
    let after = walk::due_after(sweep)?;
    let rows = sqlx::query(DUE)
        .bind(pools.clock.now().minus(sweep.overdue).as_micros())
        .bind(after.at.as_micros())
        .bind(&after.id.as_bytes()[..])
        .bind(limit)
        .fetch_all(pools.readers()?)
        .await
        .map_err(store_error)?;
    let chosen = walk::due(&rows, limit)?;
    let (recheck, ending) = (Recheck::from(sweep), Ending::from(sweep));
    let ended = end_chosen(pools, &chosen.found, recheck, &ending, keeps_history).await?;
    Ok(EndedBatch { ended, next: chosen.next.map(Continuation::at) })
}

/// Ends those of the chosen sessions that are still there and for which the recheck holds.
async fn end_chosen(
    pools: &Pools,
    chosen: &[Vec<u8>],
    recheck: Recheck,
    ending: &Ending,
    keeps_history: bool,
) -> Result<Vec<Ended>, StoreError> {
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = chosen.iter().map(const_hex::encode).collect();
    let (ids, count) = (serde_json::json!(ids).to_string(), chosen.len());
    let (ending, clock, after) = (ending.clone(), pools.clock.clone(), Arc::clone(&pools.after));
    let end = async move |tx: Tx<'_>| {
        // Once the write lock is held.
        let lines = Lines::of(recheck, clock.now());
        let ended = end_those(tx, ids, count, lines, &ending, keeps_history).await?;
        // In a sweep those that have not ended were put off.
        after.wrote(if recheck.overdue.is_some() { count } else { ended.len() });
        if !ended.is_empty() {
            after.invalidated();
        }
        Ok(ended)
    };
    pools.after.checkpoints.pass(count).await;
    pools.writer.write(end).await
}

async fn end_those(
    mut tx: Tx<'_>,
    ids: String,
    count: usize,
    lines: Lines,
    ending: &Ending,
    keeps_history: bool,
) -> Result<Vec<Ended>, StoreError> {
    if keeps_history {
        keep(&mut tx, &ids, lines, ending).await?;
    }
    let rows = sqlx::query(END)
        .bind(&ids)
        .bind(lines.deadline)
        .bind(lines.accessed)
        .fetch_all(&mut *tx)
        .await
        .map_err(store_error)?;
    let ended = rows.iter().map(rows::ended).collect::<Result<Vec<_>, _>>()?;
    if !ended.is_empty() {
        tell(&mut tx, &ended, ending).await?;
    }
    let is_put_off = lines.deadline.is_some() && ended.len() < count;
    if is_put_off {
        sqlx::query(PUT_OFF).bind(ids).execute(&mut *tx).await.map_err(store_error)?;
    }
    if is_put_off || !ended.is_empty() {
        tx.commit().await.map_err(store_error)?;
    }
    Ok(ended)
}

/// What the deadline and the last access must be before.
#[derive(Clone, Copy)]
struct Lines {
    deadline: Option<i64>,
    accessed: Option<i64>,
}

impl Lines {
    fn of(Recheck { overdue, accessed_before }: Recheck, now: Timestamp) -> Self {
        Self {
            deadline: overdue.map(|overdue| now.minus(overdue).as_micros()),
            accessed: accessed_before.map(Timestamp::as_micros),
        }
    }
}

/// Copies those that will end into the history.
async fn keep(tx: &mut Tx<'_>, ids: &str, lines: Lines, ending: &Ending) -> Result<(), StoreError> {
    sqlx::query(REMEMBER)
        .bind(ids)
        .bind(lines.deadline)
        .bind(ending.cause.as_str())
        .bind(ending.at.as_micros())
        .bind(ending.by.to_string())
        .bind(ending.from.as_ref().map(DeviceInfo::as_str))
        .bind(lines.accessed)
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}

/// Logs sessions that have been deleted, and raises the versions of their users.
async fn tell(tx: &mut Tx<'_>, ended: &[Ended], ending: &Ending) -> Result<(), StoreError> {
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
        .bind(EventKind::Ended(ending.cause).as_str())
        .bind(ending.at.as_micros())
        .bind(ending.by.to_string())
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    let before = told.last_insert_rowid() - ended.len().cast_signed() as i64;
    for statement in [SET_VERSIONS, FORGET_USERS] {
        sqlx::query(statement).bind(before).execute(&mut **tx).await.map_err(store_error)?;
    }
    Ok(())
}

/// ?2 and ?3 are where the last call ended.
pub(super) const DUE: &str = "SELECT id, due FROM session_kit_sessions \
    WHERE due < ?1 AND due >= ?2 AND (due > ?2 OR id > ?3) ORDER BY due, id LIMIT ?4";
pub(super) const REMEMBER: &str = remember!(
    "?3",
    "json_each(?1) AS chosen CROSS JOIN session_kit_sessions AS s \
        ON s.id = unhex(chosen.value) WHERE (?2 IS NULL OR s.deadline < ?2) \
        AND (?7 IS NULL OR s.last_accessed < ?7)"
);
pub(super) const END: &str = "DELETE FROM session_kit_sessions \
    WHERE id IN (SELECT unhex(value) FROM json_each(?1)) \
    AND (?2 IS NULL OR deadline < ?2) AND (?3 IS NULL OR last_accessed < ?3) \
    RETURNING id, tenant, user_id";
pub(super) const PUT_OFF: &str = "UPDATE session_kit_sessions SET due = deadline \
    WHERE id IN (SELECT unhex(value) FROM json_each(?1)) AND due < deadline";
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use session_conformance::sample::{self, PATIENCE, now, user};
    use session_core::store::{Change, Commit, Outcome, Selection, Version};
    use session_core::{Actor, Session, Store};
    use sqlx::AssertSqlSafe;
    use tempfile::TempDir;

    use super::super::{SqliteOptions, SqliteStore};
    use super::*;

    /// With one reader.
    async fn store() -> (TempDir, Arc<SqliteStore>) {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::default().with_readers(1);
        let store = SqliteStore::connect_with(folder.path().join("s.db"), options).await.unwrap();
        (folder, Arc::new(store))
    }

    /// A sign-in that reads nothing first.
    async fn begin(store: &SqliteStore, session: &Session) {
        let (owner, at) = (session.owner.clone(), session.signed_in);
        let changes = vec![Change::Insert(Box::new(session.clone()))];
        let (expected, by) = (Version::NONE, Actor::Application);
        let commit = Commit { owner, expected, changes, at, by, from: None };
        assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
    }

    /// The only reader is held, so a walk stands still while it chooses, as one that examines much does.
    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_waits_for_a_walk_that_chooses() {
        let (_folder, store) = store().await;
        let at = now(store.as_ref()).await;
        let mine = sample::session(store.as_ref(), &user("alice"), at);
        let old = Session {
            deadline: Timestamp::EPOCH,
            ..sample::session(store.as_ref(), &user("bob"), at)
        };
        begin(&store, &mine).await;
        begin(&store, &old).await;
        let all = sample::end(store.as_ref(), Selection::user(mine.owner.clone())).await;
        let overdue = Sweep { overdue: Duration::from_secs(1), after: None, at };
        let held = store.pools.readers.acquire().await.unwrap();
        let (ending, sweeping) = (Arc::clone(&store), Arc::clone(&store));
        let ending = tokio::spawn(async move { ending.end_many(&all, 10).await.unwrap() });
        let sweeping = tokio::spawn(async move { sweeping.sweep(&overdue, 10).await.unwrap() });
        // Each is as far as it comes without the reader.
        for n in 0..100 {
            let other = sample::session(store.as_ref(), &user(&format!("user {n}")), at);
            tokio::time::timeout(PATIENCE, begin(&store, &other)).await.expect("it waits");
            assert!(!ending.is_finished() && !sweeping.is_finished(), "they choose by a reader");
        }
        drop(held);
        assert_eq!(ending.await.unwrap().ended[0].id, mine.id);
        assert_eq!(sweeping.await.unwrap().ended[0].id, old.id);
    }

    /// Sessions that began long ago and are in use: the cleanup does not pass over them in each call.
    #[tokio::test]
    async fn a_cleanup_reads_what_it_ends() {
        let (_folder, store) = store().await;
        // One of twenty is not in use.
        let fill = "WITH RECURSIVE numbers (n) AS \
                (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 9999) \
            INSERT INTO session_kit_users SELECT '', 'user ' || n, n FROM numbers; \
            WITH RECURSIVE numbers (n) AS \
                (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 9999) \
            INSERT INTO session_kit_sessions SELECT randomblob(16), '', 'user ' || n, 'Web', NULL, \
                '', n, n, iif(n % 20 = 0, n + 1, 1 << 60), 0, '{}', \
                iif(n % 20 = 0, n + 1, 1 << 60) FROM numbers; ANALYZE;";
        let fill = async move |mut tx: Tx<'_>| {
            sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut *tx).await.unwrap();
            tx.commit().await.map_err(store_error)
        };
        store.pools.writer.write(fill).await.unwrap();
        // Of a call only the choosing is counted: what ends is named by ids.
        let steps = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&steps);
        let mut reader = store.pools.readers.acquire().await.unwrap();
        let mut handle = reader.lock_handle().await.unwrap();
        handle.set_progress_handler(1, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            true
        });
        drop(handle);
        drop(reader);
        let (overdue, at) = (Duration::from_secs(30 * 24 * 3600), now(store.as_ref()).await);
        let mut after = None;
        for call in 0..6 {
            let batch = store.sweep(&Sweep { overdue, after, at }, 100).await.unwrap();
            let steps = steps.swap(0, Ordering::Relaxed);
            println!("call {call} takes {steps} steps");
            assert_eq!(batch.ended.len(), if call < 5 { 100 } else { 0 }, "call {call}");
            assert!((10..2_000).contains(&steps), "call {call} takes {steps} steps");
            after = batch.next;
        }
        assert_eq!(after, None);
    }
}
