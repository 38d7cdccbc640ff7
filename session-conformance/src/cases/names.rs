//! Text is bytes: users, tenants, kinds and clients that differ in one byte are others.

use std::sync::Arc;

use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, Scope};
use session_core::store::{PageQuery, PolicyChange, Selection, TenantFilter};
use session_core::{Actor, ClientId, DeviceKind, Session, Store, TenantId, UserId, UserKey};

use crate::Namespace;
use crate::sample::{
    about, end, end_all, ended_ids, ids, insert, log_end, now, read_log, session, sorted, user,
    user_in,
};

/// The same signs, parted in other places.
pub(crate) async fn separators_do_not_join_names(namespace: Arc<dyn Namespace>) {
    let mut owners = Vec::new();
    for sign in [":", "/", "|", ",", ";", ".", "-", "_", "#", "\\", "'", "\"", " ", "{}", "::", "%"]
    {
        owners.extend([
            user(&format!("a{sign}b{sign}c")),
            user_in("a", &format!("b{sign}c")),
            user_in(&format!("a{sign}b"), "c"),
        ]);
    }
    all_are_apart(namespace.as_ref(), &owners).await;
}

pub(crate) async fn a_prefix_is_another_name(namespace: Arc<dyn Namespace>) {
    let mut owners = Vec::new();
    for name in ["al", "alice", "alice2", "alices"] {
        owners.push(user(name));
        owners.extend(["north", "northwest", "nor"].map(|tenant| user_in(tenant, name)));
    }
    all_are_apart(namespace.as_ref(), &owners).await;
}

pub(crate) async fn signs_of_a_query_language_are_letters(namespace: Arc<dyn Namespace>) {
    let names = [
        "a_c",
        "abc",
        "a%",
        "%",
        "_",
        "*",
        "a*",
        "a?c",
        "[a]",
        "{a}",
        "a{b}",
        "$a",
        "$a.b",
        "a.b",
        "'; --",
        "a\\",
        "a\\'",
        "\"a\"",
        "`a`",
        "a&b",
        "a+b",
        "a b",
        "a  b",
        " a",
        "a ",
        "A",
        "a",
        "null",
        "NULL",
        "0",
        "00",
        "1e3",
        "\u{e4}",
        "a\u{308}",
        "\u{df}",
        "ss",
        "\u{1F511}",
    ];
    let mut owners: Vec<_> = names.map(user).into();
    owners.extend(names.map(|name| user_in(name, "a")));
    all_are_apart(namespace.as_ref(), &owners).await;
}

pub(crate) async fn long_names_are_told_apart_by_their_last_byte(namespace: Arc<dyn Namespace>) {
    let long = |most: usize, last: &str| {
        let key = "\u{1F511}".repeat((most - last.len()) / 4);
        let fill = "x".repeat(most - last.len() - key.len());
        format!("{key}{fill}{last}")
    };
    let mut owners = Vec::new();
    for last in ["a", "b", "A", "\u{e4}", "\u{1F511}"] {
        owners.push(user(&long(UserId::MAX_BYTES, last)));
        owners.push(user_in(&long(TenantId::MAX_BYTES, last), "alice"));
        owners.push(user_in(&long(TenantId::MAX_BYTES, "a"), &long(UserId::MAX_BYTES, last)));
    }
    all_are_apart(namespace.as_ref(), &owners).await;
}

