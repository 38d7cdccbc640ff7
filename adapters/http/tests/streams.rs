//! Event streams, on simulated time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Uri};
use session_core::policy::{Policy, PolicyScope};
use session_core::{Actor, UserId, UserKey};
use session_engine::SignIn;
use session_engine::clock::{Clock, TokioClock};
use session_http::{
    AdminAccess, BodyStream, Caller, Config, Content, Credential, Head, Hooks, HttpOptions,
    HttpSessions, Identity, RequestSession,
};
use tokio::time::Instant;

async fn sign_in(http: &HttpSessions, user: &str) -> session_engine::ActiveSession {
    let owner = UserKey::new(UserId::new(user).unwrap());
    http.manager().sign_in(SignIn::new(owner)).await.unwrap().session
}

async fn start(config: Config, hooks: Hooks) -> HttpSessions {
    let start = session_core::Timestamp::from_micros(1_780_000_000_000_000);
    let clock = TokioClock::starting_at(start);
    let hooks = hooks.with_clock(clock);
    let now = move || clock.now();
    let store = std::sync::Arc::new(session_store_memory::MemoryStore::with_clock(now));
    HttpSessions::start_with(store, config, hooks).await.unwrap()
}

async fn open(http: &HttpSessions, identity: Identity, path: &str) -> BodyStream {
    let request = RequestSession::new(http.clone(), identity, None);
    let uri: Uri = format!("/sessions{path}").parse().unwrap();
    let headers = HeaderMap::new();
    let head = Head::new(&Method::GET, &uri, &headers);
    let none = stream::empty::<Result<Bytes, std::io::Error>>();
    let response = request.serve(head, path, none).await;
    assert_eq!(response.status(), 200);
    let Content::Stream(mut events) = response.into_body().into_content() else {
        panic!("no stream");
    };
    let opening = events.next().await.unwrap().unwrap();
    assert!(opening.ends_with(b": open\n\n"));
    events
}

/// A guard that looks at something else than the session: nobody tells of its change of mind.
#[tokio::test(start_paused = true)]
async fn an_admins_stream_ends_soon_after_the_guard_has_changed_its_mind() {
    let allowed = Arc::new(AtomicBool::new(true));
    let guard = {
        let allowed = Arc::clone(&allowed);
        move |_: Caller<'_>| match allowed.load(Ordering::Relaxed) {
            true => AdminAccess::Deployment,
            false => AdminAccess::Denied,
        }
    };
    let http = start(Config::default(), Hooks::default().with_guard(guard)).await;
    let mut events = open(&http, Identity::Anonymous, "/admin/events").await;
    let begun = Instant::now();
    assert_eq!(events.next().await.unwrap().unwrap(), ":\n\n", "a heartbeat: it goes on");
    allowed.store(false, Ordering::Relaxed);
    let changed = Instant::now();
    assert!(events.next().await.is_none());
    assert!(changed.elapsed() <= Duration::from_secs(5), "{:?}", changed.elapsed());
    assert!(begun.elapsed() >= Duration::from_secs(15));
    http.shutdown().await;
}

/// What concerns the whole deployment is not told to who administers the users outside all tenants.
#[tokio::test(start_paused = true)]
async fn an_admin_of_no_tenant_hears_of_no_deployment() {
    let guard = |_: Caller<'_>| AdminAccess::Tenant(None);
    let http = start(Config::default(), Hooks::default().with_guard(guard)).await;
    let mut events = open(&http, Identity::Anonymous, "/admin/events").await;
    let alice = PolicyScope::User(UserKey::new(UserId::new("alice").unwrap()));
    for scope in [PolicyScope::Deployment, alice] {
        let policy = Some(Policy::default());
        http.manager().set_policy(scope, policy, Actor::Application).await.unwrap();
    }
    let event = String::from_utf8(events.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(event.contains("policy_changed") && event.contains("alice"), "{event}");
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_a_lifetime() {
    let lifetime = Duration::from_secs(100);
    let options = HttpOptions::default().with_stream_lifetime(lifetime);
    let http = start(Config::default().with_http(options), Hooks::default()).await;
    let session = Identity::Session(sign_in(&http, "alice").await, Credential::Cookie);
    let begun = Instant::now();
    let mut events = open(&http, session, "/me/events").await;
    while let Some(event) = events.next().await {
        let event = event.unwrap();
        assert!(!event.starts_with(b"event: ended"), "the session goes on");
    }
    assert_eq!(begun.elapsed(), lifetime);
    http.shutdown().await;
}

/// Events that do not concern the stream come more often than heartbeats.
#[tokio::test(start_paused = true)]
async fn a_quiet_stream_has_heartbeats_while_others_are_busy() {
    let http = start(Config::default(), Hooks::default()).await;
    let session = Identity::Session(sign_in(&http, "alice").await, Credential::Cookie);
    let mut events = open(&http, session, "/me/events").await;
    let busy = tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_secs(2));
        loop {
            every.tick().await;
            sign_in(&http, "bob").await;
        }
    });
    let begun = Instant::now();
    // What was still under way when the stream opened concerns alice herself.
    while events.next().await.unwrap().unwrap() != ":\n\n" {}
    assert!(begun.elapsed() < Duration::from_secs(31), "{:?}", begun.elapsed());
    busy.abort();
}
