//! Two nodes on one store, disturbed on demand, and what the tests ask of them.

use std::sync::Arc;

pub(crate) use session_conformance::Probe;
use session_core::store::Selection;
use session_core::{Actor, Store, Timestamp, UserId, UserKey};
use session_engine::clock::{Clock, TokioClock};
use session_engine::{Access, Engine, Notice, Options, Parts, Refusal, SignIn, SignedIn, Verdict};
use session_store_memory::MemoryStore;

/// Mid-2026 on tokio's clock.
pub(crate) fn clock() -> TokioClock {
    let start = Timestamp::from_micros(1_780_000_000_000_000);
    TokioClock::starting_at(start)
}

/// An empty store on tokio's clock.
pub(crate) fn store() -> MemoryStore {
    let clock = clock();
    MemoryStore::with_clock(move || clock.now())
}

pub(crate) async fn engine(store: impl Store, options: Options) -> Engine {
    engine_with(store, options, clock()).await
}

pub(crate) async fn engine_with(store: impl Store, options: Options, clock: TokioClock) -> Engine {
    let parts = Parts::default().with_clock(clock);
    Engine::start_with(Arc::new(store), options, parts).await.unwrap()
}

/// Two nodes on one store and one clock, each behind a probe of its own.
pub(crate) struct Fleet {
    pub(crate) store: MemoryStore,
    pub(crate) probes: [Probe; 2],
    pub(crate) nodes: [Engine; 2],
}

impl Fleet {
    pub(crate) async fn start(options: Options) -> Self {
        let store = store();
        let probes = [Probe::over(store.clone()), Probe::over(store.clone())];
        let clock = clock();
        let nodes = [
            engine_with(probes[0].clone(), options.clone(), clock).await,
            engine_with(probes[1].clone(), options, clock).await,
        ];
        Self { store, probes, nodes }
    }
}

pub(crate) fn user(name: &str) -> UserKey {
    UserKey::new(UserId::new(name).unwrap())
}

pub(crate) async fn sign_in(node: &Engine, name: &str) -> SignedIn {
    node.sessions().sign_in(SignIn::new(user(name))).await.unwrap()
}

pub(crate) async fn verdict(node: &Engine, signed_in: &SignedIn) -> Verdict {
    let token = signed_in.token.expose();
    node.sessions().validate(token.as_bytes(), Access::default()).await.unwrap()
}

pub(crate) async fn is_active(node: &Engine, signed_in: &SignedIn) -> bool {
    matches!(verdict(node, signed_in).await, Verdict::Active(_))
}

pub(crate) async fn refusal(node: &Engine, signed_in: &SignedIn) -> Refusal {
    match verdict(node, signed_in).await {
        Verdict::Refused(refusal) => refusal,
        Verdict::Active(session) => panic!("{session:?} is active"),
    }
}

pub(crate) async fn revoke(node: &Engine, signed_in: &SignedIn) {
    let selection = Selection::user(signed_in.session.owner().clone());
    assert!(node.sessions().revoke_selected(selection, Actor::Application).await.unwrap() > 0);
}

/// Waits until the node has told of an event of this kind.
pub(crate) async fn told(events: &mut session_engine::Events, kind: &str) -> Notice {
    loop {
        let notice = events.next().await.expect("the engine runs");
        let matches = match &notice {
            Notice::Event(event) => event.kind.as_str() == kind,
            _ => kind == "missed",
        };
        if matches {
            return notice;
        }
    }
}
