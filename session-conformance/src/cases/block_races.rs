//! Blocks that are set while sign-ins are under way, on several nodes.

use std::sync::Arc;

use session_core::policy::PolicyScope;
use session_core::store::{Change, Outcome, Selection, TenantFilter};
use session_core::{EndCause, Session, Store, UserKey};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::blocks::{lift, set};
use crate::Namespace;
use crate::sample::{
    add, begins, change_at, end, end_all, ended_ids, ids, now, session, user_in, version,
};

pub(crate) async fn no_sign_in_of_a_user_outlives_a_block(namespace: Arc<dyn Namespace>) {
    let alice = user_in("north", "alice");
    let scope = PolicyScope::User(alice.clone());
    let selection = Selection::user(alice.clone());
    for round in 0..ROUNDS {
        let owners = [&alice, &alice, &alice].map(Clone::clone);
        races(&namespace, &scope, &selection, owners, round).await;
    }
}

pub(crate) async fn no_sign_in_of_a_tenant_outlives_a_block(namespace: Arc<dyn Namespace>) {
    let tenant = user_in("north", "alice").tenant;
    let scope = PolicyScope::Tenant(tenant.clone().unwrap());
    let selection = Selection::within(TenantFilter::Is(tenant));
    for round in 0..ROUNDS {
        let owners = [0, 1, 2].map(|n| user_in("north", &format!("user {n}")));
        races(&namespace, &scope, &selection, owners, round).await;
    }
}

pub(crate) async fn no_sign_in_outlives_a_block_of_the_deployment(namespace: Arc<dyn Namespace>) {
    let scope = PolicyScope::Deployment;
    let selection = Selection::within(TenantFilter::Any);
    for round in 0..ROUNDS {
        let owners = [0, 1, 2].map(|n| user_in(&format!("tenant {n}"), &format!("user {round}")));
        races(&namespace, &scope, &selection, owners, round).await;
    }
}

/// Sign-ins on three nodes, and on a fourth a block and then a walk over its place. A sign-in is ended
/// by the walk, or was refused.
async fn races(
    namespace: &Arc<dyn Namespace>,
    scope: &PolicyScope,
    selection: &Selection,
    owners: [UserKey; 3],
    round: usize,
) {
    let store = namespace.connect().await;
    let gate = Arc::new(Barrier::new(owners.len() + 1));
    let mut signing_in = JoinSet::new();
    for owner in owners.clone() {
        let (node, gate) = (namespace.connect().await, Arc::clone(&gate));
        signing_in.spawn(async move {
            gate.wait().await;
            sign_in_often(node.as_ref(), &owner).await
        });
    }
    gate.wait().await;
    // Not always at the beginning.
    for _ in 0..round * 3 {
        tokio::task::yield_now().await;
    }
    set(store.as_ref(), scope, None).await;
    let walk = end(store.as_ref(), selection.clone()).await;
    let ended = ended_ids(&end_all(store.as_ref(), walk, 2).await);
    let begun: Vec<_> = signing_in.join_all().await.into_iter().flatten().collect();
    for session in begun {
        assert!(ended.contains(&session.id), "a sign-in has outlived the block of {scope:?}");
        let read = store.load(session.id).await.unwrap();
        assert_eq!(read, None, "it is ended when `end_many` has returned");
    }
    for owner in owners {
        assert_eq!(ids(store.as_ref(), &owner).await, [], "no session is left where it is blocked");
    }
    lift(store.as_ref(), scope).await;
}

/// Tries so often, without a look at the blocks, and answers what has begun.
async fn sign_in_often(node: &dyn Store, owner: &UserKey) -> Vec<Session> {
    let mut begun = Vec::new();
    for _ in 0..10 {
        let session = session(node, owner, now(node).await);
        let expected = version(node, owner).await;
        // Lets a block come in between, also on a store that never waits.
        tokio::task::yield_now().await;
        let commit = change_at(owner, expected, vec![begins(&session)], session.signed_in);
        if node.commit(&commit).await.unwrap() == Outcome::Done {
            begun.push(session);
        }
    }
    begun
}

/// A block, and the ends of sessions that were there, do not wait for each other for ever.
pub(crate) async fn changes_go_on_beside_a_block(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let alice = user_in("north", "alice");
    let scope = PolicyScope::User(alice.clone());
    for _ in 0..20 {
        let there = add(store.as_ref(), &alice).await;
        let expected = version(other.as_ref(), &alice).await;
        let changes = vec![Change::End(there.id, EndCause::SignedOut)];
        let sign_out = change_at(&alice, expected, changes, there.signed_in);
        let signing_out = async { other.commit(&sign_out).await.unwrap() };
        let (_, outcome) = tokio::join!(set(store.as_ref(), &scope, None), signing_out);
        assert_eq!(outcome, Outcome::Done, "an end is no conflict where it is blocked");
        lift(store.as_ref(), &scope).await;
    }
}

const ROUNDS: usize = 10;
