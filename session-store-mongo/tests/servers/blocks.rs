//! Blocks, and what else concerns the whole fleet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use session_conformance::sample::{commit, end, end_all, now, session, user_in};
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope, PreventConcurrentLogin};
use session_core::store::{BlockChange, Change, Entries, Outcome, PolicyChange, Selection};
use session_core::{Actor, EventKind, FleetKey, Store, TenantId, Timestamp, UserKey};
use session_store_mongo::{MongoStore, Transactions};

use crate::namespace::{ALONE, Fresh};

const BOTH: [Transactions; 2] = [Transactions::WhereThereAre, Transactions::Never];

async fn block_until(store: &MongoStore, until: Option<Timestamp>) -> Block {
    let (reason, since) = (Some("fraud".parse().unwrap()), now(store).await);
    Block { reason, until, since, by: Actor::Application }
}

async fn set(store: &MongoStore, scope: &PolicyScope, block: Option<Block>) {
    let (at, by) = (now(store).await, Actor::Application);
    let change = BlockChange { scope: scope.clone(), block, at, by };
    store.set_block(&change).await.unwrap();
}

async fn sign_in(store: &MongoStore, owner: &UserKey) -> Outcome {
    let mine = session(store, owner, now(store).await);
    commit(store, owner, vec![Change::Insert(Box::new(mine))]).await
}

#[tokio::test]
async fn a_block_refuses_at_its_place_for_its_time() {
    let _alone = ALONE.read().await;
    for transactions in BOTH {
        let store = Fresh::new(transactions).store().await;
        let (alice, bob) = (user_in("north", "alice"), user_in("northwest", "alice"));
        let north = PolicyScope::Tenant(TenantId::new("north").unwrap());
        let policy = Policy::from(PreventConcurrentLogin::LogoutFromAllDevices);
        let (at, by) = (now(&store).await, Actor::Application);
        let change = PolicyChange { scope: north.clone(), policy: Some(policy.clone()), at, by };
        store.set_policy(&change).await.unwrap();
        let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
        for scope in [north.clone(), PolicyScope::User(alice.clone())] {
            let block = block_until(&store, None).await;
            set(&store, &scope, Some(block.clone())).await;
            assert_eq!(store.block(&scope).await.unwrap().as_ref(), Some(&block));
            assert_eq!(store.user(&alice).await.unwrap().blocks, [(scope.clone(), block)]);
            assert_eq!(sign_in(&store, &alice).await, Outcome::Conflict);
            assert_eq!(sign_in(&store, &bob).await, Outcome::Done);
            let over = block_until(&store, Some(now(&store).await)).await;
            set(&store, &scope, Some(over)).await;
            assert_eq!(sign_in(&store, &alice).await, Outcome::Done, "its time is over");
            let later = now(&store).await.plus(Duration::from_secs(3600));
            set(&store, &scope, Some(block_until(&store, Some(later)).await)).await;
            assert_eq!(sign_in(&store, &alice).await, Outcome::Conflict);
            set(&store, &scope, None).await;
            assert_eq!(store.block(&scope).await.unwrap(), None);
            assert_eq!(sign_in(&store, &alice).await, Outcome::Done);
        }
        assert_eq!(store.policy(&north).await.unwrap(), Some(policy.clone()), "it is kept beside");
        assert_eq!(store.user(&alice).await.unwrap().policies.tenant, Some(policy));
        let deployment = PolicyScope::Deployment;
        set(&store, &deployment, Some(block_until(&store, None).await)).await;
        assert_eq!(sign_in(&store, &bob).await, Outcome::Conflict);
        // What was refused has left nothing, and everything is told in its order.
        let (set, lifted) = (EventKind::BlockSet, EventKind::BlockLifted);
        let events = store.log_since(Some(&cursor), Entries::All, 100).await.unwrap().events;
        let told: Vec<_> = events.iter().map(|event| event.kind).collect();
        let begun = EventKind::Created;
        let place = [set, begun, set, begun, set, lifted, begun];
        assert_eq!(told, [&place[..], &place[..], &[set]].concat());
        assert_eq!(store.audit().await.unwrap(), [""; 0]);
    }
}

/// Sign-ins on two nodes beside a block: once it is set, what then ends the sessions finds them
/// all.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_beside_sign_ins_leaves_no_session() {
    let _alone = ALONE.read().await;
    for transactions in BOTH {
        let fresh = Fresh::new(transactions);
        for round in 0..5 {
            let store = fresh.store().await;
            let tenant = format!("tenant-{round}");
            let owners: Vec<_> = (0..4).map(|n| user_in(&tenant, &format!("user-{n}"))).collect();
            let begun = Arc::new(AtomicBool::new(false));
            let mut nodes = Vec::new();
            for owner in &owners {
                let (store, owner, begun) = (fresh.store().await, owner.clone(), begun.clone());
                nodes.push(tokio::spawn(async move {
                    while sign_in(&store, &owner).await == Outcome::Done {
                        begun.store(true, Ordering::Relaxed);
                    }
                }));
            }
            while !begun.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
            let scope = PolicyScope::Tenant(TenantId::new(&tenant).unwrap());
            set(&store, &scope, Some(block_until(&store, None).await)).await;
            for owner in &owners {
                end_all(&store, end(&store, Selection::user(owner.clone())).await, 500).await;
            }
            for node in nodes {
                node.await.unwrap();
            }
            for owner in &owners {
                assert_eq!(store.user(owner).await.unwrap().sessions, [], "{owner:?}");
            }
        }
        assert_eq!(fresh.store().await.audit().await.unwrap(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_get_one_fleet_key() {
    let _alone = ALONE.read().await;
    let fresh = Fresh::new(Transactions::WhereThereAre);
    let mut nodes = Vec::new();
    for n in 0..4 {
        let store = fresh.store().await;
        let proposed = FleetKey::from_bytes([n; 32]);
        nodes.push(tokio::spawn(async move { store.fleet_key(&proposed).await.unwrap() }));
    }
    let mut keys = Vec::new();
    for node in nodes {
        keys.push(*node.await.unwrap().as_bytes());
    }
    assert!(keys.iter().all(|key| *key == keys[0] && key[0] < 4), "{keys:?}");
    let late = fresh.store().await.fleet_key(&FleetKey::from_bytes([9; 32])).await.unwrap();
    assert_eq!(*late.as_bytes(), keys[0]);
}
