//! One of each operation that changes something, and reads of the log and of the history, for tests
//! that count what a server reads.

use std::time::Duration;

use session_conformance::sample::{self, now, user};
use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::{
    BlockChange, Change, Entries, Forget, HistoryQuery, PolicyChange, Selection, Sweep,
    TenantFilter, Touch,
};
use session_core::{Actor, EventKind, Store};

/// Calls `check` after each, with a number of rows that it has to stay below. The store has a user 7, five
/// sessions whose deadline passed more than a year ago and 500 more, and no log of a century ago.
pub(crate) async fn all(store: &dyn Store, mut check: impl AsyncFnMut(&str, i64)) {
    let mut few = async |what: &str| check(what, 200).await;
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    let owner = user("user 7");
    let now = now(store).await;
    let session = sample::session(store, &owner, now);
    let id = session.id;
    sample::insert(store, &session).await;
    few("a sign-in").await;
    assert!(store.load(id).await.unwrap().is_some());
    few("a load").await;
    let (last_accessed, deadline) = (now, session.deadline);
    let ip_addresses = session.ip_addresses.clone();
    let touch = Touch { id, last_accessed, deadline, claimed: true, ip_addresses };
    store.touch(&[touch]).await.unwrap();
    few("a touch").await;
    let update = Change::Update { session: Box::new(session), kind: EventKind::Rotated };
    sample::commit(store, &owner, vec![update]).await;
    few("a rotation").await;
    sample::commit(store, &owner, vec![Change::ClaimsChanged(id)]).await;
    few("a change of claims").await;
    let scope = PolicyScope::User(owner.clone());
    let by = Actor::Application;
    let policy = PolicyChange { scope: scope.clone(), policy: None, at: now, by: by.clone() };
    store.set_policy(&policy).await.unwrap();
    few("a policy").await;
    let block = Block { reason: None, until: None, since: now, by: by.clone() };
    for block in [Some(block), None] {
        let change = BlockChange { scope: scope.clone(), block, at: now, by: by.clone() };
        store.set_block(&change).await.unwrap();
        few("a block").await;
    }
    assert_eq!(sample::revoke(store, id).await, 1);
    few("a revocation").await;
    assert!(store.ended(id).await.unwrap().is_some());
    few("a read of an ended session").await;
    let history = store.history(&HistoryQuery::user(owner.clone())).await.unwrap();
    assert_eq!(history.sessions.len(), 1);
    few("a page of the history").await;
    assert_eq!(store.forget(&Forget::User(owner), 5).await.unwrap(), 1);
    few("a user's history forgotten").await;
    let overdue = Duration::from_secs(365 * 24 * 3600);
    let sweep = Sweep { overdue, after: None, at: now };
    assert_eq!(store.sweep(&sweep, 5).await.unwrap().ended.len(), 5);
    few("a cleanup").await;
    store.forget(&Forget::OlderThan(overdue), 5).await.unwrap();
    few("old history forgotten").await;
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    assert_eq!(store.trim_log(century, 100).await.unwrap(), 0);
    few("a trim of a log in which nothing is old").await;
    // As often as a server may want to see a statement before it plans it for good.
    for _ in 0..10 {
        cursor = store.log_since(Some(&cursor), Entries::All, 100).await.unwrap().next;
        few("a read of the log").await;
    }
    let everything = sample::end(store, Selection::within(TenantFilter::Any)).await;
    let ended = store.end_many(&everything, 500).await.unwrap().ended.len();
    assert_eq!(ended, 500);
    check("an end of 500 sessions", 500 * OF_A_SESSION).await;
}

/// Rows that are read for each session which ends with many others.
const OF_A_SESSION: i64 = 30;
