//! Event streams, on simulated time.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Uri};
use session_core::{UserId, UserKey};
use session_engine::SignIn;
use session_engine::clock::TokioClock;
use session_http::{
    Config, Content, Credential, Head, Hooks, HttpSessions, Identity, RequestSession,
};

async fn sign_in(http: &HttpSessions, user: &str) -> session_engine::CurrentSession {
    let owner = UserKey::new(UserId::new(user).unwrap());
    http.manager().sign_in(SignIn::new(owner)).await.unwrap().session
}

/// Events that do not concern the stream come more often than heartbeats.
#[tokio::test(start_paused = true)]
async fn a_quiet_stream_has_heartbeats_while_others_are_busy() {
    let start = session_core::Timestamp::from_micros(1_780_000_000_000_000);
    let hooks = Hooks::default().with_clock(TokioClock::starting_at(start));
    let store = std::sync::Arc::new(session_store_memory::MemoryStore::new());
    let http = HttpSessions::start_with(store, Config::default(), hooks).await.unwrap();
    let session = Identity::Session(sign_in(&http, "alice").await, Credential::Cookie);
    let request = RequestSession::new(http.clone(), session, None);
    let (uri, headers) = (Uri::from_static("/sessions/me/events"), HeaderMap::new());
    let head = Head::new(&Method::GET, &uri, &headers);
    let none = stream::empty::<Result<Bytes, std::io::Error>>();
    let response = request.serve(head, "/me/events", none).await;
    let Content::Stream(mut events) = response.into_body().into_content() else {
        panic!("no stream");
    };
    let busy = tokio::spawn(async move {
        loop {
            sign_in(&http, "bob").await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    });
    let opening = events.next().await.unwrap().unwrap();
    assert!(opening.ends_with(b": open\n\n"));
    let begun = tokio::time::Instant::now();
    // What was still under way when the stream opened concerns alice herself.
    while events.next().await.unwrap().unwrap() != ":\n\n" {}
    assert!(begun.elapsed() < Duration::from_secs(31), "{:?}", begun.elapsed());
    busy.abort();
}
