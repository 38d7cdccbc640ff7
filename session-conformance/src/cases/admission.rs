//! Sign-ins of one user at the same moment, from several nodes.

use std::sync::Arc;

use session_core::policy::{Limit, OnExceed, Policy, PreventConcurrentLogin, Scope};
use session_core::store::Commit;
use session_core::{DeviceKind, UserKey};
use session_engine::{Access, Engine, Error, SignIn, SignedIn, Verdict};
use tokio::task::JoinSet;

use crate::Namespace;
use crate::sample::{add_many, engine, ids, user};

const SIGN_INS: usize = 64;
const BATCH: usize = Commit::MAX_CHANGES;

pub(crate) async fn no_limit_is_exceeded_by_concurrent_sign_ins(namespace: Arc<dyn Namespace>) {
    let limit = |max, scope, on_exceed| Limit { max, scope, on_exceed };
    let policies = [
        (Policy::from(PreventConcurrentLogin::LogoutFromAllDevices), 1),
        (Policy::from(PreventConcurrentLogin::LogoutFromSameTypeDevices), 2),
        (Policy::limit(limit(3, Scope::User, OnExceed::EvictOldest)), 3),
        (Policy::limit(limit(2, Scope::DeviceKind, OnExceed::EvictLeastRecentlyUsed)), 4),
        (Policy::default(), SIGN_INS),
    ];
    for (n, (policy, most)) in policies.into_iter().enumerate() {
        let owner = user(&format!("user {n}"));
        let nodes = nodes(namespace.as_ref(), policy.clone()).await;
        let signed_in = sign_in_at_once(&nodes, &owner).await;
        let signed_in: Vec<_> = signed_in.into_iter().map(Result::unwrap).collect();
        let live = ids(namespace.connect().await.as_ref(), &owner).await;
        assert_eq!(live.len(), most, "{policy:?}");
        let newest = signed_in.iter().max_by_key(|s| s.session.signed_in()).unwrap();
        assert!(live.contains(&newest.session.id()), "the newest has to be alive: {policy:?}");
        // Who was ended was ended once.
        let mut ended: Vec<_> =
            signed_in.iter().flat_map(|s| &s.ended).map(|(id, _)| *id).collect();
        ended.sort();
        let count = ended.len();
        ended.dedup();
        assert_eq!((ended.len(), count), (SIGN_INS - most, SIGN_INS - most), "{policy:?}");
        shut_down(nodes).await;
    }
}

pub(crate) async fn reject_admits_exactly_the_limit(namespace: Arc<dyn Namespace>) {
    let limit = Limit { max: 5, scope: Scope::User, on_exceed: OnExceed::Reject };
    let nodes = nodes(namespace.as_ref(), Policy::limit(limit)).await;
    let owner = user("alice");
    let results = sign_in_at_once(&nodes, &owner).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 5);
    for error in lost.into_iter().filter_map(Result::err) {
        let reached = matches!(&error, Error::TooManySessions(reached) if reached.limit == limit);
        assert!(reached, "{error}");
    }
    let mut expected: Vec<_> = won.iter().flatten().map(|s| s.session.id()).collect();
    expected.sort();
    assert_eq!(ids(namespace.connect().await.as_ref(), &owner).await, expected);
    for signed_in in won.into_iter().flatten() {
        let token = signed_in.token.expose();
        for node in &nodes {
            let verdict = node.sessions().validate(token.as_bytes(), Access::default()).await;
            assert!(matches!(verdict.unwrap(), Verdict::Active(_)));
        }
    }
    shut_down(nodes).await;
}

pub(crate) async fn one_user_with_many_sessions(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let many = namespace.many_sessions();
    for begun in (0..many).step_by(BATCH) {
        add_many(store.as_ref(), &owner, BATCH.min(many - begun)).await;
    }
    assert_eq!(ids(store.as_ref(), &owner).await.len(), many);
    let policy = Policy::from(PreventConcurrentLogin::LogoutFromAllDevices);
    let nodes = nodes(namespace.as_ref(), policy).await;
    let signed_in = nodes[0].sessions().sign_in(SignIn::new(owner.clone())).await.unwrap();
    assert_eq!(signed_in.ended.len(), many);
    assert_eq!(ids(store.as_ref(), &owner).await, [signed_in.session.id()]);
    shut_down(nodes).await;
}

async fn nodes(namespace: &dyn Namespace, default_policy: Policy) -> Vec<Engine> {
    let mut options = namespace.options();
    options.default_policy = default_policy;
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(engine(namespace.connect().await, options.clone()).await);
    }
    nodes
}

async fn sign_in_at_once(nodes: &[Engine], owner: &UserKey) -> Vec<Result<SignedIn, Error>> {
    let gate = Arc::new(tokio::sync::Barrier::new(SIGN_INS));
    let mut running = JoinSet::new();
    for n in 0..SIGN_INS {
        let sessions = nodes[n % nodes.len()].sessions().clone();
        let device_kind = if n % 2 == 0 { DeviceKind::Web } else { DeviceKind::Mobile };
        let request = SignIn::new(owner.clone()).with_device_kind(device_kind);
        let gate = Arc::clone(&gate);
        running.spawn(async move {
            gate.wait().await;
            sessions.sign_in(request).await
        });
    }
    running.join_all().await
}

async fn shut_down(nodes: Vec<Engine>) {
    for node in nodes {
        node.shutdown().await;
    }
}
