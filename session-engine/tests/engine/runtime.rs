//! Callers on another runtime than the engine's, and workers that panic.

use std::time::Duration;

use session_core::{UserId, UserKey};
use session_engine::{Access, Engine, Options, SignIn, Verdict};
use session_store_memory::MemoryStore;

use crate::probe::{Probe, engine, store};

/// A caller's runtime has no timer here: what the engine does for it must not be on that runtime.
#[test]
fn a_call_from_another_runtime_is_made_on_the_engines() {
    let engines =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let engine = engines.block_on(Engine::start(MemoryStore::new(), Options::default())).unwrap();
    let sessions = engine.sessions().clone();
    let callers = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let token = callers.block_on(async {
        let alice = UserKey::new(UserId::new("alice").unwrap());
        let signed_in = sessions.sign_in(SignIn::new(alice)).await.unwrap();
        let query = sessions.query(session_core::store::TenantFilter::Any);
        assert_eq!(sessions.list(&query).await.unwrap().sessions.len(), 1);
        signed_in.token
    });
    drop(callers);
    engines.block_on(async {
        let verdict = sessions.validate(token.expose().as_bytes(), Access::default()).await;
        assert!(matches!(verdict, Ok(Verdict::Active(_))));
        engine.shutdown().await;
    });
}

/// A worker whose every call panics keeps no node from stopping.
#[tokio::test(start_paused = true)]
async fn a_node_stops_although_a_worker_panics_again_and_again() {
    let probe = Probe::over(store());
    let node = engine(probe.clone(), Options::default()).await;
    let panics = tokio::spawn(async move {
        loop {
            probe.panic_once("log_since");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(node.health().workers["follower"].restarts > 10);
    tokio::time::timeout(Duration::from_secs(60), node.shutdown()).await.expect("it stops");
    panics.abort();
}
