//! Changes that wait for replicas, on a server and a replica of the test's own: the replica dies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_conformance::sample::{PATIENCE, insert, now, options, session, user};
use session_core::policy::PolicyScope;
use session_core::store::{BlockChange, Entries, PolicyChange};
use session_core::{Actor, Store, StoreErrorKind, UserKey};
use session_engine::{Engine, RotateReason, SessionManager, SignIn, SignedIn};
use session_store_redis::{RedisOptions, RedisStore, Replicas};

use crate::namespace::{ALONE, Prefix};
use crate::server::{Server, program};

/// Its calls wait for one replica; so does the connecting, because what all nodes agree on is a
/// change.
async fn store(master: &Server) -> RedisStore {
    let replicas = Replicas { count: 1, within: Duration::from_millis(200) };
    master.store(&RedisOptions::default().with_replicas(replicas)).await
}

async fn sign_in(sessions: &SessionManager, owner: UserKey) -> SignedIn {
    sessions.sign_in(SignIn::new(owner)).await.unwrap()
}

/// A change is not acknowledged while its replica is away, neither by the try that made it nor by
/// one that finds it made.
#[tokio::test]
async fn a_second_try_waits_for_the_replicas_that_the_first_had_to_wait_for() {
    let program = program().await;
    let master = Server::start(&program, None);
    let mut replica = Server::start(&program, Some(master.port));
    let spare = store(&master).await;
    let engine = Engine::start(store(&master).await, options()).await.unwrap();
    let sessions = engine.sessions();
    let revoked = sign_in(sessions, user("alice")).await.session;
    let rotated = sign_in(sessions, user("bob")).await.token;
    let beside = session(&spare, &user("carol"), now(&spare).await);
    insert(&spare, &beside).await;
    replica.die();

    let is_away = |error: session_engine::Error| assert!(error.is_unavailable(), "{error:?}");
    for _ in 0..2 {
        is_away(sessions.revoke_user(user("alice"), Actor::Application).await.unwrap_err());
        let by_id = sessions.revoke(revoked.id(), &user("alice"), Actor::Application).await;
        is_away(by_id.unwrap_err());
        // The engine tries more than once: it looks whether its session or its token is there.
        is_away(sessions.sign_in(SignIn::new(user("dora"))).await.unwrap_err());
        let token = rotated.expose();
        let answer = sessions.rotate(token.as_bytes(), RotateReason::Renewal).await;
        is_away(answer.unwrap_err());
        let (at, by) = (beside.signed_in, Actor::Application);
        let change = PolicyChange { scope: PolicyScope::Deployment, policy: None, at, by };
        let error = spare.set_policy(&change).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        let change = BlockChange { scope: change.scope, block: None, at, by: change.by };
        let error = spare.set_block(&change).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    }
    assert!(spare.load(beside.id).await.unwrap().is_some(), "what is not in doubt can be read");
    let problems = spare.report().await.unwrap().problems;
    assert!(problems.iter().any(|problem| problem.contains("replicas")), "{problems:?}");

    let _replica = Server::start(&program, Some(master.port));
    let begun = Instant::now();
    while let Err(error) = sessions.revoke_user(user("alice"), Actor::Application).await {
        assert!(begun.elapsed() < PATIENCE, "the replica is back: {error:?}");
        tokio::task::yield_now().await;
    }
    assert!(spare.load(revoked.id()).await.unwrap().is_none());
    engine.shutdown().await;
}

/// A change that waits for its replica keeps nothing else waiting: the log is followed, and other
/// users' sessions are read.
#[tokio::test]
async fn nothing_waits_behind_a_change_that_waits_for_replicas() {
    let program = program().await;
    let master = Server::start(&program, None);
    let mut replica = Server::start(&program, Some(master.port));
    let replicas = Replicas { count: 1, within: PATIENCE };
    let store = master.store(&RedisOptions::default().with_replicas(replicas)).await;
    let (store, other) = (Arc::new(store), master.store(&RedisOptions::default()).await);
    let at = now(&other).await;
    let [known, waiting] = ["bob", "alice"].map(|name| session(&other, &user(name), at));
    insert(&other, &known).await;
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    replica.die();
    let change = tokio::spawn({
        let (store, waiting) = (Arc::clone(&store), waiting.clone());
        async move { insert(&*store, &waiting).await }
    });
    let begun = Instant::now();
    while other.load(waiting.id).await.unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "the change is made before it is waited for");
        tokio::task::yield_now().await;
    }
    let told = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap();
    assert_eq!(told.events.len(), 1);
    assert!(store.load(known.id).await.unwrap().is_some());
    assert!(!change.is_finished(), "its replica is away");
    change.abort();
}

/// The replicas of a cluster get what is changed, announced, and found changed already.
#[tokio::test]
async fn changes_on_a_cluster_wait_for_its_replicas() {
    let _shared = ALONE.read().await;
    let mut prefix = Prefix::new(true);
    prefix.options.replicas = Some(Replicas { count: 1, within: PATIENCE });
    let engine = Engine::start(prefix.store().await, options()).await.unwrap();
    let sessions = engine.sessions();
    for n in 0..8 {
        let owner = user(&format!("user {n}"));
        let token = sign_in(sessions, owner.clone()).await.token;
        let token = token.expose();
        sessions.rotate(token.as_bytes(), RotateReason::Renewal).await.unwrap();
        for ended in [1, 0] {
            let count = sessions.revoke_user(owner.clone(), Actor::Application).await.unwrap();
            assert_eq!(count, ended);
        }
    }
    sessions.set_policy(PolicyScope::Deployment, None, Actor::Application).await.unwrap();
    engine.shutdown().await;
}
