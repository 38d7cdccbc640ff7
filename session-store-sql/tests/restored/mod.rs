//! A restored dump whose tables are of different moments: the history knows sessions that have not
//! ended, or the users of sessions are missing.

use std::time::Duration;

use session_conformance::sample::{self, now, user};
use session_core::store::{Change, Outcome, Selection, TenantFilter, Version};
use session_core::{EndCause, Store};

/// Writes a history of every session, each with another user's name.
pub(crate) const KNOW_ALL: &str = "INSERT INTO session_kit_history \
    SELECT id, tenant, 'another', device_kind, client_id, ip_addresses, signed_in, last_accessed, \
    deadline, claimed, details, 7, 'evicted', 'system', NULL FROM session_kit_sessions";

/// Writes a session into the history and leaves it where it is; its id has to follow.
#[allow(dead_code, reason = "only the kit's namespaces of servers do it here")]
pub(crate) const REMEMBER_ALIVE: &str = "INSERT INTO session_kit_history \
    SELECT id, tenant, user_id, device_kind, client_id, ip_addresses, signed_in, last_accessed, \
    deadline, claimed, details, 0, 'evicted', 'system', NULL FROM session_kit_sessions WHERE id = ";

/// Ends sessions in each way after `know_all` has been called. The store is empty.
pub(crate) async fn ends_what_the_history_knows(store: &dyn Store, know_all: impl AsyncFnOnce()) {
    let begun = now(store).await;
    let mut sessions =
        ["alice", "bob", "carol"].map(|name| sample::session(store, &user(name), begun));
    sessions[2].deadline = begun.minus(Duration::from_secs(1));
    for session in &sessions {
        sample::insert(store, session).await;
    }
    know_all().await;
    let [committed, revoked, expired] = &sessions;
    let known = store.ended(committed.id).await.unwrap().unwrap();
    assert_eq!((known.cause, known.session.owner), (EndCause::Evicted, user("another")));

    let end = Change::End(committed.id, EndCause::SignedOut);
    assert_eq!(sample::commit(store, &committed.owner, vec![end]).await, Outcome::Done);
    assert_eq!(sample::revoke(store, revoked.id).await, 1);
    let swept = sample::sweep_all(store, Duration::ZERO, 10).await;
    assert_eq!(swept.iter().map(|ended| ended.id).collect::<Vec<_>>(), [expired.id]);
    for (session, cause) in [
        (committed, EndCause::SignedOut),
        (revoked, EndCause::Revoked),
        (expired, EndCause::Expired),
    ] {
        assert!(store.load(session.id).await.unwrap().is_none(), "{cause}");
        let told = store.ended(session.id).await.unwrap().unwrap();
        assert_eq!((&told.session, told.cause), (session, cause));
        assert!(told.ended >= begun, "{cause}");
    }
}

/// Forgets every user.
pub(crate) const FORGET_USERS: &str = "DELETE FROM session_kit_users";

/// Reads and ends sessions in each way after `forget_users` has been called. The store is empty.
pub(crate) async fn ends_what_has_no_user(store: &dyn Store, forget_users: impl AsyncFnOnce()) {
    let begun = now(store).await;
    let mut sessions =
        ["alice", "bob", "carol"].map(|name| sample::session(store, &user(name), begun));
    sessions[2].deadline = begun.minus(Duration::from_secs(1));
    for session in &sessions {
        sample::insert(store, session).await;
    }
    forget_users().await;
    for session in &sessions {
        let state = store.user(&session.owner).await.unwrap();
        assert_eq!((state.version, state.sessions.len()), (Version::NONE, 1));
        let loaded = store.load(session.id).await.unwrap().expect("a session that `user` lists");
        assert_eq!((&loaded.session, loaded.version), (session, Version::NONE));
    }
    let [committed, revoked, expired] = &sessions;
    let end = Change::End(committed.id, EndCause::SignedOut);
    assert_eq!(sample::commit(store, &committed.owner, vec![end]).await, Outcome::Done);
    let swept = sample::sweep_all(store, Duration::ZERO, 10).await;
    assert_eq!(swept.iter().map(|ended| ended.id).collect::<Vec<_>>(), [expired.id]);
    let all = sample::end(store, Selection::within(TenantFilter::Any)).await;
    let ended = sample::end_all(store, all, 10).await;
    assert_eq!(ended.iter().map(|ended| ended.id).collect::<Vec<_>>(), [revoked.id]);
    for session in &sessions {
        assert_eq!(store.load(session.id).await.unwrap(), None);
        assert!(store.ended(session.id).await.unwrap().is_some());
    }
}
