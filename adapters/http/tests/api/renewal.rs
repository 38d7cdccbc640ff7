//! Renewal with top-level navigations.

use std::time::Duration;

use http::{HeaderMap, Method, Uri};
use session_conformance::Probe;
use session_core::Actor;
use session_engine::RotateReason;
use session_http::{Config, Head, Hooks, HttpSessions, NewSession};
use session_store_memory::MemoryStore;

use crate::node::{Client, start, user};

const AFTER: Duration = Duration::from_secs(600);

fn config() -> Config {
    let mut config = Config::default();
    config.engine = config.engine.with_renew_after(AFTER);
    config
}

fn navigating(client: &Client) -> Client {
    let mut client = client.clone();
    client.set("sec-fetch-mode", "navigate");
    client.set("sec-fetch-dest", "document");
    client
}

/// What the middleware adds to a response with these headers.
async fn response(client: &Client, method: &Method, mut headers: HeaderMap) -> HeaderMap {
    let uri = Uri::from_static("/");
    let head = Head::new(method, &uri, &client.headers);
    let request = client.request(head).await;
    let renewal = request.renewal(head);
    if let Some(renewal) = renewal.filter(|renewal| !renewal.is_overtaken_by(&headers)) {
        renewal.renew().await.apply(&mut headers);
    }
    headers
}

