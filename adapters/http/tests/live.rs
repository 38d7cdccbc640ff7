//! Connections that end with their session, on simulated time.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt, poll, sink, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use session_conformance::Probe;
use session_core::{Actor, UserId, UserKey};
use session_engine::clock::{Clock, TokioClock};
use session_engine::{Access, ActiveSession, RotateReason, Rotation, SignIn};
use session_http::{
    Close, Config, Credential, Head, Hooks, HttpOptions, HttpSessions, Identity, Live, Rejection,
    RequestSession,
};
use session_store_memory::MemoryStore;
use tokio::time::{Instant, sleep, timeout};

async fn start(config: Config) -> (HttpSessions, Probe) {
    let start = session_core::Timestamp::from_micros(1_780_000_000_000_000);
    let clock = TokioClock::starting_at(start);
    let hooks = Hooks::default().with_clock(clock);
    let probe = Probe::over(MemoryStore::with_clock(move || clock.now()));
    let store = std::sync::Arc::new(probe.clone());
    (HttpSessions::start_with(store, config, hooks).await.unwrap(), probe)
}

async fn sign_in(http: &HttpSessions) -> ActiveSession {
    let owner = UserKey::new(UserId::new("alice").unwrap());
    http.manager().sign_in(SignIn::new(owner)).await.unwrap().session
}

fn open(
    http: &HttpSessions,
    session: &ActiveSession,
    method: &Method,
    headers: &[(&'static str, &'static str)],
) -> Result<Live, Rejection> {
    let identity = Identity::Session(session.clone(), Credential::Cookie);
    let request = RequestSession::new(http.clone(), identity, None);
    let pairs = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let (uri, headers): (_, HeaderMap) = (Uri::from_static("/live"), pairs.collect());
    request.live(Head::new(method, &uri, &headers))
}

async fn revoke(http: &HttpSessions, session: &ActiveSession) {
    let (id, owner) = (session.id(), session.owner());
    assert!(http.manager().revoke(id, owner, Actor::Application).await.unwrap());
}

/// The token that opened it may be a copy: its holder has not made the step-up.
#[tokio::test(start_paused = true)]
async fn a_connection_becomes_no_fresher_by_another_tokens_step_up() {
    let (http, _) = start(Config::default()).await;
    let owner = UserKey::new(UserId::new("alice").unwrap());
    let old = http.manager().sign_in(SignIn::new(owner)).await.unwrap();
    let begun = old.session.authenticated_at();
    let live = open(&http, &old.session, &Method::GET, &[]).unwrap();
    let mut token = old.token.expose();
    for _ in 0..3 {
        sleep(Duration::from_secs(60)).await;
        let reason = RotateReason::reauthenticated();
        let rotated = http.manager().rotate(token.as_bytes(), reason).await.unwrap();
        let Rotation::Rotated { token: new, .. } = rotated else { panic!("{rotated:?}") };
        token = new.expose();
        let verdict = http.manager().validate(token.as_bytes(), Access::default()).await.unwrap();
        let fresh = verdict.session().unwrap();
        assert_eq!(fresh.authenticated_at(), http.manager().now());
        assert_eq!(live.current().await.unwrap().authenticated_at(), begun);
        assert_eq!(live.touch().await.unwrap().authenticated_at(), begun);
        let again = open(&http, &fresh, &Method::GET, &[]).unwrap();
        assert_eq!(again.current().await.unwrap().authenticated_at(), fresh.authenticated_at());
    }
}

