//! What nodes share besides sessions: policies, leases, and the news of an end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::policy::{Policy, PolicyScope, PreventConcurrentLogin};
use session_core::store::{Entries, PolicyChange};
use session_core::{Actor, EventKind};
use session_engine::{Access, SignIn, Verdict};
use tokio::task::JoinSet;

use crate::Namespace;
use crate::sample::{PATIENCE, add, engine, ids, now, read_log, user, user_in};

/// Eight nodes make whatever the store needs, a ninth finds all of it made.
pub(crate) async fn nodes_open_at_the_same_moment(namespace: Arc<dyn Namespace>) {
    let mut nodes = JoinSet::new();
    for n in 0..8 {
        let namespace = Arc::clone(&namespace);
        nodes.spawn(async move {
            let store = namespace.connect().await;
            let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
            let session = add(store.as_ref(), &user(&format!("user {n}"))).await;
            let told = read_log(store.as_ref(), &mut cursor, 100).await;
            assert!(told.iter().any(|event| event.session == Some(session.id)));
            (session, cursor)
        });
    }
    let begun = nodes.join_all().await;
    let late = namespace.connect().await;
    for (session, mut cursor) in begun {
        assert_eq!(ids(late.as_ref(), &session.owner).await, [session.id]);
        read_log(late.as_ref(), &mut cursor, 100).await;
    }
}

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
        let set = |policy: &Option<Policy>| PolicyChange {
            scope: scope.clone(),
            policy: policy.clone(),
            at: now(),
            by: Actor::Application,
        };
        store.set_policy(&set(&None)).await.unwrap();
        store.set_policy(&set(&Some(Policy::default()))).await.unwrap();
        store.set_policy(&set(policy)).await.unwrap();
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

pub(crate) async fn a_lease_has_one_holder(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let long = PATIENCE * 10;
    assert!(store.lease("cleanup", "one", long).await.unwrap());
    assert!(!other.lease("cleanup", "two", long).await.unwrap());
    assert!(other.lease("another", "two", long).await.unwrap());
    assert!(store.lease("cleanup", "one", Duration::from_millis(50)).await.unwrap(), "renewal");
    let begun = Instant::now();
    while !other.lease("cleanup", "two", long).await.unwrap() {
        assert!(begun.elapsed() < PATIENCE, "a dead holder's lease runs out");
        tokio::task::yield_now().await;
    }
    assert!(!store.lease("cleanup", "one", long).await.unwrap(), "a late holder is refused");
}

pub(crate) async fn a_revocation_reaches_every_node(namespace: Arc<dyn Namespace>) {
    let options = namespace.options();
    let here = engine(namespace.connect().await, options.clone()).await;
    let there = engine(namespace.connect().await, options.clone()).await;
    for _ in 0..5 {
        let signed_in = here.sessions().sign_in(SignIn::new(user("alice"))).await.unwrap();
        let token = signed_in.token.expose();
        let valid = async |node: &session_engine::Engine| {
            let verdict = node.sessions().validate(token.as_bytes(), Access::default()).await;
            matches!(verdict.unwrap(), Verdict::Active(_))
        };
        assert!(valid(&there).await && valid(&here).await);
        let ended = there.sessions().session_ended(signed_in.session.id());
        let owner = signed_in.session.owner().clone();
        here.sessions().revoke_user(owner, Actor::Application).await.unwrap();
        // That the log is read often enough is tested on simulated time.
        let told = tokio::time::timeout(PATIENCE, ended).await;
        assert!(told.is_ok_and(|told| told.is_some()), "the end is never heard of");
        assert!(!valid(&here).await && !valid(&there).await);
    }
    here.shutdown().await;
    there.shutdown().await;
}