/// One session of each: it is read, listed and ended as its own user's and tenant's, and by its own
/// kind and client.
async fn all_are_apart(namespace: &dyn Namespace, owners: &[UserKey]) {
    let store = namespace.connect().await;
    let store = store.as_ref();
    let begun = now(store).await;
    let mut sessions = Vec::new();
    for owner in owners {
        let mut session = session(store, owner, begun);
        let short = |text: &str, most: usize| text[..text.floor_char_boundary(most)].to_owned();
        let kind = short(owner.user.as_str(), DeviceKind::MAX_BYTES);
        session.device_kind = DeviceKind::new(&kind).unwrap();
        let client = short(owner.user.as_str(), ClientId::MAX_BYTES);
        session.client_id = Some(ClientId::new(&client).unwrap());
        insert(store, &session).await;
        sessions.push(session);
    }
    for (n, session) in sessions.iter().enumerate() {
        let owner = &session.owner;
        assert_eq!(ids(store, owner).await, [session.id], "the sessions of {owner:?}");
        let tenant = TenantFilter::Is(owner.tenant.clone());
        let mut query = PageQuery::live(tenant, begun);
        query.limit = PageQuery::MAX_LIMIT;
        // Every filter comes with many of the names, and no filter with all of them.
        match n % 4 {
            0 => query.user = Some(owner.user.clone()),
            1 => query.device_kind = Some(session.device_kind.clone()),
            2 => query.client_id.clone_from(&session.client_id),
            _ => {}
        }
        lists_what_it_covers(store, &query, &sessions).await;
    }
    let mut left = sessions.clone();
    for (n, session) in sessions.iter().enumerate() {
        let tenant = TenantFilter::Is(session.owner.tenant.clone());
        let selection = match n % 4 {
            0 => Selection::user(session.owner.clone()),
            1 => Selection::within(tenant.clone()).on(session.device_kind.clone()),
            2 => Selection::within(tenant.clone()).of_client(session.client_id.clone().unwrap()),
            _ => Selection { user: Some(session.owner.user.clone()), ..Selection::within(tenant) },
        };
        let (ends, stay): (Vec<_>, Vec<_>) = left.into_iter().partition(|s| selection.covers(s));
        let ended = end_all(store, end(store, selection.clone()).await, 10).await;
        assert_eq!(ended_ids(&ended), sorted(&ends), "what {selection:?} ends");
        left = stay;
    }
    for session in &left {
        assert!(store.load(session.id).await.unwrap().is_some(), "{:?} is left", session.owner);
    }
}

async fn lists_what_it_covers(store: &dyn Store, query: &PageQuery, sessions: &[Session]) {
    let mut query = query.clone();
    let expected = sorted(sessions.iter().filter(|session| query.covers(session)));
    let mut listed = Vec::new();
    loop {
        let page = store.page(&query).await.unwrap();
        listed.extend(page.sessions);
        query.after = page.next;
        assert!(listed.len() <= sessions.len(), "the pages have no end");
        if query.after.is_none() {
            break;
        }
    }
    assert_eq!(sorted(&listed), expected, "what {query:?} lists");
}

pub(crate) async fn policies_and_events_keep_every_name(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owners = [
        user("a:b"),
        user_in("a", "b"),
        user_in("a:b", "c"),
        user_in("a", "b:c"),
        user("A:b"),
        user_in("north", "'; DROP TABLE \"x\"; --"),
        user_in("northwest", "%_\\"),
        user_in("{north}", "*"),
    ];
    let mut cursor = log_end(store.as_ref()).await;
    let mut limits = Vec::new();
    for (n, owner) in owners.iter().enumerate() {
        let max = u32::try_from(n).unwrap() + 1;
        let limit = Limit { max, scope: Scope::User, on_exceed: OnExceed::Reject };
        let policy = Some(Policy::limit(limit));
        let scope = PolicyScope::User(owner.clone());
        let by = Actor::User(owner.clone());
        let change =
            PolicyChange { scope, policy: policy.clone(), at: now(store.as_ref()).await, by };
        store.set_policy(&change).await.unwrap();
        limits.push((policy, change.event()));
    }
    let told = read_log(other.as_ref(), &mut cursor, 3).await;
    for (owner, (policy, event)) in owners.iter().zip(limits) {
        assert_eq!(about(&told, owner), [&event], "the names of a policy's event");
        let read = other.policy(&PolicyScope::User(owner.clone())).await.unwrap();
        assert_eq!(read, policy, "the policy of {owner:?}");
        assert_eq!(other.user(owner).await.unwrap().policies.user, policy, "`user` reads it");
    }
}
