//! The end of a server.

use std::time::Duration;

use session_kit::core::Store;
use session_kit::engine::clock::Clock;

use crate::app::{App, Ground, eventually};

/// Open streams end without a word: their sessions go on.
pub(crate) async fn shutdown_ends_streams_and_writes_back(on: Ground) {
    let mut app = App::start(on).await;
    let (alice, root) = (app.browser("alice").await, app.browser("root").await);
    let id = alice.session_id().await;
    let mut mine = alice.ask("GET", "/sessions/me/events").open().await;
    let mut all = root.ask("GET", "/sessions/admin/events").open().await;
    mine.until(": open").await;
    all.until(": open").await;
    let store = app.probe.clone();
    let stored = async || store.load(id.parse().unwrap()).await.unwrap().unwrap().session;
    eventually("the first use is written", async || stored().await.claimed).await;
    app.advance(Duration::from_secs(5)).await;
    let now = app.clock.now();
    assert_eq!(alice.whoami().await, 200);
    assert!(stored().await.last_accessed < now, "nothing is due yet");
    let took = app.stop().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    for stream in [mine, all] {
        let seen = stream.finish().await;
        assert!(!seen.contains("event: ended"), "{seen}");
    }
    assert!(stored().await.last_accessed >= now);
}
