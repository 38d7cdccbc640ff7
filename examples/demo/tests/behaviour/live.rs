//! Connections that outlive their request and end with their session.

use std::time::Duration;

use session_kit::core::usage::Timeouts;

use crate::app::{App, Ground, eventually};
use crate::socket::Socket;

const SOCKET: &str = "/live/socket";
const FEED: &str = "/live/feed";

/// Whichever node ends it, and however.
pub(crate) async fn a_socket_ends_with_its_session(on: Ground) {
    let here = App::start(on).await;
    let there = here.beside(|_| {}).await;
    let other = here.browser("alice").await;
    for cause in ["revoked", "signed_out"] {
        let mut alice = here.browser("alice").await;
        let mut socket = Socket::open(&alice.at(there.address), SOCKET).await;
        socket.next().await.expect("the time");
        if cause == "revoked" {
            let revoke = format!("/sessions/me/{}", alice.session_id().await);
            assert_eq!(other.delete(&revoke).await.status, 204);
        } else {
            alice.post("/logout", "").await;
        }
        let closed = within(BOUND, socket.closed()).await;
        assert_eq!(closed, (4001, cause.to_owned()));
    }
    let mut socket = Socket::open(&other.at(there.address), SOCKET).await;
    socket.tell("hello", "heard").await;
}

/// A body that the application streams.
pub(crate) async fn a_body_ends_with_its_session(on: Ground) {
    let here = App::start(on).await;
    let there = here.beside(|_| {}).await;
    let mut alice = here.browser("alice").await;
    let mut body = alice.at(there.address).ask("GET", FEED).open().await;
    assert_eq!(body.status, 200);
    body.until("Z\n").await;
    alice.post("/logout", "").await;
    let seen = within(BOUND, body.finish()).await;
    assert!(seen.ends_with("Z\nsigned_out\n"), "{seen}");
    alice.get(FEED).await.problem(401);
}

/// A node that is cut off for longer than it may trust its cache says that it cannot tell.
pub(crate) async fn a_node_that_cannot_tell_closes_its_sockets(on: Ground) {
    let here = App::start(on).await;
    let staleness = Duration::from_secs(1);
    let there = here
        .beside(|config| {
            config.engine.propagation_bound = staleness / 2;
            config.engine.max_staleness = staleness;
        })
        .await;
    let alice = here.browser("alice").await;
    let away = alice.at(there.address);
    let (mut near, mut far) =
        (Socket::open(&alice, SOCKET).await, Socket::open(&away, SOCKET).await);
    far.next().await.expect("the time");
    let mut body = away.ask("GET", FEED).open().await;
    body.until("Z\n").await;
    let mut events = away.ask("GET", "/sessions/me/events").open().await;
    events.until(": open").await;
    there.probe.away(true);
    let ends = async { tokio::join!(far.closed(), body.finish(), events.finish()) };
    let (closed, body, events) = within(staleness, ends).await;
    assert_eq!(closed, (4002, "unknown".to_owned()));
    assert!(body.ends_with("Z\nunknown\n"), "{body}");
    // A browser opens the stream again by itself.
    assert!(!events.contains("event: ended"), "the session goes on: {events}");
    near.tell("hello", "heard").await;
    there.probe.away(false);
    let again = async || Socket::try_open(&alice.at(there.address), SOCKET, &OWN).await.is_ok();
    eventually("it can tell again", again).await;
}

