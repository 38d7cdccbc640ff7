//! Changes of sessions: what they keep, what they refuse, what they end.

use std::sync::Arc;
use std::time::Duration;

use session_core::admission::Standing;
use session_core::cleanup::SweepRule;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    Change, Commit, Cursor, EndMany, Entries, Outcome, PolicyChange, Selection, TenantFilter,
    Touch, Version,
};
use session_core::{
    Actor, ClientId, DeviceInfo, DeviceKind, EndCause, ExtraData, SessionId, Store, TenantId,
    Timestamp, UserId, UserKey,
};

use crate::Namespace;
use crate::sample::{
    add, address, commit, end, end_all, ids, insert, now, read_log, revoke, session, sweep_all,
    token, user, user_in,
};

pub(crate) async fn every_field_comes_back_at_its_limits(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let wide = |bytes: usize| "ü".repeat(bytes / 2) + &"u".repeat(bytes % 2);
    let owner = user_in(&wide(TenantId::MAX_BYTES), &wide(UserId::MAX_BYTES));
    let mut full = session(store.as_ref(), &owner, now());
    full.device_kind = DeviceKind::new(&wide(DeviceKind::MAX_BYTES)).unwrap();
    full.device_info = Some(DeviceInfo::new(&wide(DeviceInfo::MAX_BYTES)).unwrap());
    full.client_id = Some(ClientId::new("'; DROP TABLE \"x\"; --%_\\").unwrap());
    full.ip_addresses = (0..15).map(address).collect();
    full.ip_addresses.push("2001:db8::1".parse().unwrap());
    full.absolute_expiry = Some(now().plus(Duration::from_micros(1)));
    let text = serde_json::Value::String("\u{1F511}".repeat(1023) + "\\");
    full.data = Some(ExtraData::new(&text).unwrap());
    full.token = full.token.rotated(&token(full.id), now());
    let plain = session(store.as_ref(), &user(" a "), Timestamp::from_micros(1));
    let hidden = |text: &str| format!("{text}\u{200b}\u{202e}");
    let stored = UserKey::in_tenant(
        TenantId::from_stored(&hidden("north")).unwrap(),
        UserId::from_stored(&hidden("alice")).unwrap(),
    );
    // Refused in a new value, but a user with a stored one must not be locked out.
    let mut old = session(store.as_ref(), &stored, now());
    old.device_kind = DeviceKind::from_stored(&hidden("Kiosk")).unwrap();
    old.device_info = Some(DeviceInfo::from_stored(&hidden("in the hall")).unwrap());
    old.client_id = Some(ClientId::from_stored(&hidden("shop")).unwrap());
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    for expected in [full, plain, old] {
        insert(store.as_ref(), &expected).await;
        let other_node = namespace.connect().await;
        let loaded = other_node.load(expected.id).await.unwrap().unwrap();
        assert_eq!(loaded.session, expected);
        let state = other_node.user(&expected.owner).await.unwrap();
        assert_eq!(state.sessions, [Standing::from(&expected)]);
        assert_eq!(state.version, loaded.version);
    }
    assert_eq!(store.load(SessionId::from_bytes([0; 16])).await.unwrap(), None);
    for owner in [owner, stored] {
        the_log_and_policies_keep_the_name(store.as_ref(), &owner, &mut cursor).await;
    }
}

/// As the user concerned, and as the one who did it.
async fn the_log_and_policies_keep_the_name(
    store: &dyn Store,
    owner: &UserKey,
    cursor: &mut Cursor,
) {
    let by = Actor::User(owner.user.clone());
    let ended = EndMany { by: by.clone(), ..end(Selection::user(owner.clone())) };
    assert_eq!(store.end_many(&ended, 10).await.unwrap().ended.len(), 1);
    let scope = PolicyScope::User(owner.clone());
    let policy = Some(Policy::default());
    let change =
        PolicyChange { scope: scope.clone(), policy: policy.clone(), at: now(), by: by.clone() };
    store.set_policy(&change).await.unwrap();
    assert_eq!(store.policy(&scope).await.unwrap(), policy);
    // A log may have an order for each user only.
    let events = read_log(store, cursor, 10).await;
    let done = events.iter().filter(|event| event.by == by);
    let told: Vec<_> = done.map(|event| (&event.tenant, event.user.as_ref())).collect();
    assert_eq!(told, [(&owner.tenant, Some(&owner.user)); 2]);
}

pub(crate) async fn a_commit_needs_the_version_it_was_made_for(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    let insert = |expected| Commit {
        owner: owner.clone(),
        expected,
        changes: vec![Change::Insert(Box::new(session(store.as_ref(), &owner, now())))],
        at: now(),
        by: Actor::Application,
    };
    let first = store.user(&owner).await.unwrap().version;
    assert_eq!(store.commit(&insert(first)).await.unwrap(), Outcome::Done);
    assert_eq!(other.commit(&insert(first)).await.unwrap(), Outcome::Conflict);
    assert_eq!(other.commit(&insert(Version(i64::MAX))).await.unwrap(), Outcome::Conflict);
    let second = other.user(&owner).await.unwrap().version;
    assert_ne!(first, second);
    revoke(store.as_ref(), ids(other.as_ref(), &owner).await[0]).await;
    assert_eq!(other.commit(&insert(second)).await.unwrap(), Outcome::Conflict);
    assert_eq!(ids(store.as_ref(), &owner).await, []);
}

