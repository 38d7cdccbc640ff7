//! Changes of sessions: what they keep, what they refuse, what they end.

use std::sync::Arc;
use std::time::Duration;

use session_core::cleanup::SweepRule;
use session_core::store::{Change, Entries, Selection, TenantFilter, Touch};
use session_core::{ClientId, DeviceKind, EndCause, SessionId, Store};

use crate::Namespace;
use crate::sample::{
    add, commit, end, end_all, ids, insert, now, read_log, session, sweep_all, user, user_in,
};

pub(crate) async fn users_and_tenants_do_not_disturb_one_another(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owners = [
        user("alice"),
        user("Alice"),
        user("alice "),
        user_in("north", "alice"),
        user_in("south", "alice"),
    ];
    let mut sessions = Vec::new();
    for owner in &owners {
        sessions.push(add(store.as_ref(), owner).await);
    }
    for (owner, session) in owners.iter().zip(&sessions) {
        assert_eq!(ids(store.as_ref(), owner).await, [session.id], "{owner:?}");
    }
    // Nobody ends another's session through a commit of their own.
    let foreign = Change::End(sessions[4].id, EndCause::Evicted);
    commit(store.as_ref(), &owners[3], vec![foreign]).await;
    assert!(store.load(sessions[4].id).await.unwrap().is_some());
    let ended = end_all(store.as_ref(), end(Selection::user(owners[3].clone())), 10).await;
    assert_eq!(ended.len(), 1);
    let wall = TenantFilter::Is(None);
    let selection = Selection::session(sessions[4].id, wall);
    assert_eq!(end_all(store.as_ref(), end(selection), 10).await, []);
    for (owner, session) in owners.iter().zip(&sessions).filter(|(owner, _)| **owner != owners[3]) {
        assert_eq!(ids(store.as_ref(), owner).await, [session.id]);
    }
}

pub(crate) async fn selections_end_what_they_select(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (alice, bob) = (user_in("north", "alice"), user_in("north", "bob"));
    let make = |owner: &_, kind: DeviceKind, client: Option<&str>| {
        let mut made = session(store.as_ref(), owner, now());
        made.device_kind = kind;
        made.client_id = client.map(|client| ClientId::new(client).unwrap());
        made
    };
    let sessions = [
        make(&alice, DeviceKind::Web, None),
        make(&alice, DeviceKind::Mobile, Some("shop")),
        make(&alice, DeviceKind::Mobile, None),
        make(&bob, DeviceKind::Mobile, Some("shop")),
        make(&user("alice"), DeviceKind::Mobile, Some("shop")),
    ];
    for session in &sessions {
        insert(store.as_ref(), session).await;
    }
    let north = TenantFilter::Is(alice.tenant.clone());
    let shop = ClientId::new("shop").unwrap();
    let ids = [sessions[0].id, sessions[3].id, SessionId::from_bytes([1; 16])];
    let two = Selection::within(TenantFilter::Any).among(ids);
    let selections = [
        (Selection::user(alice.clone()).on(DeviceKind::Mobile).of_client(shop.clone()), vec![1]),
        (Selection::user(alice.clone()).except(sessions[0].id), vec![2]),
        (two, vec![0, 3]),
        (Selection::within(north), vec![]),
        (Selection::within(TenantFilter::Any).of_client(shop), vec![4]),
    ];
    for (selection, expected) in selections {
        let ended = end_all(store.as_ref(), end(selection.clone()), 10).await;
        let mut ended: Vec<_> = ended.into_iter().map(|ended| (ended.id, ended.owner)).collect();
        ended.sort();
        let expected = expected.into_iter().map(|n: usize| &sessions[n]);
        let mut expected: Vec<_> = expected.map(|s| (s.id, s.owner.clone())).collect();
        expected.sort();
        assert_eq!(ended, expected, "{selection:?}");
    }
    let many: Vec<_> = (0..5).map(|_| session(store.as_ref(), &bob, now())).collect();
    for session in &many {
        insert(store.as_ref(), session).await;
    }
    assert_eq!(end_all(store.as_ref(), end(Selection::user(bob)), 3).await.len(), 5);
}

pub(crate) async fn a_sweep_takes_only_what_is_past_the_line(namespace: Arc<dyn Namespace>) {
    let store: Arc<dyn Store> = namespace.connect().await;
    let owner = user("alice");
    let line = now();
    let second = Duration::from_secs(1);
    let rule = SweepRule { inactive_before: line, expired_by: line };
    let mut kept = [
        session(store.as_ref(), &owner, line),
        session(store.as_ref(), &owner, line),
        session(store.as_ref(), &owner, line),
    ];
    kept[1].absolute_expiry = Some(line.plus(second));
    // Unused for long in the store, but a write-back comes just before the sweep.
    kept[2].last_accessed = line.minus(second);
    let mut taken = [
        session(store.as_ref(), &owner, line.minus(second)),
        session(store.as_ref(), &owner, line),
    ];
    taken[1].absolute_expiry = Some(line);
    for session in kept.iter().chain(&taken) {
        insert(store.as_ref(), session).await;
    }
    let touch = Touch { id: kept[2].id, last_accessed: line, ip_addresses: vec![] };
    store.touch(&[touch]).await.unwrap();
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    let swept = sweep_all(store.as_ref(), rule, 1).await;
    let mut swept: Vec<_> = swept.into_iter().map(|ended| ended.id).collect();
    swept.sort();
    let mut expected = taken.map(|session| session.id);
    expected.sort();
    assert_eq!(swept, expected);
    let told = read_log(store.as_ref(), &mut cursor, 10).await;
    assert!(told.iter().all(|event| event.kind.as_str() == "expired"));
    assert_eq!(told.len(), 2);
    let mut left = kept.map(|session| session.id);
    left.sort();
    assert_eq!(ids(store.as_ref(), &owner).await, left);
}
