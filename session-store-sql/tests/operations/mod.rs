//! One of each operation that changes something, and reads of the log and the history, for tests that
//! count what a server reads.

use std::time::Duration;

use session_conformance::sample::{self, now, user};
use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::{
    BlockChange, Change, Entries, Forget, HistoryQuery, PolicyChange, Sweep, Touch,
};
use session_core::{Actor, EndCause, EventKind, Session, Store, UserKey};

/// Calls `check` after each. The store has a user 7, and at least five sessions whose deadline has
/// passed.
pub(crate) async fn all(store: &dyn Store, mut check: impl AsyncFnMut(&str)) {
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    let owner = user("user 7");
    let session = sample::session(store, &owner, now(store).await);
    sample::insert(store, &session).await;
    check("a sign-in").await;
    changes(store, &session, &mut check).await;
    places(store, &owner, &mut check).await;
    assert_eq!(sample::revoke(store, session.id).await, 1);
    check("a revocation").await;
    history(store, &session, &mut check).await;
    let sweep = Sweep { overdue: Duration::ZERO, after: None, at: now(store).await };
    assert_eq!(store.sweep(&sweep, 5).await.unwrap().ended.len(), 5);
    check("a cleanup").await;
    let forget = Forget::OlderThan(Duration::ZERO);
    assert_eq!(store.forget(&forget, 5).await.unwrap(), 5);
    check("a cleanup of the history").await;
    // As often as a server may want to see a statement before it plans it for good.
    for _ in 0..10 {
        cursor = store.log_since(Some(&cursor), Entries::All, 100).await.unwrap().next;
        check("a read of the log").await;
    }
}

async fn changes(store: &dyn Store, session: &Session, check: &mut impl AsyncFnMut(&str)) {
    let (id, owner) = (session.id, &session.owner);
    assert!(store.load(id).await.unwrap().is_some());
    check("a load").await;
    let touch = Touch {
        id,
        last_accessed: session.last_accessed,
        deadline: session.deadline,
        claimed: true,
        ip_addresses: session.ip_addresses.clone(),
    };
    store.touch(&[touch]).await.unwrap();
    check("a touch").await;
    let rotate = Change::Update { session: Box::new(session.clone()), kind: EventKind::Rotated };
    sample::commit(store, owner, vec![rotate]).await;
    check("a rotation").await;
    sample::commit(store, owner, vec![Change::ClaimsChanged(id)]).await;
    check("a change of claims").await;
    let another = sample::session(store, owner, session.signed_in);
    let end = Change::End(another.id, EndCause::Evicted);
    sample::insert(store, &another).await;
    sample::commit(store, owner, vec![end]).await;
    check("an eviction").await;
}

async fn places(store: &dyn Store, owner: &UserKey, check: &mut impl AsyncFnMut(&str)) {
    let (at, by) = (now(store).await, Actor::Application);
    let scope = || PolicyScope::User(owner.clone());
    let policy = PolicyChange { scope: scope(), policy: None, at, by: by.clone() };
    store.set_policy(&policy).await.unwrap();
    check("a policy").await;
    let block = Block { reason: None, until: None, since: at, by: by.clone() };
    for block in [Some(block), None] {
        let change = BlockChange { scope: scope(), block, at, by: by.clone() };
        store.set_block(&change).await.unwrap();
    }
    check("a block").await;
}

/// The session has ended.
async fn history(store: &dyn Store, session: &Session, check: &mut impl AsyncFnMut(&str)) {
    assert!(store.ended(session.id).await.unwrap().is_some());
    check("an ended session").await;
    let query = HistoryQuery::user(session.owner.clone());
    assert_eq!(store.history(&query).await.unwrap().sessions.len(), 2);
    check("a page of the history").await;
    let forget = Forget::User(session.owner.clone());
    assert_eq!(store.forget(&forget, 10).await.unwrap(), 2);
    check("an erasure").await;
}
