//! One of each operation that changes something, and reads of the log, for tests that count what a
//! server reads.

use session_conformance::sample::{self, now, user};
use session_core::cleanup::SweepRule;
use session_core::policy::PolicyScope;
use session_core::store::{Change, Entries, PolicyChange, Sweep, Touch};
use session_core::{Actor, Store, Timestamp};

/// Calls `check` after each. The store has a user 7, and five sessions that are old.
pub(crate) async fn all(store: &dyn Store, mut check: impl AsyncFnMut(&str)) {
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    let owner = user("user 7");
    let session = sample::session(store, &owner, now());
    let id = session.id;
    sample::insert(store, &session).await;
    check("a sign-in").await;
    assert!(store.load(id).await.unwrap().is_some());
    check("a load").await;
    let ip_addresses = session.ip_addresses.clone();
    store.touch(&[Touch { id, last_accessed: now(), ip_addresses }]).await.unwrap();
    check("a touch").await;
    let token = session.token.clone();
    let rotate = Change::ReplaceToken { id, token, authenticated_at: None };
    sample::commit(store, &owner, vec![rotate, Change::ClaimsChanged(id)]).await;
    check("a rotation").await;
    let scope = PolicyScope::User(owner);
    let policy = PolicyChange { scope, policy: None, at: now(), by: Actor::Application };
    store.set_policy(&policy).await.unwrap();
    check("a policy").await;
    assert_eq!(sample::revoke(store, id).await, 1);
    check("a revocation").await;
    let line = Timestamp::from_micros(10);
    let rule = SweepRule { inactive_before: line, expired_by: line };
    let sweep = Sweep { rule, after: None, at: now() };
    assert_eq!(store.sweep(&sweep, 5).await.unwrap().ended.len(), 5);
    check("a cleanup").await;
    // As often as a server may want to see a statement before it plans it for good.
    for _ in 0..10 {
        cursor = store.log_since(Some(&cursor), Entries::All, 100).await.unwrap().next;
        check("a read of the log").await;
    }
}