async fn renewed(client: &Client, method: &Method) -> Option<String> {
    let headers = response(client, method, HeaderMap::new()).await;
    let cookie = headers.get("set-cookie")?;
    assert_eq!(headers["cache-control"], "no-store");
    Some(cookie.to_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_navigation_renews_an_old_token_and_repeats_a_lost_answer() {
    let http = start(config()).await;
    let new = NewSession::of(user("alice")).with_remember(true);
    let mut page = navigating(&Client::signed_in_as(&http, new).await);
    assert_eq!(renewed(&page, &Method::GET).await, None, "it is young");
    tokio::time::sleep(AFTER).await;
    let first = renewed(&page, &Method::GET).await.unwrap();
    assert!(first.contains("Max-Age="), "it stays remembered: {first}");
    let lost = renewed(&page, &Method::GET).await;
    assert_eq!(lost.as_ref(), Some(&first), "the answer was lost");
    page.set("cookie", first.split(';').next().unwrap());
    assert_eq!(renewed(&page, &Method::GET).await, None);
    assert!(page.session_id().await.is_some());
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_else_renews() {
    let http = start(config()).await;
    let script = Client::signed_in(&http, "alice").await;
    let page = navigating(&script);
    tokio::time::sleep(2 * AFTER).await;
    assert_eq!(renewed(&script, &Method::GET).await, None);
    assert_eq!(renewed(&page, &Method::POST).await, None);
    for (name, value) in [
        ("sec-fetch-dest", "iframe"),
        ("sec-fetch-dest", "empty"),
        ("sec-fetch-mode", "cors"),
        ("sec-purpose", "prefetch"),
    ] {
        let mut other = page.clone();
        other.set(name, value);
        assert_eq!(renewed(&other, &Method::GET).await, None, "{name}: {value}");
    }
    let mut program = navigating(&Client::browser(&http));
    let (signed_in, _) = program.auth().await.sign_in_app("bob").await.unwrap();
    program.bear(&signed_in.token.expose());
    tokio::time::sleep(AFTER).await;
    assert!(program.session_id().await.is_some());
    assert_eq!(renewed(&program, &Method::GET).await, None, "a bearer");
    for other in ["theme=dark", "__Host-sessions=1", "__Host-session-theme=1"] {
        let headers = HeaderMap::from_iter([(http::header::SET_COOKIE, other.parse().unwrap())]);
        let count =
            response(&page, &Method::GET, headers).await.get_all("set-cookie").iter().count();
        assert_eq!(count, 2, "{other} is none of ours");
    }
    let own =
        HeaderMap::from_iter([(http::header::SET_COOKIE, "__Host-session=new".parse().unwrap())]);
    let headers = response(&page, &Method::GET, own.clone()).await;
    assert_eq!(headers, own, "the response has a newer one");
    http.shutdown().await;
}

/// Its response might come after that of a sign-in, when the cookie is another account's.
#[tokio::test(start_paused = true)]
async fn nothing_renews_where_a_browser_may_hold_several_accounts() {
    let mut config = config();
    config.http = config.http.with_max_accounts(2);
    let http = start(config).await;
    let page = navigating(&Client::signed_in(&http, "alice").await);
    tokio::time::sleep(2 * AFTER).await;
    assert_eq!(renewed(&page, &Method::GET).await, None);
    http.shutdown().await;
}

/// Another tab has renewed the token, and used the new one, for longer than the grace.
#[tokio::test(start_paused = true)]
async fn a_slow_page_is_no_theft() {
    let http = start(config()).await;
    let mut page = navigating(&Client::signed_in(&http, "alice").await);
    tokio::time::sleep(AFTER).await;
    let (slow, uri) = (page.clone(), Uri::from_static("/"));
    let head = Head::new(&Method::GET, &uri, &slow.headers);
    let request = slow.request(head).await;
    let (renewal, auth) = (request.renewal(head).unwrap(), slow.auth().await);
    let next = renewed(&page, &Method::GET).await.unwrap();
    page.set("cookie", next.split(';').next().unwrap());
    let session = page.session_id().await;
    assert!(session.is_some());
    tokio::time::sleep(2 * http.manager().options().rotation_grace).await;
    let mut headers = HeaderMap::new();
    renewal.renew().await.apply(&mut headers);
    auth.rotate(RotateReason::Renewal).await.unwrap().apply(&mut headers);
    let stepped_up = auth.rotate(RotateReason::reauthenticated()).await.unwrap_err();
    assert_eq!(stepped_up.problem().status, 409);
    assert_eq!(headers.get("set-cookie"), None, "the browser has a newer one");
    assert_eq!(page.session_id().await, session);
    http.shutdown().await;
}

/// The session ends while the user proves who they are: no answer may look as if it had been recorded.
#[tokio::test(start_paused = true)]
async fn a_proof_for_a_session_that_has_ended_is_refused() {
    let http = start(config()).await;
    let page = navigating(&Client::signed_in(&http, "alice").await);
    let auth = page.auth().await;
    http.manager().revoke_user(user("alice"), Actor::Application).await.unwrap();
    let refused = auth.rotate(RotateReason::reauthenticated()).await.unwrap_err();
    assert_eq!(refused.problem().status, 401);
    let mut headers = HeaderMap::new();
    auth.rotate(RotateReason::Renewal).await.unwrap().apply(&mut headers);
    assert_eq!(headers.get("set-cookie"), None);
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_off_by_default() {
    let http = start(Config::default()).await;
    let page = navigating(&Client::signed_in(&http, "alice").await);
    tokio::time::sleep(2 * AFTER).await;
    assert_eq!(renewed(&page, &Method::GET).await, None);
    http.shutdown().await;
}

/// The response goes out without a cookie, and soon.
#[tokio::test(start_paused = true)]
async fn an_outage_fails_no_request() {
    let begun = session_core::Timestamp::from_micros(1_780_000_000_000_000);
    let clock = session_engine::clock::TokioClock::starting_at(begun);
    let now = move || session_engine::clock::Clock::now(&clock);
    let probe = Probe::over(MemoryStore::with_clock(now));
    let hooks = Hooks::default().with_clock(clock);
    let store = std::sync::Arc::new(probe.clone());
    let http = HttpSessions::start_with(store, config(), hooks).await.unwrap();
    let page = navigating(&Client::signed_in(&http, "alice").await);
    assert!(page.session_id().await.is_some());
    tokio::time::sleep(AFTER).await;
    probe.away(true);
    let asked = tokio::time::Instant::now();
    assert_eq!(renewed(&page, &Method::GET).await, None);
    assert!(asked.elapsed() <= Duration::from_secs(1), "{:?}", asked.elapsed());
    let gate = {
        probe.away(false);
        probe.hold("commit")
    };
    assert_eq!(renewed(&page, &Method::GET).await, None, "the store does not answer");
    gate.open();
    assert!(renewed(&page, &Method::GET).await.is_some());
    http.shutdown().await;
}
