//! The version of a user's sessions.

use std::sync::Arc;
use std::time::Duration;

use session_core::store::{Change, Outcome, Selection, TenantFilter, Version};
use session_core::{DeviceKind, EndCause, Session, Store, UserKey};

use crate::Namespace;
use crate::sample::{
    HOUR, SECOND, add, begins, change_at, commit, end, end_all, ended_ids, insert, now, revoke,
    session, sorted, sweep_all, updates, user, user_in, version,
};

pub(crate) async fn every_kind_of_change_raises_the_version(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    let [one, two] = [add(store.as_ref(), &owner).await, add(store.as_ref(), &owner).await];
    let new = session(store.as_ref(), &owner, now(store.as_ref()).await);
    let mut seen = vec![version(store.as_ref(), &owner).await];
    for (change, what) in [
        (begins(&new), "a session that begins"),
        (updates(&one), "an update"),
        (Change::ClaimsChanged(two.id), "changed claims"),
        (Change::End(two.id, EndCause::Evicted), "an end"),
    ] {
        assert_eq!(commit(store.as_ref(), &owner, vec![change]).await, Outcome::Done);
        let after = version(other.as_ref(), &owner).await;
        assert!(!seen.contains(&after), "{what} makes a version that was not there before");
        for old in &seen {
            let late = session(store.as_ref(), &owner, now(store.as_ref()).await);
            let late = other
                .commit(&change_at(&owner, *old, vec![begins(&late)], now(store.as_ref()).await))
                .await
                .unwrap();
            assert_eq!(late, Outcome::Conflict, "after {what}, every older version conflicts");
        }
        seen.push(after);
    }
}

/// Whether the user is forgotten in between or not.
pub(crate) async fn no_older_version_comes_back(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user_in("north", "alice");
    let mut seen = Vec::new();
    for round in 0..6 {
        let mut session = session(store.as_ref(), &owner, now(store.as_ref()).await);
        session.deadline = session.signed_in.minus(SECOND);
        insert(store.as_ref(), &session).await;
        is_new(&mut seen, version(store.as_ref(), &owner).await);
        match round % 3 {
            0 => {
                let change = Change::End(session.id, EndCause::SignedOut);
                assert_eq!(commit(store.as_ref(), &owner, vec![change]).await, Outcome::Done);
            }
            1 => assert_eq!(revoke(store.as_ref(), session.id).await, 1),
            _ => {
                assert_eq!(sweep_all(store.as_ref(), Duration::ZERO, 10).await.len(), 1);
            }
        }
        let state = store.user(&owner).await.unwrap();
        assert_eq!(state.sessions, []);
        // A user without sessions may be forgotten.
        if state.version != Version::NONE {
            is_new(&mut seen, state.version);
        }
        let current = state.version;
        for old in seen.iter().filter(|old| **old != current) {
            let late = begins(&self::session(store.as_ref(), &owner, now(store.as_ref()).await));
            let late = store
                .commit(&change_at(&owner, *old, vec![late], now(store.as_ref()).await))
                .await
                .unwrap();
            assert_eq!(late, Outcome::Conflict, "a commit for an older version conflicts");
        }
    }
}

fn is_new(seen: &mut Vec<Version>, version: Version) {
    assert_ne!(version, Version::NONE, "a user with sessions has a version");
    assert!(!seen.contains(&version), "{version:?} comes back: it was there before");
    seen.push(version);
}

pub(crate) async fn end_many_raises_the_version_of_every_user(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let crowd = Crowd::gather(store.as_ref()).await;
    let selection = Selection::within(TenantFilter::Any).on(DeviceKind::Mobile);
    let ended = end_all(store.as_ref(), end(store.as_ref(), selection).await, 2).await;
    assert_eq!(ended_ids(&ended), sorted(&crowd.mobile));
    crowd.has_new_versions(namespace.connect().await.as_ref(), "end_many").await;
}

pub(crate) async fn a_sweep_raises_the_version_of_every_user(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let crowd = Crowd::gather(store.as_ref()).await;
    let ended = sweep_all(store.as_ref(), HOUR, 2).await;
    assert_eq!(ended_ids(&ended), sorted(&crowd.mobile));
    crowd.has_new_versions(namespace.connect().await.as_ref(), "a sweep").await;
}

/// Users who have one session on the web and one on a phone that is overdue by two hours.
struct Crowd {
    mobile: Vec<Session>,
    versions: Vec<(UserKey, Version)>,
}

impl Crowd {
    async fn gather(store: &dyn Store) -> Self {
        let owners =
            [user("alice"), user("bob"), user_in("north", "alice"), user_in("north", "bo")];
        let (mut mobile, mut versions) = (Vec::new(), Vec::new());
        for owner in owners {
            add(store, &owner).await;
            let mut session = session(store, &owner, now(store).await);
            session.device_kind = DeviceKind::Mobile;
            session.deadline = session.signed_in.minus(HOUR * 2);
            insert(store, &session).await;
            mobile.push(session);
            versions.push((owner.clone(), version(store, &owner).await));
        }
        Self { mobile, versions }
    }

    async fn has_new_versions(&self, store: &dyn Store, what: &str) {
        for (owner, before) in &self.versions {
            let state = store.user(owner).await.unwrap();
            assert_eq!(state.sessions.len(), 1, "one session of {owner:?} is left");
            assert_ne!(state.version, *before, "{what} raises the version of {owner:?}");
            let late = begins(&session(store, owner, now(store).await));
            let late = store
                .commit(&change_at(owner, *before, vec![late], now(store).await))
                .await
                .unwrap();
            assert_eq!(late, Outcome::Conflict, "after {what} the older version conflicts");
        }
    }
}

pub(crate) async fn every_read_answers_the_same_version(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(add(store.as_ref(), &owner).await);
        for node in [&store, &other] {
            let state = node.user(&owner).await.unwrap();
            for session in &sessions {
                let loaded = node.load(session.id).await.unwrap().unwrap();
                assert_eq!(loaded.version, state.version, "`load` and `user` read one version");
            }
        }
    }
}
