//! Blocks, and the copies of them that commits go by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use session_conformance::sample::{PATIENCE, end, end_all, now, random, session, user, user_in};
use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::{
    BlockChange, Change, Commit, Outcome, PageQuery, Selection, TenantFilter,
};
use session_core::{Actor, Session, Store, Timestamp, UserKey};
use session_store_redis::RedisStore;
use tokio::task::JoinSet;

use crate::namespace::{ALONE, Prefix};
use crate::single::ask;

fn change(
    scope: &PolicyScope,
    at: Timestamp,
    block: bool,
    until: Option<Timestamp>,
) -> BlockChange {
    let by = Actor::Application;
    let block = block.then(|| Block { reason: None, until, since: at, by: by.clone() });
    BlockChange { scope: scope.clone(), block, at, by }
}

/// A sign-in that has read the user, and is about to commit.
async fn begins(store: &RedisStore, owner: &UserKey) -> Commit {
    let new = session(store, owner, now(store).await);
    begins_with(store, new).await
}

async fn begins_with(store: &RedisStore, new: Session) -> Commit {
    Commit {
        owner: new.owner.clone(),
        expected: store.user(&new.owner).await.unwrap().version,
        at: new.signed_in,
        changes: vec![Change::Insert(Box::new(new))],
        by: Actor::Application,
        from: None,
    }
}

/// A commit that read the user before the block does not pass after it, in whichever shard.
#[tokio::test]
async fn no_commit_begins_a_session_where_a_block_holds() {
    let _shared = ALONE.read().await;
    for is_cluster in [false, true] {
        let prefix = Prefix::new(is_cluster);
        let (store, other) = (prefix.store().await, prefix.store().await);
        let at = now(&store).await;
        let owners = [user("alice"), user_in("north", "alice"), user_in("south", "alice")];
        let north = PolicyScope::Tenant("north".parse().unwrap());
        let scopes = [
            (PolicyScope::Deployment, [true, true, true]),
            (north, [false, true, false]),
            (PolicyScope::User(owners[0].clone()), [true, false, false]),
            (PolicyScope::User(owners[2].clone()), [false, false, true]),
        ];
        for (scope, blocked) in scopes {
            let mut commits = Vec::new();
            for owner in &owners {
                commits.push(begins(&store, owner).await);
            }
            other.set_block(&change(&scope, at, true, None)).await.unwrap();
            for (commit, blocked) in commits.iter().zip(blocked) {
                let outcome = store.commit(commit).await.unwrap();
                assert_eq!(outcome == Outcome::Conflict, blocked, "{scope:?} {:?}", commit.owner);
                let blocks = store.user(&commit.owner).await.unwrap().blocks;
                assert_eq!(blocks.iter().any(|(place, _)| *place == scope), blocked);
            }
            assert_eq!(store.audit().await.unwrap(), [""; 0]);
            other.set_block(&change(&scope, at, false, None)).await.unwrap();
            assert_eq!(store.block(&scope).await.unwrap(), None);
            for (commit, blocked) in commits.iter().zip(blocked) {
                let outcome = store.commit(commit).await.unwrap();
                assert_eq!(outcome == Outcome::Done, blocked, "{scope:?} {:?}", commit.owner);
            }
        }
        assert_eq!(store.audit().await.unwrap(), [""; 0]);
    }
}

/// A block is over when the server's clock says so, and stays readable.
#[tokio::test]
async fn a_block_ends_by_itself() {
    let _shared = ALONE.read().await;
    let store = Prefix::new(true).store().await;
    let (owner, at) = (user("alice"), now(&store).await);
    let until = at.plus(Duration::from_millis(300));
    let scope = PolicyScope::User(owner.clone());
    store.set_block(&change(&scope, at, true, Some(until))).await.unwrap();
    let begun = Instant::now();
    while store.commit(&begins(&store, &owner).await).await.unwrap() == Outcome::Conflict {
        assert!(begun.elapsed() < PATIENCE, "its time is over");
    }
    assert!(now(&store).await > until, "it held until then");
    assert_eq!(store.block(&scope).await.unwrap().unwrap().until, Some(until));
}

/// A node that dies while it lifts a block leaves copies of it behind: the commit that one refuses
/// renews it.
#[tokio::test]
async fn an_outdated_copy_is_renewed_by_the_commit_that_it_refuses() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let copy = format!("{}{{0}}:blocked", prefix.options.prefix);
    let plant = async || ask::<()>(redis::cmd("HSET").arg(&copy).arg("\0\0").arg("0 ")).await;
    plant().await;
    let commit = begins(&store, &user("alice")).await;
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Conflict);
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
    // What is in force elsewhere stays.
    let (at, bob) = (commit.at, user("bob"));
    store.set_block(&change(&PolicyScope::User(bob.clone()), at, true, None)).await.unwrap();
    plant().await;
    let commit = begins(&store, &user("alice")).await;
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Conflict);
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
    let commit = begins(&store, &bob).await;
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Conflict);
    assert_eq!(store.audit().await.unwrap(), [""; 0]);
}

/// Changes of one block by several nodes at once: every copy has the last.
#[tokio::test(flavor = "multi_thread")]
async fn all_copies_have_the_last_of_several_changes() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(true);
    let mut nodes = Vec::new();
    for _ in 0..8 {
        nodes.push(Arc::new(prefix.store().await));
    }
    let at = now(&*nodes[0]).await;
    for _ in 0..25 {
        let mut changes = JoinSet::new();
        for node in &nodes {
            let node = Arc::clone(node);
            let [block] = random::<1>();
            let change = change(&PolicyScope::Deployment, at, block < 128, None);
            changes.spawn(async move { node.set_block(&change).await.unwrap() });
        }
        changes.join_all().await;
        assert_eq!(nodes[0].audit().await.unwrap(), [""; 0]);
    }
}

/// A block of the deployment and an end of all sessions after it leave none, also of those sign-ins
/// that were under way.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_after_a_block_leaves_no_session() {
    let _shared = ALONE.read().await;
    for is_cluster in [false, true] {
        let prefix = Prefix::new(is_cluster);
        let store = prefix.store().await;
        let (stop, begun) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut sign_ins = JoinSet::new();
        for n in 0..8 {
            let (store, stop, begun) =
                (prefix.store().await, Arc::clone(&stop), Arc::clone(&begun));
            sign_ins.spawn(async move {
                let at = now(&store).await;
                for k in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let new = session(&store, &user(&format!("user {n} {k}")), at);
                    let commit = begins_with(&store, new).await;
                    if store.commit(&commit).await.unwrap() == Outcome::Done {
                        begun.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let started = Instant::now();
        while begun.load(Ordering::SeqCst) < 200 {
            assert!(started.elapsed() < PATIENCE, "the sign-ins go on by themselves");
            tokio::task::yield_now().await;
        }
        let at = now(&store).await;
        store.set_block(&change(&PolicyScope::Deployment, at, true, None)).await.unwrap();
        let all = end(&store, Selection::within(TenantFilter::Any)).await;
        let ended = end_all(&store, all, 500).await.len();
        stop.store(true, Ordering::SeqCst);
        sign_ins.join_all().await;
        assert_eq!(ended, begun.load(Ordering::SeqCst));
        let left = PageQuery::live(TenantFilter::Any, Timestamp::EPOCH);
        assert_eq!(store.page(&left).await.unwrap().sessions, []);
    }
}
