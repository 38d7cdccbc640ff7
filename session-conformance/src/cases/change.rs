//! Changes of sessions: what they keep, what they refuse, what they end.

use std::sync::Arc;
use std::time::Duration;

use session_core::store::{Change, Entries, Selection, Sweep, TenantFilter, Touch};
use session_core::{ClientId, DeviceKind, EndCause, Session, SessionId, Store, Timestamp};

use crate::Namespace;
use crate::sample::{
    HOUR, LONG_AGO, PATIENCE, SECOND, add, add_many, commit, end, end_all, ended_ids, ids, insert,
    insert_all, now, read_log, session, sorted, sweep_all, used, user, user_in, whole_sweep,
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
    let ended =
        end_all(store.as_ref(), end(store.as_ref(), Selection::user(owners[3].clone())).await, 10)
            .await;
    assert_eq!(ended.len(), 1);
    let wall = TenantFilter::Is(None);
    let selection = Selection::session(sessions[4].id, wall);
    assert_eq!(end_all(store.as_ref(), end(store.as_ref(), selection).await, 10).await, []);
    for (owner, session) in owners.iter().zip(&sessions).filter(|(owner, _)| **owner != owners[3]) {
        assert_eq!(ids(store.as_ref(), owner).await, [session.id]);
    }
}

pub(crate) async fn selections_end_what_they_select(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (alice, bob) = (user_in("north", "alice"), user_in("north", "bob"));
    let begun = now(store.as_ref()).await;
    let make = |owner: &_, kind: DeviceKind, client: Option<&str>| {
        let mut made = session(store.as_ref(), owner, begun);
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
        let ended = end_all(store.as_ref(), end(store.as_ref(), selection.clone()).await, 10).await;
        let mut ended: Vec<_> = ended.into_iter().map(|ended| (ended.id, ended.owner)).collect();
        ended.sort();
        let expected = expected.into_iter().map(|n: usize| &sessions[n]);
        let mut expected: Vec<_> = expected.map(|s| (s.id, s.owner.clone())).collect();
        expected.sort();
        assert_eq!(ended, expected, "{selection:?}");
    }
    add_many(store.as_ref(), &bob, 5).await;
    assert_eq!(
        end_all(store.as_ref(), end(store.as_ref(), Selection::user(bob)).await, 3).await.len(),
        5
    );
}

pub(crate) async fn a_sweep_takes_only_what_is_overdue(namespace: Arc<dyn Namespace>) {
    let store: Arc<dyn Store> = namespace.connect().await;
    let owner = user("alice");
    let begun = now(store.as_ref()).await;
    let ending = |deadline| Session { deadline, ..session(store.as_ref(), &owner, begun) };
    // Unused for long, with a longer timeout of its own.
    let unused = Session { last_accessed: LONG_AGO, ..ending(begun.plus(HOUR * 2)) };
    let kept = [
        ending(Timestamp::MAX),
        unused,
        ending(begun.plus(PATIENCE)),
        ending(begun.minus(HOUR).plus(PATIENCE)),
        // A write-back comes just before the sweep.
        ending(begun.minus(HOUR * 2)),
    ];
    let taken = [ending(begun.minus(HOUR).minus(SECOND)), ending(LONG_AGO)];
    insert_all(store.as_ref(), &kept).await;
    insert_all(store.as_ref(), &taken).await;
    let touch = Touch { deadline: begun.minus(SECOND), ..used(kept[4].id, begun) };
    store.touch(&[touch]).await.unwrap();
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    // The clock of the node that asks is a day ahead.
    let sweep = Sweep { overdue: HOUR, after: None, at: begun.plus(HOUR * 24) };
    let swept = whole_sweep(store.as_ref(), sweep, 1).await;
    assert_eq!(ended_ids(&swept), sorted(&taken), "what is overdue by an hour, and no other");
    let told = read_log(store.as_ref(), &mut cursor, 10).await;
    assert!(told.iter().all(|event| event.kind.as_str() == "expired"));
    assert_eq!(told.len(), 2);
    assert_eq!(ids(store.as_ref(), &owner).await, sorted(&kept));
    let swept = sweep_all(store.as_ref(), Duration::ZERO, 10).await;
    assert_eq!(ended_ids(&swept), sorted(&kept[3..]), "past their deadline by the store's clock");
}
