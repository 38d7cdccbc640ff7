//! `sweep`: what is past its deadline at the moment it is deleted.

use std::sync::Arc;
use std::time::Duration;

use session_core::store::{Ended, EndedBatch, Sweep};
use session_core::{Session, Store, StoreErrorKind, Timestamp};
use tokio::task::JoinSet;

use super::ending::malformed;
use crate::Namespace;
use crate::sample::{
    HOUR, SECOND, add, ended_ids, insert_all, insert_in_parts, log_end, now, read_log, session,
    sorted, sweep_all, used, user,
};

pub(crate) async fn a_walk_is_told_once(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let line = now(store.as_ref()).await;
    let old = overdue(store.as_ref(), line, 9).await;
    let young = add(store.as_ref(), &user("user 0")).await;
    let mut cursor = log_end(store.as_ref()).await;
    let swept = sweep_all(store.as_ref(), Duration::ZERO, 2).await;
    assert_eq!(ended_ids(&swept), sorted(&old), "what is past its deadline ends, once");
    for Ended { id, owner } in &swept {
        let whose = old.iter().find(|session| session.id == *id).map(|session| &session.owner);
        assert_eq!(whose, Some(owner), "the owner of what ended");
        assert_eq!(other.load(*id).await.unwrap(), None, "what was swept is gone on every node");
    }
    let told = read_log(other.as_ref(), &mut cursor, 4).await;
    let mut ids: Vec<_> = told.iter().filter_map(|event| event.session).collect();
    ids.sort();
    assert_eq!(ids, sorted(&old), "each end is told, once");
    assert!(store.load(young.id).await.unwrap().is_some(), "what is in use stays");
    assert_eq!(sweep_all(store.as_ref(), Duration::ZERO, 2).await, [], "a second walk: nothing");
}

pub(crate) async fn a_session_in_use_is_passed_over_and_the_walk_goes_on(
    namespace: Arc<dyn Namespace>,
) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let line = now(store.as_ref()).await;
    let old = overdue(store.as_ref(), line, 10).await;
    let mut sweep = Sweep { overdue: Duration::ZERO, after: None, at: now(store.as_ref()).await };
    let mut swept = store.sweep(&sweep, 2).await.unwrap();
    let mut ended = std::mem::take(&mut swept.ended);
    let gone = ended_ids(&ended);
    // Half of what is left is used in the middle of the walk.
    let (again, unused): (Vec<_>, Vec<_>) =
        old.iter().filter(|s| !gone.contains(&s.id)).enumerate().partition(|(n, _)| n % 2 == 0);
    let again: Vec<_> = again.into_iter().map(|(_, session)| session).collect();
    let touches: Vec<_> = again.iter().map(|s| used(s.id, line.plus(HOUR))).collect();
    assert_eq!(other.touch(&touches).await.unwrap(), []);
    for call in 0.. {
        assert!(call < 1000, "the walk has no end");
        let Some(next) = swept.next.take() else { break };
        sweep.after = Some(next);
        swept = store.sweep(&sweep, 2).await.unwrap();
        ended.append(&mut swept.ended);
    }
    let mut expected: Vec<_> = unused.into_iter().map(|(_, session)| session.id).collect();
    expected.extend(gone);
    expected.sort();
    assert_eq!(ended_ids(&ended), expected, "all that is not in use again ends");
    for session in again {
        let loaded = store.load(session.id).await.unwrap();
        assert!(loaded.is_some(), "what is in use again is passed over");
    }
}

pub(crate) async fn a_malformed_continuation_is_refused(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let line = now(store.as_ref()).await;
    let old = overdue(store.as_ref(), line, 1).await;
    let mut cursor = log_end(store.as_ref()).await;
    for after in malformed() {
        let sweep = Sweep { overdue: Duration::ZERO, after: Some(after), at: line };
        let answer = store.sweep(&sweep, 10).await.map_err(|error| error.kind());
        assert_eq!(answer, Err(StoreErrorKind::Refused), "{:?}", sweep.after);
    }
    assert!(store.load(old[0].id).await.unwrap().is_some(), "a refused call ends nothing");
    assert_eq!(read_log(store.as_ref(), &mut cursor, 10).await, [], "and tells nothing");
}

