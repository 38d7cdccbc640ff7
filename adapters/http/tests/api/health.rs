//! Whether requests should come to the node.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use session_conformance::Probe;
use session_core::Timestamp;
use session_engine::clock::{Clock, TokioClock};
use session_http::{Config, Hooks, HttpSessions};
use session_store_memory::MemoryStore;

use crate::node::Client;

async fn start() -> (HttpSessions, Probe) {
    let clock = TokioClock::starting_at(Timestamp::from_micros(1_780_000_000_000_000));
    let probe = Probe::over(MemoryStore::with_clock(move || clock.now()));
    probe.complain("the index sessions_by_user is missing on db.internal");
    let hooks = Hooks::default().with_clock(clock);
    let store = Arc::new(probe.clone());
    (HttpSessions::start_with(store, Config::default(), hooks).await.unwrap(), probe)
}

#[tokio::test(start_paused = true)]
async fn a_stranger_learns_whether_the_node_is_ready_and_no_secret() {
    let (http, probe) = start().await;
    Client::signed_in(&http, "alice").await;
    let stranger = Client::browser(&http);
    let calls = probe.total();
    let answer = stranger.get("/health").await;
    assert_eq!(probe.total(), calls, "it costs no call of the store");
    assert_eq!(answer.headers[CONTENT_TYPE], "application/json");
    let health = answer.ok();
    assert_eq!(health["ready"], true);
    assert_eq!(health["store_answers"], true);
    assert_eq!(health["store"]["problems"], 1);
    assert_eq!(health["cleanup"]["lease"], "unknown");
    assert_eq!(
        health["workers"].as_array().unwrap().iter().filter(|w| w["failing"] == true).count(),
        1
    );
    let text = health.to_string();
    assert!(!text.contains("index") && !text.contains("internal"), "{text}");
    assert!(!text.contains("cached"), "how many users there are is not told: {text}");
    assert_eq!(stranger.ask("HEAD", "/health", "").await.status, 200);
    assert_eq!(stranger.get("/health?verbose=1").await.status, 400);
    assert_eq!(stranger.ask("POST", "/health", "").await.status, 405);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_or_stops_is_not_ready() {
    let (http, probe) = start().await;
    let stranger = Client::browser(&http);
    probe.away(true);
    tokio::time::sleep(Duration::from_secs(35)).await;
    let answer = stranger.get("/health").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers[RETRY_AFTER], "1");
    assert_eq!(answer.headers[CONTENT_TYPE], "application/json");
    assert_eq!(answer.json["ready"], false);
    assert_eq!(answer.json["store_answers"], false);
    assert!(answer.json["log_lag_seconds"].as_f64().unwrap() > 30.0);
    probe.away(false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    stranger.get("/health").await.ok();
    http.manager().stop_streams();
    let answer = stranger.get("/health").await;
    assert_eq!((answer.status, &answer.json["stopping"]), (503, &true.into()));
}
