//! What reads see: everything that was acknowledged, on every node, also after a restart.

use std::sync::Arc;

use session_core::admission::Standing;
use session_core::policy::{Policy, PolicyLayers, PolicyScope, PreventConcurrentLogin};
use session_core::store::{Change, Entries, Outcome, PolicyChange, Version};
use session_core::{Actor, EndCause, FleetKey, Session, Timestamp};

use crate::Namespace;
use crate::run::skip;
use crate::sample::{
    HOUR, PATIENCE, SECOND, add, add_many, begins, change_at, commit, ids, insert, log_end, now,
    random, read_log, revoke, session, sorted, user, user_in, version,
};

pub(crate) async fn every_node_reads_what_was_acknowledged(namespace: Arc<dyn Namespace>) {
    let nodes = [namespace.connect().await, namespace.connect().await, namespace.connect().await];
    let owner = user_in("north", "alice");
    let mut cursors = Vec::new();
    for node in &nodes {
        cursors.push(log_end(node.as_ref()).await);
    }
    let mut there: Vec<Session> = Vec::new();
    for round in 0..9 {
        let writer = &nodes[round % 3];
        let new = session(writer.as_ref(), &owner, now(writer.as_ref()).await);
        // A node that asked too soon must not remember that there was nothing.
        for node in &nodes {
            assert_eq!(node.load(new.id).await.unwrap(), None, "it has not begun");
        }
        let mut changes = vec![begins(&new)];
        if there.len() == 2 {
            changes.push(Change::End(there.remove(0).id, EndCause::Evicted));
        }
        there.push(new);
        let count = changes.len();
        assert_eq!(commit(writer.as_ref(), &owner, changes).await, Outcome::Done);
        for (node, cursor) in nodes.iter().zip(&mut cursors) {
            assert_eq!(ids(node.as_ref(), &owner).await, sorted(&there), "`user` sees it");
            for session in &there {
                let read = node.load(session.id).await.unwrap().map(|loaded| loaded.session);
                assert_eq!(read.as_ref(), Some(session), "`load` sees it");
            }
            let told = read_log(node.as_ref(), cursor, 10).await;
            assert_eq!(told.len(), count, "`log_since` sees it: {told:?}");
        }
    }
}

pub(crate) async fn a_user_with_hundreds_of_sessions_is_read_whole(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user_in("north", "alice");
    let mut sessions = add_many(store.as_ref(), &owner, 300).await;
    // Also those past their deadline.
    let mut old = session(store.as_ref(), &owner, now(store.as_ref()).await.minus(SECOND));
    old.deadline = old.signed_in;
    insert(store.as_ref(), &old).await;
    sessions.push(old);
    let mut read = other.user(&owner).await.unwrap().sessions;
    read.sort_by_key(|standing| standing.id);
    sessions.sort_by_key(|session| session.id);
    let expected: Vec<_> = sessions.iter().map(Standing::from).collect();
    assert_eq!(read, expected, "`user` lists all sessions, also those past their deadline");
}

pub(crate) async fn an_unknown_user_has_nothing(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    add(store.as_ref(), &user("alice")).await;
    for owner in [user("bob"), user_in("north", "alice")] {
        let state = store.user(&owner).await.unwrap();
        assert_eq!(state.version, Version::NONE, "the version of a user that is not known");
        assert_eq!(state.sessions, [], "such a user has no sessions");
        assert_eq!(state.policies, PolicyLayers::default());
        assert_eq!(state.blocks, []);
        let first = begins(&session(store.as_ref(), &owner, now(store.as_ref()).await));
        let first = store
            .commit(&change_at(&owner, Version::NONE, vec![first], now(store.as_ref()).await))
            .await
            .unwrap();
        assert_eq!(first, Outcome::Done, "a first sign-in is made for `Version::NONE`");
    }
}

pub(crate) async fn a_report_is_plausible(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let now = now(store.as_ref()).await;
    let plausible = |time: Timestamp, what: &str| {
        let apart = time.since(now).max(now.since(time));
        assert!(apart < HOUR, "{what} is {apart:?} from the clock that a log page names");
    };
    let report = store.report().await.unwrap();
    assert!(!report.server.is_empty(), "the product has a name");
    plausible(report.clock, "the store's clock");
    assert_eq!(report.log_from, None, "an empty log has no oldest entry");
    add(store.as_ref(), &user("alice")).await;
    let report = store.report().await.unwrap();
    plausible(report.log_from.expect("the log has an entry"), "the oldest entry of the log");
    let again = store.report().await.unwrap();
    assert_eq!(again.log_from, report.log_from, "a report only reads");
    assert!(again.clock >= report.clock, "the store's clock moves on");
}