#[tokio::test(start_paused = true)]
async fn items_come_until_the_session_ends_and_then_a_last_one() {
    let (http, _) = start(Config::default()).await;
    let session = sign_in(&http).await;
    let live = open(&http, &session, &Method::GET, &[]).unwrap();
    let never = stream::iter([1, 2]).chain(stream::pending());
    let mut items = pin!(live.while_signed_in(never, |close| Some(i32::from(close.code))));
    assert_eq!(items.next().await, Some(1));
    assert_eq!(items.next().await, Some(2));
    assert!(poll!(items.next()).is_pending());
    revoke(&http, &session).await;
    assert_eq!(items.next().await, Some(4001));
    assert_eq!(items.next().await, None);
    // Without a last one, and by itself.
    let session = sign_in(&http).await;
    let live = open(&http, &session, &Method::GET, &[]).unwrap();
    assert_eq!(
        live.while_signed_in(stream::iter([1, 2]), |_| None).collect::<Vec<_>>().await,
        [1, 2]
    );
    let live = open(&http, &session, &Method::GET, &[]).unwrap();
    revoke(&http, &session).await;
    let none: Vec<u8> = live.while_signed_in(stream::repeat(1), |_| None).collect().await;
    assert!(none.is_empty(), "{none:?}");
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_where_it_waits() {
    let (http, probe) = start(Config::default()).await;
    let session = sign_in(&http).await;
    let live = open(&http, &session, &Method::GET, &[]).unwrap();
    let close = live.during(std::future::ready(())).await;
    assert_eq!((close.code, close.reason), (Close::DONE, ""));
    probe.away(true);
    let begun = Instant::now();
    let close = live.during(std::future::pending()).await;
    assert_eq!((close.code, close.reason), (Close::UNKNOWN, "unknown"));
    assert!(begun.elapsed() <= Duration::from_secs(32), "{:?}", begun.elapsed());
    assert!(live.touch().await.is_err(), "it cannot tell");
    probe.away(false);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(live.current().await.unwrap().id(), session.id());
    let work = async {
        revoke(&http, &session).await;
        std::future::pending().await
    };
    assert_eq!(live.during(work).await.reason, "revoked");
    assert_eq!(live.touch().await.unwrap_err().status(), 401);
    http.shutdown().await;
}

/// A client that reads nothing is cut, and a node that stops waits no longer for it.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_not_waited_for() {
    let handshake = [("upgrade", "websocket"), ("sec-fetch-site", "same-origin")];
    let options = HttpOptions::default().with_max_streams_per_session(1);
    let (http, _) = start(Config::default().with_http(options)).await;
    let session = sign_in(&http).await;
    let live = open(&http, &session, &Method::GET, &handshake).unwrap();
    assert_eq!(open(&http, &session, &Method::GET, &[]).unwrap_err().status(), 429);
    let stuck = || {
        let stuck = sink::unfold((), |(), _: u8| std::future::pending::<Result<(), Infallible>>());
        (Box::pin(stuck), Box::pin(stream::pending::<Result<u8, ()>>()))
    };
    let (mut sender, receiver) = stuck();
    assert!(poll!(sender.send(1)).is_pending());
    let begun = Instant::now();
    live.hang_up((sender, receiver), 0).await;
    assert!(begun.elapsed() <= Duration::from_secs(2), "{:?}", begun.elapsed());
    let forgotten = open(&http, &session, &Method::GET, &handshake).unwrap();
    let stopped = timeout(Duration::from_secs(2), http.shutdown()).await;
    assert!(stopped.is_ok(), "a connection that the application keeps stops no node");
    assert_eq!(forgotten.ended().await.code, Close::GOING_AWAY);
}

/// `CONNECT` opens a WebSocket over HTTP/2.
#[tokio::test(start_paused = true)]
async fn a_handshake_needs_a_proof_of_its_origin() {
    let (http, _) = start(Config::default()).await;
    let session = sign_in(&http).await;
    let (get, connect) = (Method::GET, Method::CONNECT);
    let status = |method: &Method, headers: &[_]| {
        open(&http, &session, method, headers).map_or_else(|it| it.status().as_u16(), |_| 200)
    };
    let (evil, own) = (("origin", "https://evil.example"), ("sec-fetch-site", "same-origin"));
    for websocket in ["websocket", "WebSocket", "h2c, websocket"] {
        let upgrade = ("upgrade", websocket);
        assert_eq!(status(&get, &[upgrade]), 403, "{websocket}");
        assert_eq!(status(&get, &[upgrade, evil]), 403, "{websocket}");
        assert_eq!(status(&get, &[upgrade, own]), 200, "{websocket}");
    }
    assert_eq!(status(&get, &[("upgrade", "h2c"), ("upgrade", "websocket"), evil]), 403);
    assert_eq!([status(&connect, &[]), status(&connect, &[own])], [403, 200]);
    // What a page of another origin cannot read.
    assert_eq!([status(&get, &[evil]), status(&get, &[])], [200, 200]);
    http.shutdown().await;
}
