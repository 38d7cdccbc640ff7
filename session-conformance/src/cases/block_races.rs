//! Blocks that are set while sign-ins are under way, on several nodes.

use std::sync::Arc;

use session_core::policy::PolicyScope;
use session_core::store::{Change, Outcome, Selection, TenantFilter};
use session_core::{EndCause, EventKind, Session, Store, UserKey};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::blocks::{lift, set};
use crate::Namespace;
use crate::sample::{
    add, begins, change_at, end, end_all, ended_ids, ids, log_end, now, read_log, session, user_in,
    version,
};

pub(crate) async fn no_sign_in_of_a_user_outlives_a_block(namespace: Arc<dyn Namespace>) {
    let nodes = nodes(namespace.as_ref()).await;
    for round in 0..20 {
        let alice = user_in("north", &format!("alice {round}"));
        let selection = Selection::user(alice.clone());
        let scope = PolicyScope::User(alice.clone());
        let sign_ins = [0, 1, 2].map(|_| vec![alice.clone()]);
        races(&nodes, &scope, selection, sign_ins, round % 5).await;
    }
}

pub(crate) async fn no_sign_in_of_a_tenant_outlives_a_block(namespace: Arc<dyn Namespace>) {
    let tenant = user_in("north", "alice").tenant;
    let scope = PolicyScope::Tenant(tenant.clone().unwrap());
    let selection = Selection::within(TenantFilter::Is(tenant));
    let nodes = nodes(namespace.as_ref()).await;
    for round in 0..8 {
        let sign_ins = many(round, |name| user_in("north", &name));
        races(&nodes, &scope, selection.clone(), sign_ins, round).await;
    }
}

pub(crate) async fn no_sign_in_outlives_a_block_of_the_deployment(namespace: Arc<dyn Namespace>) {
    let selection = Selection::within(TenantFilter::Any);
    let nodes = nodes(namespace.as_ref()).await;
    for round in 0..8 {
        let sign_ins = many(round, |name| user_in(&name, &name));
        races(&nodes, &PolicyScope::Deployment, selection.clone(), sign_ins, round).await;
    }
}

async fn nodes(namespace: &dyn Namespace) -> [Arc<dyn Store>; 4] {
    let connect = || namespace.connect();
    [connect().await, connect().await, connect().await, connect().await]
}

/// For each of three nodes, users who sign in there one after the other. Each is new: where the
/// walk ends a session of a user, a sign-in that is under way conflicts with that.
fn many(round: usize, owner: impl Fn(String) -> UserKey) -> [Vec<UserKey>; 3] {
    [0, 1, 2].map(|node| (0..6).map(|n| owner(format!("{round} {node} {n}"))).collect())
}

/// Sign-ins on three nodes, and on a fourth a block and then a walk over its place. A sign-in is
/// ended by the walk, or was refused.
async fn races(
    [store, others @ ..]: &[Arc<dyn Store>; 4],
    scope: &PolicyScope,
    selection: Selection,
    sign_ins: [Vec<UserKey>; 3],
    delay: usize,
) {
    let gate = Arc::new(Barrier::new(sign_ins.len() + 1));
    let mut signing_in = JoinSet::new();
    for (node, owners) in others.iter().zip(sign_ins.clone()) {
        let (node, gate) = (Arc::clone(node), Arc::clone(&gate));
        signing_in.spawn(async move {
            gate.wait().await;
            sign_in(node.as_ref(), owners).await
        });
    }
    gate.wait().await;
    for _ in 0..delay * 3 {
        tokio::task::yield_now().await;
    }
    set(store.as_ref(), scope, None).await;
    let walk = end(store.as_ref(), selection).await;
    let ended = ended_ids(&end_all(store.as_ref(), walk, 2).await);
    let begun = signing_in.join_all().await;
    for session in begun.into_iter().flatten() {
        assert!(ended.contains(&session.id), "a sign-in has outlived the block of {scope:?}");
        let read = store.load(session.id).await.unwrap();
        assert_eq!(read, None, "it is ended when `end_many` has returned");
    }
    for owner in sign_ins.iter().flatten() {
        assert_eq!(ids(store.as_ref(), owner).await, [], "no session is left where it is blocked");
    }
    lift(store.as_ref(), scope).await;
}

/// Signs these users in, without a look at the blocks, and answers what has begun.
async fn sign_in(node: &dyn Store, owners: Vec<UserKey>) -> Vec<Session> {
    let mut begun = Vec::new();
    for owner in owners {
        let session = session(node, &owner, now(node).await);
        let expected = version(node, &owner).await;
        // Lets a block come in between, also on a store that never waits.
        tokio::task::yield_now().await;
        let commit = change_at(&owner, expected, vec![begins(&session)], session.signed_in);
        if node.commit(&commit).await.unwrap() == Outcome::Done {
            begun.push(session);
        }
    }
    begun
}

/// A sign-in that takes another session's place, beside a block of its user.
pub(crate) async fn a_sign_in_beside_a_block_is_whole_or_nothing(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    for round in 0..20 {
        let alice = user_in("north", &format!("alice {round}"));
        let scope = PolicyScope::User(alice.clone());
        let there = add(store.as_ref(), &alice).await;
        let mut cursor = log_end(store.as_ref()).await;
        let new = session(other.as_ref(), &alice, there.signed_in);
        let expected = version(other.as_ref(), &alice).await;
        let changes = vec![Change::End(there.id, EndCause::Evicted), begins(&new)];
        let commit = change_at(&alice, expected, changes, there.signed_in);
        let sign_in = async { other.commit(&commit).await.unwrap() };
        let (_, outcome) = if round % 2 == 0 {
            tokio::join!(set(store.as_ref(), &scope, None), sign_in)
        } else {
            let (outcome, block) = tokio::join!(sign_in, set(store.as_ref(), &scope, None));
            (block, outcome)
        };
        let told = read_log(store.as_ref(), &mut cursor, 10).await;
        let of_sessions = told.iter().filter_map(|event| Some((event.session?, event.kind)));
        let told: Vec<_> = of_sessions.collect();
        let evicted = (there.id, EventKind::Ended(EndCause::Evicted));
        let created = (new.id, EventKind::Created);
        let taken_back = (new.id, EventKind::Ended(EndCause::Blocked));
        let alive = match (outcome, told.as_slice()) {
            (Outcome::Done, told) => {
                assert_eq!(told, [evicted, created]);
                vec![new.id]
            }
            (Outcome::Conflict, []) => vec![there.id],
            (Outcome::Conflict, told) => {
                assert_eq!(told, [evicted, created, taken_back], "the whole commit, and its end");
                let cause = store.ended(new.id).await.unwrap().map(|ended| ended.cause);
                assert_eq!(cause, Some(EndCause::Blocked), "the history tells the same");
                vec![]
            }
        };
        assert_eq!(ids(other.as_ref(), &alice).await, alive, "what the log tells");
        lift(store.as_ref(), &scope).await;
    }
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
