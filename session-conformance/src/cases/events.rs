//! What the log says of each change: what, when, by whom, of whom.

use std::sync::Arc;
use std::time::Duration;

use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    Change, Commit, Cursor, EndMany, Ended, Entries, Outcome, PolicyChange, Selection, Sweep,
    TenantFilter,
};
use session_core::{Actor, EndCause, Event, EventKind, Store, Timestamp, UserKey};

use crate::Namespace;
use crate::sample::{
    FAR_AHEAD, LONG_AGO, SECOND, about, add, add_many, begins, change_at, end_all, insert, log_end,
    longest_actor, now, read_log, session, updates, user, user_in, version,
};

pub(crate) async fn every_kind_of_change_is_told_whole(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    for owner in [user("alice"), user_in("north", "alice")] {
        let [one, two] = [add(store.as_ref(), &owner).await, add(store.as_ref(), &owner).await];
        let new = session(store.as_ref(), &owner, now(store.as_ref()).await);
        let changes = vec![Change::ClaimsChanged(one.id), updates(&two), begins(&new)];
        let (expected, at) = (version(store.as_ref(), &owner).await, new.signed_in.minus(SECOND));
        let by = Actor::User(UserKey::new("an admin".parse().unwrap()));
        let commit = Commit { by, ..change_at(&owner, expected, changes, at) };
        let expected: Vec<_> =
            commit.changes.iter().map(|c| commit.event(c.kind(), c.session())).collect();
        let mut cursor = log_end(other.as_ref()).await;
        assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
        let told = read_log(other.as_ref(), &mut cursor, 10).await;
        assert_eq!(told, expected, "kind, time, actor, tenant, user and session of each change");
    }
}

pub(crate) async fn every_cause_and_actor_is_told(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user_in("north", "alice");
    let causes: Vec<_> = EventKind::ALL
        .into_iter()
        .filter_map(|kind| if let EventKind::Ended(cause) = kind { Some(cause) } else { None })
        .collect();
    let sessions = add_many(store.as_ref(), &owner, causes.len()).await;
    let actors = [
        Actor::System,
        Actor::Application,
        Actor::User(owner.clone()),
        Actor::User(UserKey::new("system".parse().unwrap())),
        Actor::User(UserKey::new("user:application".parse().unwrap())),
        Actor::User(user_in("south", "alice")),
        longest_actor(),
    ];
    let mut cursor = log_end(other.as_ref()).await;
    let mut expected = Vec::new();
    let at = now(store.as_ref()).await;
    for (n, (cause, session)) in causes.into_iter().zip(&sessions).enumerate() {
        let expected_version = version(store.as_ref(), &owner).await;
        let commit = Commit {
            by: actors[n % actors.len()].clone(),
            ..change_at(&owner, expected_version, vec![Change::End(session.id, cause)], at)
        };
        assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
        expected.push(commit.event(EventKind::Ended(cause), session.id));
    }
    let told = read_log(other.as_ref(), &mut cursor, 2).await;
    assert_eq!(told, expected, "each cause and each actor");
}

pub(crate) async fn what_end_many_and_sweep_do_is_told_whole(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owners = [user("alice"), user_in("north", "alice"), user_in("north", "bob")];
    for owner in &owners {
        add(store.as_ref(), owner).await;
        let mut expired = session(store.as_ref(), owner, now(store.as_ref()).await);
        expired.deadline = expired.signed_in.minus(SECOND);
        insert(store.as_ref(), &expired).await;
    }
    let mut cursor = log_end(other.as_ref()).await;
    let (at, by) = (now(store.as_ref()).await.plus(SECOND * 7), Actor::System);
    let mut sweep = Sweep { overdue: Duration::ZERO, after: None, at };
    let mut swept = Vec::new();
    loop {
        let batch = store.sweep(&sweep, 100).await.unwrap();
        swept.extend(batch.ended);
        sweep.after = batch.next;
        if sweep.after.is_none() {
            break;
        }
    }
    is_told(other.as_ref(), &mut cursor, &swept, EndCause::Expired, at, by).await;
    let (at, by) = (
        now(store.as_ref()).await.minus(SECOND * 7),
        Actor::User(UserKey::new("an admin".parse().unwrap())),
    );
    let selection = Selection::within(TenantFilter::Any);
    let cause = EndCause::TokenReused;
    let all = EndMany { selection, after: None, cause, at, by: by.clone(), from: None };
    let ended = end_all(store.as_ref(), all, 100).await;
    is_told(other.as_ref(), &mut cursor, &ended, cause, at, by).await;
}