pub(crate) async fn a_commit_is_all_or_nothing(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let old = add(store.as_ref(), &owner).await;
    let new = session(store.as_ref(), &owner, now());
    let missing = Change::ReplaceToken {
        id: SessionId::from_bytes([9; 16]),
        token: new.token.clone(),
        authenticated_at: None,
    };
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    let changes =
        vec![Change::End(old.id, EndCause::Evicted), Change::Insert(Box::new(new)), missing];
    assert_eq!(commit(store.as_ref(), &owner, changes).await, Outcome::Conflict);
    assert_eq!(ids(store.as_ref(), &owner).await, [old.id]);
    assert_eq!(read_log(store.as_ref(), &mut cursor, 10).await, []);
    // Ending what is gone is no conflict and is not told.
    let gone = Change::End(SessionId::from_bytes([9; 16]), EndCause::Evicted);
    assert_eq!(commit(store.as_ref(), &owner, vec![gone]).await, Outcome::Done);
    assert_eq!(read_log(store.as_ref(), &mut cursor, 10).await, []);
}

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

pub(crate) async fn a_touch_moves_forward_merges_and_never_creates(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let [one, two] = [add(store.as_ref(), &owner).await, add(store.as_ref(), &owner).await];
    let touch = |id, last_accessed, ip_addresses| Touch { id, last_accessed, ip_addresses };
    let unknown = SessionId::from_bytes([7; 16]);
    let later = one.last_accessed.plus(Duration::from_secs(5));
    let version = store.user(&owner).await.unwrap().version;
    let batch = [
        touch(one.id, later, vec![address(2), address(1)]),
        touch(unknown, later, vec![address(3)]),
        touch(two.id, two.last_accessed.minus(Duration::from_secs(5)), vec![]),
    ];
    assert_eq!(store.touch(&batch).await.unwrap(), [unknown]);
    assert_eq!(store.load(unknown).await.unwrap(), None);
    let loaded = store.load(one.id).await.unwrap().unwrap().session;
    assert_eq!(loaded.last_accessed, later);
    assert_eq!(loaded.ip_addresses, [address(2), address(1)]);
    let loaded = store.load(two.id).await.unwrap().unwrap().session;
    assert_eq!(loaded, two, "time moved backwards");
    assert_eq!(store.user(&owner).await.unwrap().version, version);
    let many = touch(one.id, later, (0..40).map(address).collect());
    assert_eq!(store.touch(&[many]).await.unwrap(), []);
    let loaded = store.load(one.id).await.unwrap().unwrap().session;
    assert_eq!(loaded.ip_addresses, (24..40).map(address).collect::<Vec<_>>());
    assert_eq!(store.touch(&[]).await.unwrap(), []);
}

pub(crate) async fn a_touch_races_a_revocation(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    for round in 0..50 {
        let session = add(store.as_ref(), &user("alice")).await;
        assert!(other.load(session.id).await.unwrap().is_some());
        let touch = Touch {
            id: session.id,
            last_accessed: now().plus(Duration::from_secs(1)),
            ip_addresses: vec![address(2)],
        };
        let batch = [touch];
        let touching = other.touch(&batch);
        let revoking = revoke(store.as_ref(), session.id);
        // Either may come first.
        let revoked = if round % 2 == 0 {
            tokio::join!(touching, revoking).1
        } else {
            tokio::join!(revoking, touching).0
        };
        assert_eq!(revoked, 1);
        assert_eq!(other.touch(&batch).await.unwrap(), [session.id], "a late touch finds nothing");
        for node in [&store, &other] {
            assert_eq!(node.load(session.id).await.unwrap(), None, "a touch brought it back");
        }
    }
}

pub(crate) async fn a_rotation_races_a_revocation(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    for round in 0..50 {
        let session = add(store.as_ref(), &owner).await;
        let next = session.token.rotated(&token(session.id), now());
        let change =
            Change::ReplaceToken { id: session.id, token: next, authenticated_at: Some(now()) };
        let rotate = async || {
            let expected = other.user(&owner).await.unwrap().version;
            let (changes, by) = (vec![change.clone()], Actor::Application);
            let commit = Commit { owner: owner.clone(), expected, changes, at: now(), by };
            other.commit(&commit).await.unwrap()
        };
        let revoking = revoke(store.as_ref(), session.id);
        // Either may come first.
        let revoked = if round % 2 == 0 {
            tokio::join!(rotate(), revoking).1
        } else {
            tokio::join!(revoking, rotate()).0
        };
        assert_eq!(revoked, 1);
        assert_eq!(rotate().await, Outcome::Conflict, "a late rotation finds nothing");
        for node in [&store, &other] {
            assert_eq!(node.load(session.id).await.unwrap(), None, "a rotation brought it back");
        }
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