pub(crate) async fn a_limit_of_none_counts_as_one(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let line = now(store.as_ref()).await;
    let old = overdue(store.as_ref(), line, 3).await;
    let mut sweep = Sweep { overdue: Duration::ZERO, after: None, at: now(store.as_ref()).await };
    let mut ended = Vec::new();
    for _ in 0..100 {
        let batch = store.sweep(&sweep, 0).await.unwrap();
        assert!(batch.ended.len() <= 1, "a limit of 0 counts as 1");
        ended.extend(batch.ended);
        match batch.next {
            Some(next) => sweep.after = Some(next),
            None => break,
        }
    }
    assert_eq!(ended_ids(&ended), sorted(&old), "a limit of 0 counts as 1 and ends all");
}

pub(crate) async fn a_limit_beyond_the_largest_counts_as_the_largest(
    namespace: Arc<dyn Namespace>,
) {
    let store = namespace.connect().await;
    let most = EndedBatch::MAX_LIMIT as usize;
    let (owner, line) = (user("alice"), now(store.as_ref()).await);
    let deadline = line.minus(SECOND);
    let old = |_| Session { deadline, ..session(store.as_ref(), &owner, line) };
    let old: Vec<_> = (0..most + 5).map(old).collect();
    insert_in_parts(store.as_ref(), &owner, &old).await;
    let ended = sweep_all(store.as_ref(), Duration::ZERO, u32::MAX).await;
    assert_eq!(ended_ids(&ended), sorted(&old), "all end, in more calls than one");
}

/// Sessions that were used again stand before those that were not, in an order by age.
pub(crate) async fn a_walk_with_sessions_in_use_comes_to_its_end(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let line = now(store.as_ref()).await;
    let old = overdue(store.as_ref(), line, 12).await;
    let (again, unused) = old.split_at(8);
    let batch: Vec<_> = again.iter().map(|s| used(s.id, line.plus(HOUR))).collect();
    assert_eq!(store.touch(&batch).await.unwrap(), []);
    let swept = sweep_all(store.as_ref(), Duration::ZERO, 3).await;
    assert_eq!(ended_ids(&swept), sorted(unused), "what stands behind those in use ends, too");
    assert_eq!(sweep_all(store.as_ref(), Duration::ZERO, 3).await, []);
}

pub(crate) async fn sweeps_side_by_side_end_each_session_once(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let line = now(store.as_ref()).await;
    let old = overdue(store.as_ref(), line, 20).await;
    let mut cursor = log_end(store.as_ref()).await;
    let mut sweeps = JoinSet::new();
    for _ in 0..4 {
        let node = namespace.connect().await;
        sweeps.spawn(async move { sweep_all(node.as_ref(), Duration::ZERO, 3).await });
    }
    let ended: Vec<_> = sweeps.join_all().await.into_iter().flatten().collect();
    assert_eq!(ended_ids(&ended), sorted(&old), "of several sweeps one ends a session");
    let told = read_log(store.as_ref(), &mut cursor, 50).await;
    assert_eq!(told.len(), old.len(), "each end is told once");
}

/// Sessions of three users whose deadlines passed before this, the first one's longest ago.
async fn overdue(store: &dyn Store, line: Timestamp, count: u32) -> Vec<Session> {
    let mut sessions = Vec::new();
    for n in 0..count {
        let owner = user(&format!("user {}", n % 3));
        let deadline = line.minus(SECOND * (count - n));
        sessions.push(Session { deadline, ..session(store, &owner, line) });
    }
    insert_all(store, &sessions).await;
    sessions
}