/// The ends of three sessions, of one user or of several.
async fn is_told(
    store: &dyn Store,
    cursor: &mut Cursor,
    ended: &[Ended],
    cause: EndCause,
    at: Timestamp,
    by: Actor,
) {
    assert_eq!(ended.len(), 3, "three sessions end: {ended:?}");
    let told = read_log(store, cursor, 100).await;
    assert_eq!(told.len(), 3, "three ends are told: {told:?}");
    for Ended { id, owner } in ended {
        let kind = EventKind::Ended(cause);
        let expected = Event::of_session(kind, at, by.clone(), owner.clone(), *id);
        assert_eq!(about(&told, owner), [&expected], "cause, time, actor and whose");
    }
}

/// As a newer version writes it, beside older nodes that follow the log.
pub(crate) async fn what_only_a_newer_version_knows_stops_no_reader(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user_in("north", "alice");
    let sessions = add_many(store.as_ref(), &owner, 3).await;
    let start = log_end(other.as_ref()).await;
    let changed = Box::new(sessions[1].clone());
    for change in [
        Change::End(sessions[0].id, EndCause::Unknown),
        Change::Update { session: changed, kind: EventKind::Unknown },
        Change::End(sessions[2].id, EndCause::Revoked),
    ] {
        let expected = version(store.as_ref(), &owner).await;
        let mut commit = change_at(&owner, expected, vec![change], sessions[0].signed_in);
        commit.by = Actor::Unknown;
        assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
    }
    for entries in [Entries::All, Entries::Invalidations] {
        let page = other.log_since(Some(&start), entries, 10).await.unwrap();
        assert!(!page.gap, "an entry that names its session is not missed");
        let told = page.events.iter().map(|event| (event.session, event.kind.as_str()));
        let ids = sessions.iter().map(|session| Some(session.id));
        let expected = ids.zip(["unknown", "unknown", "revoked"]);
        assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "it may invalidate");
        assert!(page.events.iter().all(|event| event.by == Actor::Unknown));
    }
}

pub(crate) async fn policies_are_told_whole(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let alice = user_in("north", "alice");
    let places = [
        PolicyScope::Deployment,
        PolicyScope::Tenant(alice.tenant.clone().unwrap()),
        PolicyScope::User(alice.clone()),
        PolicyScope::User(user("alice")),
    ];
    for (n, scope) in (1..).zip(places) {
        let mut cursor = log_end(other.as_ref()).await;
        let mut expected = Vec::new();
        // Also where nothing changes.
        let set = Some(Policy::default());
        for policy in [None, set.clone(), set, None, None] {
            let by = Actor::User(UserKey::new(format!("admin {n}").parse().unwrap()));
            let at = now(store.as_ref()).await.minus(SECOND * n);
            let change = PolicyChange { scope: scope.clone(), policy, at, by };
            store.set_policy(&change).await.unwrap();
            expected.push(change.event());
        }
        let told = read_log(other.as_ref(), &mut cursor, 2).await;
        let tells = |event: &Event| told.iter().filter(|e| *e == event).count();
        let times = |event: &Event| expected.iter().filter(|e| *e == event).count();
        assert_eq!(told.len(), 5, "each call is told, also where nothing changes: {scope:?}");
        for event in &expected {
            assert_eq!(tells(event), times(event), "place, time and actor of {scope:?}: {told:?}");
        }
    }
}

pub(crate) async fn far_times_are_told(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    let session = add(store.as_ref(), &owner).await;
    let mut cursor = log_end(other.as_ref()).await;
    let times = [LONG_AGO, Timestamp::EPOCH, FAR_AHEAD, Timestamp::from_micros(-1)];
    for at in times {
        let expected = version(store.as_ref(), &owner).await;
        let changes = vec![Change::ClaimsChanged(session.id)];
        let commit = change_at(&owner, expected, changes, at);
        assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
    }
    let told = read_log(other.as_ref(), &mut cursor, 3).await;
    let told: Vec<_> = told.iter().map(|event| event.at).collect();
    assert_eq!(told, times, "an entry's own time, in the order of the commits");
}
