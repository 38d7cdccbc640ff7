//! Claims stay fresh (G15).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use session_core::{Actor, Session};
use session_engine::{
    Access, ClaimsProvider, Engine, Error, Options, Parts, SignedIn, Verdict, async_trait,
};

use crate::probe::{Probe, clock, sign_in, store, user};

/// Roles that change; zero stands for a directory that is down.
#[derive(Clone)]
struct Roles(Arc<AtomicU64>);

#[async_trait]
impl ClaimsProvider for Roles {
    async fn claims(
        &self,
        session: &Session,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        match self.0.load(Ordering::SeqCst) {
            0 => Err("the directory is down".into()),
            role => Ok(json!({ "user": session.owner.user.as_str(), "role": role })),
        }
    }
}

async fn role(node: &Engine, signed_in: &SignedIn) -> Result<u64, Error> {
    let token = signed_in.token.expose();
    match node.sessions().validate(token.as_bytes(), Access::default()).await? {
        Verdict::Active(session) => Ok(session.claims()["role"].as_u64().unwrap()),
        verdict @ Verdict::Refused(_) => panic!("{verdict:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_node_asks_again_within_the_bound() {
    let roles = Roles(Arc::new(AtomicU64::new(1)));
    let store = store();
    let parts = Parts::default().with_clock(clock()).with_claims(roles.clone());
    let start = || Engine::start_with(Arc::new(store.clone()), Options::default(), parts.clone());
    let (here, there) = (start().await.unwrap(), start().await.unwrap());
    let alice = sign_in(&here, "alice").await;
    let bob = sign_in(&here, "bob").await;
    for node in [&here, &there] {
        assert_eq!(role(node, &alice).await.unwrap(), 1);
        assert_eq!(role(node, &bob).await.unwrap(), 1);
    }
    roles.0.store(2, Ordering::SeqCst);
    assert_eq!(role(&here, &alice).await.unwrap(), 1, "cached until somebody says so");
    here.sessions().claims_changed(&user("alice"), Actor::Application).await.unwrap();
    assert_eq!(role(&here, &alice).await.unwrap(), 2, "the node itself at once");
    tokio::time::sleep(Options::default().propagation_bound).await;
    assert_eq!(role(&there, &alice).await.unwrap(), 2);
    assert_eq!(role(&there, &bob).await.unwrap(), 1, "nobody else is asked for");
    roles.0.store(0, Ordering::SeqCst);
    there.sessions().claims_changed(&user("bob"), Actor::Application).await.unwrap();
    let error = role(&there, &bob).await.unwrap_err();
    assert!(matches!(error, Error::Claims(_)) && error.is_unavailable());
    roles.0.store(3, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(role(&there, &bob).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_claims_whose_answer_is_lost_holds_on_its_node_at_once() {
    let roles = Roles(Arc::new(AtomicU64::new(1)));
    let probe = Probe::over(store());
    let parts = Parts::default().with_clock(clock()).with_claims(roles.clone());
    let node = Engine::start_with(Arc::new(probe.clone()), Options::default(), parts);
    let node = node.await.unwrap();
    let alice = sign_in(&node, "alice").await;
    assert_eq!(role(&node, &alice).await.unwrap(), 1);
    roles.0.store(2, Ordering::SeqCst);
    probe.lose_answers_of("commit", true);
    let changed = node.sessions().claims_changed(&user("alice"), Actor::Application).await;
    assert!(changed.unwrap_err().is_unavailable());
    probe.lose_answers_of("commit", false);
    assert_eq!(role(&node, &alice).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_closure_supplies_claims() {
    let parts = Parts::default().with_claims(|session: Session| async move {
        match session.owner.user.as_str() {
            "mallory" => Err("unknown to the directory"),
            name => Ok(json!({ "name": name })),
        }
    });
    let store = Arc::new(store());
    let node = Engine::start_with(store, Options::default(), parts).await.unwrap();
    #[derive(serde::Deserialize)]
    struct Claims {
        name: String,
    }
    let alice = sign_in(&node, "alice").await.session;
    assert_eq!(alice.claims_as::<Claims>().unwrap().name, "alice");
    assert!(alice.claims_as::<u64>().is_err());
    let mallory = sign_in(&node, "mallory").await;
    let error = role(&node, &mallory).await.unwrap_err();
    assert!(matches!(error, Error::Claims(_)));
}

/// A provider that is slow for some takes nobody else's place among the reads.
#[tokio::test(start_paused = true)]
async fn a_slow_provider_keeps_no_other_session_from_being_read() {
    let store = store();
    let parts = Parts::default().with_clock(clock()).with_claims(|session: Session| async move {
        if session.owner.user.as_str() == "alice" {
            tokio::time::sleep(Duration::from_millis(1_900)).await;
        }
        Ok::<_, std::io::Error>(json!({ "role": 1 }))
    });
    let options = Options::default().with_max_loads(1);
    let start = || Engine::start_with(Arc::new(store.clone()), options.clone(), parts.clone());
    let (here, there) = (start().await.unwrap(), start().await.unwrap());
    let (alice, bob) = (sign_in(&here, "alice").await, sign_in(&here, "bob").await);
    let begun = tokio::time::Instant::now();
    let slow = async {
        assert_eq!(role(&there, &alice).await.unwrap(), 1);
        begun.elapsed()
    };
    let quick = async {
        assert_eq!(role(&there, &bob).await.unwrap(), 1);
        begun.elapsed()
    };
    let (slow, quick) = tokio::join!(slow, quick);
    assert!(slow >= Duration::from_millis(1_900), "{slow:?}");
    assert!(quick < Duration::from_millis(100), "{quick:?}");
}
