//! Policies: where they are set, where they hold, and when they inherit.

use std::sync::Arc;

use session_core::policy::{
    Limit, OnExceed, Policy, PolicyLayers, PolicyScope, PreventConcurrentLogin, Scope,
};
use session_core::store::{Entries, PolicyChange};
use session_core::{Actor, EventKind, Store};

use crate::Namespace;
use crate::sample::{add_many, at_most, ids, now, read_log, sorted, user, user_in};

pub(crate) async fn policies_layer_and_inherit(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let alice = user_in("north", "alice");
    let named = |option| Some(Policy::from(option));
    let scopes = [
        (PolicyScope::Deployment, named(PreventConcurrentLogin::LogoutFromAllDevices)),
        (
            PolicyScope::Tenant(alice.tenant.clone().unwrap()),
            named(PreventConcurrentLogin::Disabled),
        ),
        (
            PolicyScope::User(alice.clone()),
            named(PreventConcurrentLogin::LogoutFromSameTypeDevices),
        ),
    ];
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    for (scope, policy) in &scopes {
        assert_eq!(other.policy(scope).await.unwrap(), None);
        for policy in [&None, &Some(Policy::default()), policy] {
            set(store.as_ref(), scope, policy.clone()).await;
        }
        assert_eq!(other.policy(scope).await.unwrap(), *policy);
    }
    let told = read_log(store.as_ref(), &mut cursor, 100).await;
    assert_eq!(told.len(), 9);
    assert!(told.iter().all(|event| event.kind == EventKind::PolicyChanged));
    let layers = other.user(&alice).await.unwrap().policies;
    assert_eq!(layers.deployment, scopes[0].1);
    assert_eq!(layers.tenant, scopes[1].1);
    assert_eq!(layers.user, scopes[2].1);
    // The same name outside the tenant is another user.
    let layers = other.user(&user("alice")).await.unwrap().policies;
    assert_eq!((layers.deployment, layers.tenant, layers.user), (scopes[0].1.clone(), None, None));
    let bob = other.user(&user_in("north", "bob")).await.unwrap().policies;
    assert_eq!((bob.tenant, bob.user), (scopes[1].1.clone(), None));
}

pub(crate) async fn a_policy_that_is_unset_inherits_again(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let alice = user_in("north", "alice");
    for scope in PolicyScope::of(&alice) {
        let policy = at_most(3);
        set(store.as_ref(), &scope, Some(policy.clone())).await;
        assert_eq!(other.policy(&scope).await.unwrap(), Some(policy), "it is set: {scope:?}");
        set(other.as_ref(), &scope, None).await;
        for node in [&store, &other] {
            assert_eq!(node.policy(&scope).await.unwrap(), None, "it inherits again: {scope:?}");
            let layers = node.user(&alice).await.unwrap().policies;
            assert_eq!(layers, PolicyLayers::default(), "`user` reads none: {scope:?}");
        }
        set(store.as_ref(), &scope, None).await;
        assert_eq!(other.policy(&scope).await.unwrap(), None, "unset twice is unset");
        set(store.as_ref(), &scope, Some(at_most(4))).await;
        assert_eq!(other.policy(&scope).await.unwrap(), Some(at_most(4)), "set again");
        set(store.as_ref(), &scope, None).await;
    }
}

pub(crate) async fn a_policy_of_one_place_reaches_no_other(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owners = [
        user("alice"),
        user("north"),
        user_in("north", "alice"),
        user_in("north", "alic"),
        user_in("northwest", "alice"),
        user_in("North", "alice"),
        user_in("alice", "north"),
    ];
    let mut places: Vec<_> = owners.iter().cloned().map(PolicyScope::User).collect();
    let tenants = ["north", "northwest", "North", "alice"];
    places.extend(tenants.map(|tenant| PolicyScope::Tenant(tenant.parse().unwrap())));
    places.push(PolicyScope::Deployment);
    for (n, scope) in (1..).zip(&places) {
        set(store.as_ref(), scope, Some(at_most(n))).await;
        let set_so_far = |scope: &PolicyScope| {
            let place = places.iter().position(|place| place == scope)?;
            let place = u32::try_from(place).unwrap() + 1;
            (place <= n).then(|| at_most(place))
        };
        for owner in &owners {
            let mut expected = PolicyLayers::default();
            for place in PolicyScope::of(owner) {
                expected.set(&place, set_so_far(&place));
            }
            let layers = other.user(owner).await.unwrap().policies;
            assert_eq!(layers, expected, "the policies of {owner:?} once {scope:?} was set");
        }
    }
    for scope in &places {
        set(store.as_ref(), scope, None).await;
        assert_eq!(other.policy(scope).await.unwrap(), None);
    }
}

pub(crate) async fn the_last_of_several_calls_wins(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let alice = user_in("north", "alice");
    for scope in PolicyScope::of(&alice) {
        let mut policy = Policy::from(PreventConcurrentLogin::LogoutFromSameTypeDevices);
        for n in 1..=3 {
            let limit = Limit { max: n, scope: Scope::Client, on_exceed: OnExceed::EvictOldest };
            policy.limits.push(limit);
            let node = [&store, &other][n as usize % 2];
            set(node.as_ref(), &scope, Some(policy.clone())).await;
            let read = store.policy(&scope).await.unwrap();
            assert_eq!(read.as_ref(), Some(&policy), "the last one holds, whole: {scope:?}");
        }
        set(store.as_ref(), &scope, Some(Policy::default())).await;
        let read = other.policy(&scope).await.unwrap();
        assert_eq!(read, Some(Policy::default()), "a policy that allows everything is a policy");
    }
}

pub(crate) async fn a_policy_raises_no_version_and_ends_nothing(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let alice = user_in("north", "alice");
    let sessions = add_many(store.as_ref(), &alice, 3).await;
    for scope in PolicyScope::of(&alice) {
        set(store.as_ref(), &scope, Some(at_most(1))).await;
    }
    assert_eq!(ids(store.as_ref(), &alice).await, sorted(&sessions), "a policy ends nothing");
    for session in sessions {
        let read = store.load(session.id).await.unwrap().map(|loaded| loaded.session);
        assert_eq!(read, Some(session), "and changes no session");
    }
}

pub(super) async fn set(store: &dyn Store, scope: &PolicyScope, policy: Option<Policy>) {
    let by = Actor::Application;
    let change = PolicyChange { scope: scope.clone(), policy, at: now(store).await, by };
    store.set_policy(&change).await.unwrap();
}
