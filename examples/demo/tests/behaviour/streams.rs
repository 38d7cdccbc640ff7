//! Streams of events.

use http::StatusCode;

use crate::app::{App, Ground, eventually};
use crate::client::Client;

const MINE: &str = "/sessions/me/events";

pub(crate) async fn an_event_stream_ends_with_its_session(on: Ground) {
    let app = App::start(on).await;
    let (here, there) = (app.browser("alice").await, app.browser("alice").await);
    let mut stream = here.ask("GET", MINE).open().await;
    stream.until(": open").await;
    let bob = app.browser("bob").await;
    let revoke = format!("/sessions/me/{}", here.session_id().await);
    assert_eq!(there.delete(&revoke).await.status, 204);
    let seen = stream.finish().await;
    assert!(seen.ends_with("event: ended\ndata: {\"cause\":\"revoked\"}\n\n"), "{seen}");
    assert!(!seen.contains(&bob.session_id().await), "nobody else's events");
}

pub(crate) async fn events_arrive_as_they_happen(on: Ground) {
    let app = App::start(on).await;
    let alice = app.browser("alice").await;
    let mut stream = alice.ask("GET", MINE).open().await;
    assert_eq!(stream.status, 200);
    let header = |name: &str| stream.headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(header("content-type"), Some("text/event-stream"));
    assert_eq!(header("cache-control"), Some("no-store"));
    assert_eq!(header("x-accel-buffering"), Some("no"));
    assert_eq!(header("content-encoding"), None);
    assert_eq!(stream.until("\n\n").await, "retry: 1000\n: open\n\n");
    let other = app.browser("alice").await;
    let id = other.session_id().await;
    let seen = stream.until(&id).await;
    assert!(seen.contains("event: created\n"), "{seen}");
    other.send("POST", "/logout", "").await;
    stream.until("event: signed_out\n").await;
}

pub(crate) async fn open_streams_have_a_ceiling(on: Ground) {
    let app = App::with(on, |config| {
        config.http.max_streams_per_session = 2;
        config.http.max_streams = 3;
    })
    .await;
    let (alice, root) = (app.browser("alice").await, app.browser("root").await);
    let open = async |browser: &Client, path: &str| {
        let mut stream = browser.ask("GET", path).open().await;
        if stream.status == 200 {
            stream.until(": open").await;
        }
        stream
    };
    let first = open(&alice, MINE).await;
    let second = open(&alice, MINE).await;
    let answer = alice.get(MINE).await;
    assert_eq!(answer.problem(429)["limit"], 2);
    assert_eq!(answer.header("retry-after"), Some("1"));
    // A HEAD is answered without a stream.
    assert_eq!(root.send("HEAD", MINE, "").await.status, 200);
    let third = open(&root, "/sessions/admin/events").await;
    assert_eq!([first.status, second.status, third.status], [StatusCode::OK; 3]);
    assert_eq!(root.get(MINE).await.problem(429)["limit"], 3);
    drop((first, third));
    for browser in [&alice, &root] {
        eventually("there is room again", async || open(browser, MINE).await.status == 200).await;
    }
}

/// Another's sign-out, an admin's revocation and an eviction are told with their causes.
pub(crate) async fn a_stream_tells_why_its_session_ended(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let policy = r#"{"prevent_concurrent_login":"LogoutFromAllDevices"}"#;
    let path = "/sessions/admin/policy?user=alice";
    assert_eq!(root.send("PUT", path, policy).await.status, 200);
    let alice = app.browser("alice").await;
    let mut stream = alice.ask("GET", MINE).open().await;
    stream.until(": open").await;
    app.browser("alice").await;
    let seen = stream.finish().await;
    assert!(seen.ends_with("event: ended\ndata: {\"cause\":\"evicted\"}\n\n"), "{seen}");
    alice.get("/whoami").await.problem(401);
}