/// Servers do not wait for connections that have been upgraded; the node does.
pub(crate) async fn a_node_that_stops_closes_its_sockets(on: Ground) {
    let mut app = App::start(on).await;
    let alice = app.browser("alice").await;
    let mut socket = Socket::open(&alice, SOCKET).await;
    socket.next().await.expect("the time");
    let body = alice.ask("GET", FEED).open().await;
    let (took, closed) = tokio::join!(app.stop(), socket.closed());
    assert_eq!(closed, (1001, "going away".to_owned()));
    assert!(body.finish().await.ends_with("going away\n"));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// No CORS protects the handshake of a WebSocket.
pub(crate) async fn a_socket_needs_a_session_and_a_proof_of_origin(on: Ground) {
    let app = App::with(on, |config| {
        config.http.allowed_origins = vec!["https://shop.example.com".parse().unwrap()];
    })
    .await;
    let alice = app.browser("alice").await;
    let refused =
        async |headers: &[(&str, &str)]| match Socket::try_open(&alice, SOCKET, headers).await {
            Ok(_) => panic!("{headers:?} opened a socket"),
            Err(answer) => answer.problem(403)["type"].as_str().unwrap().to_owned(),
        };
    for headers in [
        &[("origin", "https://evil.example")][..],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
        &[("sec-fetch-site", "same-site")],
        &[("upgrade", "WebSocket"), ("origin", "https://evil.example")],
        &[],
    ] {
        assert_eq!(refused(headers).await, "urn:session-kit:cross-origin", "{headers:?}");
    }
    for headers in [OWN, [("origin", "https://shop.example.com")]] {
        assert!(Socket::try_open(&alice, SOCKET, &headers).await.is_ok(), "{headers:?}");
    }
    let answer = Socket::try_open(&app.stranger(), SOCKET, &OWN).await.err();
    answer.expect("nobody is signed in").problem(401);
    // No page of another origin can make a browser send a token of an app's.
    let ask = app.stranger();
    let ask = ask.ask("POST", "/token").json(r#"{"user":"bob","password":"bob"}"#);
    let token = ask.send().await.json()["token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let app_socket =
        Socket::try_open(&app.stranger(), SOCKET, &[("authorization", bearer.as_str())]).await;
    assert!(app_socket.is_ok());
}

/// WebSockets and bodies count as the event streams do.
pub(crate) async fn open_sockets_have_a_ceiling(on: Ground) {
    let app = App::with(on, |config| config.http.max_streams_per_session = 3).await;
    let alice = app.browser("alice").await;
    let mut events = alice.ask("GET", "/sessions/me/events").open().await;
    events.until(": open").await;
    let mut socket = Socket::open(&alice, SOCKET).await;
    let mut body = alice.ask("GET", FEED).open().await;
    body.until("Z\n").await;
    let answer = Socket::try_open(&alice, SOCKET, &OWN).await.err().expect("one too many");
    assert_eq!(answer.problem(429)["limit"], 3);
    assert_eq!(answer.header("retry-after"), Some("1"));
    for path in [FEED, "/sessions/me/events"] {
        assert_eq!(alice.get(path).await.problem(429)["limit"], 3);
    }
    socket.tell("hello", "heard").await;
    drop(socket);
    let again = async || Socket::try_open(&alice, SOCKET, &OWN).await.is_ok();
    eventually("there is room again", again).await;
}

/// Neither an open socket nor a message nor a reconnection is the user's doing. The application says
/// what is.
pub(crate) async fn an_open_socket_keeps_no_session_alive(on: Ground) {
    let app = App::with(on, |config| {
        config.engine.timeouts = Timeouts::none().with_idle(Duration::from_secs(600));
    })
    .await;
    let (alice, bob) = (app.browser("alice").await, app.browser("bob").await);
    let mut of_alice = Socket::open(&alice, SOCKET).await;
    let mut of_bob = Socket::open(&bob, SOCKET).await;
    app.advance(Duration::from_secs(400)).await;
    of_alice.tell("hello", "heard").await;
    of_bob.tell("here", "noted").await;
    drop(Socket::open(&alice, SOCKET).await);
    let events = alice.ask("GET", FEED).without("accept").header("accept", "text/event-stream");
    assert_eq!(events.open().await.status, 200);
    app.advance(Duration::from_secs(300)).await;
    assert_eq!(bob.whoami().await, 200);
    alice.get("/whoami").await.problem(401);
    assert_eq!(of_alice.closed().await, (4001, "expired".to_owned()));
    of_bob.tell("hello", "heard").await;
}

/// What `end` gives, which has to come within `limit`: not much later, on a machine that is busy.
async fn within<T>(limit: Duration, end: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(limit + SLACK, end).await;
    ended.unwrap_or_else(|_| panic!("no end within {limit:?} and {SLACK:?}"))
}

/// The default of `propagation_bound`.
const BOUND: Duration = Duration::from_secs(1);
const SLACK: Duration = Duration::from_secs(4);
/// What a browser says of a page of this origin.
const OWN: [(&str, &str); 1] = [("sec-fetch-site", "same-origin")];