pub(crate) async fn a_store_that_is_opened_again_has_everything(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (alice, bob) = (user_in("north", "alice"), user("bob"));
    let scope = PolicyScope::User(alice.clone());
    let policy = Some(Policy::from(PreventConcurrentLogin::LogoutFromAllDevices));
    let mut cursor = log_end(store.as_ref()).await;
    let session = add(store.as_ref(), &alice).await;
    let ended = add(store.as_ref(), &bob).await;
    let old = version(store.as_ref(), &bob).await;
    revoke(store.as_ref(), ended.id).await;
    let (at, by) = (now(store.as_ref()).await, Actor::Application);
    let change = PolicyChange { scope: scope.clone(), policy: policy.clone(), at, by };
    store.set_policy(&change).await.unwrap();
    let blocked = PolicyScope::User(user("carol"));
    let block = super::blocks::set(store.as_ref(), &blocked, None).await;
    let remembered = store.ended(ended.id).await.unwrap();
    assert!(remembered.is_some(), "what has ended is in the history");
    let key = store.fleet_key(&FleetKey::from_bytes(random())).await.unwrap();
    assert!(store.lease("cleanup", "one", PATIENCE * 10).await.unwrap());
    let state = store.user(&alice).await.unwrap();
    drop(store);
    let store = namespace.connect().await;
    let read = store.load(session.id).await.unwrap().map(|loaded| loaded.session);
    assert_eq!(read, Some(session), "a session outlives the connections");
    assert_eq!(store.user(&alice).await.unwrap(), state, "so do version and policies");
    assert_eq!(store.load(ended.id).await.unwrap(), None, "what has ended stays away");
    assert_eq!(store.ended(ended.id).await.unwrap(), remembered, "and is remembered");
    assert_eq!(store.policy(&scope).await.unwrap(), policy);
    assert_eq!(store.block(&blocked).await.unwrap(), Some(block), "a block lasts");
    let same = store.fleet_key(&FleetKey::from_bytes(random())).await.unwrap() == key;
    assert!(same, "the fleet's key lasts");
    assert!(!store.lease("cleanup", "two", PATIENCE).await.unwrap(), "a lease lasts");
    let late = begins(&self::session(store.as_ref(), &bob, now(store.as_ref()).await));
    let late =
        store.commit(&change_at(&bob, old, vec![late], now(store.as_ref()).await)).await.unwrap();
    assert_eq!(late, Outcome::Conflict, "no older version comes back");
    add(store.as_ref(), &bob).await;
    assert_ne!(version(store.as_ref(), &bob).await, old, "no older version comes back");
    let told = read_log(store.as_ref(), &mut cursor, 2).await;
    assert_eq!(told.len(), 6, "a cursor outlives the connections: {told:?}");
}

/// Where the backend can take a copy.
pub(crate) async fn a_copy_from_the_past_is_a_gap(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let mut start = log_end(store.as_ref()).await;
    let kept = add(store.as_ref(), &owner).await;
    let mut before = log_end(store.as_ref()).await;
    let Some(copy) = namespace.restore_point().await else {
        skip("the backend takes no copy");
    };
    let lost = add_many(store.as_ref(), &owner, 3).await;
    let after = log_end(store.as_ref()).await;
    drop(store);
    copy.restore().await;
    let store = namespace.connect().await;
    assert_eq!(ids(store.as_ref(), &owner).await, [kept.id], "the content is that of the copy");
    let is_gap = async |when: &str| {
        let page = store.log_since(Some(&after), Entries::All, 10).await.unwrap();
        assert!(page.gap, "a cursor from after the copy is a gap, {when}");
        assert_eq!(page.events, [], "a gap is answered with a cursor at the end");
    };
    is_gap("as the copy comes back").await;
    // The numbers that the copy does not know are given again, to others.
    for _ in 0..lost.len() + 1 {
        add(store.as_ref(), &owner).await;
        is_gap("also when the log has grown again").await;
    }
    let told = read_log(store.as_ref(), &mut before, 10).await;
    assert_eq!(told.len(), lost.len() + 1, "a cursor from before the copy goes on");
    let told = read_log(store.as_ref(), &mut start, 10).await;
    assert_eq!(told.len(), lost.len() + 2, "so does one from before all that the copy has");
}
