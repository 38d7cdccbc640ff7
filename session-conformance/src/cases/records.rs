//! What a record keeps.

use std::sync::Arc;
use std::time::Duration;

use session_core::admission::Standing;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{Cursor, EndMany, Entries, PolicyChange, Selection};
use session_core::{
    Actor, ClientId, DeviceInfo, DeviceKind, ExtraData, SessionId, Store, TenantId, Timestamp,
    UserId, UserKey,
};

use crate::Namespace;
use crate::sample::{
    FAR_AHEAD, LONG_AGO, address, detailed, end, end_all, insert, now, random, read_log, session,
    user, user_in,
};

pub(crate) async fn every_field_comes_back_at_its_limits(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let wide = |bytes: usize| "ü".repeat(bytes / 2) + &"u".repeat(bytes % 2);
    let owner = user_in(&wide(TenantId::MAX_BYTES), &wide(UserId::MAX_BYTES));
    let mut full = session(store.as_ref(), &owner, now(store.as_ref()).await);
    full.device_kind = DeviceKind::new(&wide(DeviceKind::MAX_BYTES)).unwrap();
    full.device_info = Some(DeviceInfo::new(&wide(DeviceInfo::MAX_BYTES)).unwrap());
    full.client_id = Some(ClientId::new("'; DROP TABLE \"x\"; --%_\\").unwrap());
    full.ip_addresses = (0..15).map(address).collect();
    full.ip_addresses.push("2001:db8::1".parse().unwrap());
    full.claimed = true;
    full.deadline = full.signed_in.plus(Duration::from_micros(1));
    full = detailed(full);
    let plain = session(store.as_ref(), &user(" a "), Timestamp::from_micros(1));
    let hidden = |text: &str| format!("{text}\u{200b}\u{202e}");
    let stored = UserKey::in_tenant(
        TenantId::from_stored(&hidden("north")).unwrap(),
        UserId::from_stored(&hidden("alice")).unwrap(),
    );
    // Refused in a new value, but a user with a stored one must not be locked out.
    let mut old = session(store.as_ref(), &stored, now(store.as_ref()).await);
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
    let by = Actor::User(owner.clone());
    let ended = EndMany { by: by.clone(), ..end(store, Selection::user(owner.clone())).await };
    assert_eq!(end_all(store, ended, 10).await.len(), 1);
    let scope = PolicyScope::User(owner.clone());
    let policy = Some(Policy::default());
    let change = PolicyChange {
        scope: scope.clone(),
        policy: policy.clone(),
        at: now(store).await,
        by: by.clone(),
    };
    store.set_policy(&change).await.unwrap();
    assert_eq!(store.policy(&scope).await.unwrap(), policy);
    // A log may have an order for each user only.
    let events = read_log(store, cursor, 10).await;
    let done = events.iter().filter(|event| event.by == by);
    let told: Vec<_> = done.map(|event| (&event.tenant, event.user.as_ref())).collect();
    assert_eq!(told, [(&owner.tenant, Some(&owner.user)); 2]);
}

pub(crate) async fn data_comes_back_byte_for_byte(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    let texts = [
        "{\"b\":1,\"a\":2,\"b\":3}",
        "{\"n\":1.00000000000000000001,\"m\":123456789012345678901234567890,\"e\":1e400,\"z\":-0}",
        "  { \"spaced\" :\t[ 1 , 2 ]\n}  ",
        "\"\\u00fc \\u0000 \\/ \\\\ \u{fc} \u{1F511}\"",
        "[{\"$oid\":\"x\",\"a.b\":1,\"\":2,\"__proto__\":{}},[],{},null]",
        "\"it's \\\"quoted\\\"; --\"",
        "null",
        "\"\"",
    ];
    for text in texts {
        let mut session = session(store.as_ref(), &owner, now(store.as_ref()).await);
        session.data = Some(ExtraData::from_json(text).unwrap());
        insert(store.as_ref(), &session).await;
        let read = other.load(session.id).await.unwrap().unwrap().session.data;
        let read = read.as_ref().map(ExtraData::as_json);
        assert_eq!(read, Some(text), "data is text that comes back byte for byte");
    }
}

pub(crate) async fn far_times_come_back(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let mut session = session(store.as_ref(), &owner, now(store.as_ref()).await);
    session.last_accessed = LONG_AGO;
    session.deadline = FAR_AHEAD;
    session.authentication.at = LONG_AGO;
    session.absolute_expiry = Some(FAR_AHEAD);
    session.token.issued = LONG_AGO;
    insert(store.as_ref(), &session).await;
    let read = store.load(session.id).await.unwrap().unwrap().session;
    assert_eq!(read, session, "a time is a number of microseconds, however far away");
    let state = store.user(&owner).await.unwrap();
    assert_eq!(state.sessions, [Standing::from(&session)], "`user` reads the same times");
}

pub(crate) async fn a_session_without_anything_comes_back(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let mut session = session(store.as_ref(), &owner, now(store.as_ref()).await);
    session.ip_addresses = Vec::new();
    insert(store.as_ref(), &session).await;
    let read = store.load(session.id).await.unwrap().unwrap().session;
    assert_eq!(read, session, "what is not there stays away: no address, client, data or expiry");
}

pub(crate) async fn ids_keep_sixty_four_random_bits(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let at = now(store.as_ref()).await;
    for owner in [user("alice"), user_in("north", "alice")] {
        let random = random::<16>();
        let id = |random| u128::from_be_bytes(*store.session_id(&owner, at, random).as_bytes());
        let of_bit = |bit: u32| (u128::from_be_bytes(random) ^ 1 << bit).to_be_bytes();
        let changes = (0..u128::BITS).map(|bit| id(of_bit(bit)) ^ id(random));
        let bits = independent(changes);
        assert!(bits >= 64, "{bits} of the random bits are told apart in the id");
        assert_eq!(id(random), id(random), "nothing else in it is random");
    }
}

/// How many of these bit patterns are no combination of the others.
fn independent(patterns: impl Iterator<Item = u128>) -> u32 {
    let mut basis = [0; u128::BITS as usize];
    let mut count = 0;
    for mut pattern in patterns {
        while let Some(highest) = pattern.checked_ilog2() {
            let known = &mut basis[highest as usize];
            if *known == 0 {
                *known = pattern;
                count += 1;
                break;
            }
            pattern ^= *known;
        }
    }
    count
}
