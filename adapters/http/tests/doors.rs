//! Accounts side by side, requests that the application identifies, and what the log says.

mod log;

use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue, Method, Uri};
use session_core::usage::Timeouts;
use session_core::{
    Actor, EndCause, FleetKey, SessionId, Store, Timestamp, Token, UserId, UserKey,
};
use session_engine::clock::{Clock, TokioClock};
use session_engine::{Addresses, RotateReason};
use session_http::testing::headers_of;
use session_http::{
    Auth, Config, CookieHeaders, Credential, Head, Hooks, HttpOptions, HttpSessions, Identity,
    Peer, RequestSession, RequireSession, Vouched, mark_sensitive,
};
use session_store_memory::MemoryStore;

use crate::log::Log;

async fn start(options: HttpOptions, hooks: Hooks) -> HttpSessions {
    let config = Config::default().with_http(options);
    HttpSessions::start_with(Arc::new(MemoryStore::new()), config, hooks).await.unwrap()
}

/// A browser: what it sends, and what it keeps of an answer.
struct Browser {
    http: HttpSessions,
    cookies: Vec<(String, String)>,
}

impl Browser {
    async fn auth(&self) -> Auth {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.cookies {
            headers.append(COOKIE, format!("{name}={value}").parse().unwrap());
        }
        headers.insert("sec-fetch-site", HeaderValue::from_static("same-origin"));
        let (method, uri) = (Method::POST, Uri::from_static("/"));
        let head = Head::new(&method, &uri, &headers);
        let identity = self.http.identify(head, None).resolve().await;
        RequestSession::new(self.http.clone(), identity, None).auth(head)
    }

    fn keep(&mut self, cookie: &CookieHeaders) {
        for (_, value) in cookie.append() {
            let text = value.to_str().unwrap();
            let (name, rest) = text.split_once('=').unwrap();
            self.cookies.retain(|(known, _)| known != name);
            if !text.contains("Max-Age=0") {
                let value = rest.split(';').next().unwrap();
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    async fn sign_in(&mut self, user: &str) -> SessionId {
        let (signed_in, cookie) = self.auth().await.sign_in(user).await.unwrap();
        self.keep(&cookie);
        signed_in.session.id()
    }

    async fn users(&self) -> Vec<String> {
        let accounts = self.auth().await.accounts().await.unwrap();
        accounts.iter().map(|account| account.user().to_string()).collect()
    }
}

#[tokio::test]
async fn several_accounts_live_side_by_side_in_one_browser() {
    let http = start(HttpOptions::default().with_max_accounts(3), Hooks::default()).await;
    let mut browser = Browser { http: http.clone(), cookies: Vec::new() };
    let alice = browser.sign_in("alice").await;
    browser.sign_in("bob").await;
    browser.sign_in("carol").await;
    assert_eq!(browser.users().await, ["carol", "alice", "bob"]);
    let cookie = browser.auth().await.switch_account(alice).await.unwrap();
    browser.keep(&cookie);
    assert_eq!(browser.users().await, ["alice", "carol", "bob"]);
    // One's own session goes on, whichever cookie it is in; a fourth account has no room.
    browser.sign_in("bob").await;
    assert_eq!(browser.users().await, ["bob", "carol", "alice"]);
    browser.sign_in("dave").await;
    assert_eq!(browser.users().await, ["dave", "carol", "alice"], "bob had to leave");
    let strange = SessionId::from_bytes([7; 16]);
    let refused = browser.auth().await.switch_account(strange).await.unwrap_err();
    assert_eq!(refused.status(), 404);
    let cookie = browser.auth().await.sign_out().await.unwrap();
    browser.keep(&cookie);
    assert_eq!(browser.users().await, ["carol", "alice"], "the others stay");
    for _ in 0..2 {
        let cookie = browser.auth().await.switch_account(alice).await.unwrap();
        browser.keep(&cookie);
        assert_eq!(browser.users().await, ["alice", "carol"], "a second time changes nothing");
    }
    let held = Browser { http: http.clone(), cookies: browser.cookies.clone() };
    let cookie = browser.auth().await.sign_out_all().await.unwrap();
    browser.keep(&cookie);
    assert_eq!(browser.cookies, []);
    assert_eq!(held.users().await, [""; 0], "nobody who sits down here later is anybody");
    http.shutdown().await;
}

/// A sign-in at another site comes back with none of the browser's cookies, so a user can be in use and
/// parked at once. Their next sign-in goes on in the one in use and ends the other.
#[tokio::test]
async fn a_user_in_two_cookies_of_one_browser_is_left_with_one_session() {
    let http = start(HttpOptions::default().with_max_accounts(3), Hooks::default()).await;
    let mut browser = Browser { http: http.clone(), cookies: Vec::new() };
    browser.sign_in("alice").await;
    browser.sign_in("bob").await;
    let mut elsewhere = Browser { http: http.clone(), cookies: Vec::new() };
    elsewhere.sign_in("alice").await;
    let (name, value) = elsewhere.cookies.remove(0);
    browser.cookies.iter_mut().filter(|(known, _)| *known == name).for_each(|(_, old)| {
        old.clone_from(&value);
    });
    assert_eq!(browser.users().await, ["alice", "alice"]);
    browser.sign_in("alice").await;
    assert_eq!(browser.users().await, ["alice"]);
    assert_eq!(http.manager().count(&alice()).await.unwrap(), 1);
    http.shutdown().await;
}

/// Accounts beside the one in use that are past their idle timeout have not ended yet.
#[tokio::test(start_paused = true)]
async fn an_idle_account_ends_with_the_others() {
    let clock = TokioClock::starting_at(Timestamp::from_micros(1_780_000_000_000_000));
    let hooks = Hooks::default().with_clock(clock);
    let store = MemoryStore::with_clock(move || clock.now());
    let idle = Duration::from_secs(600);
    let mut config = Config::default().with_http(HttpOptions::default().with_max_accounts(3));
    config.engine.timeouts = Timeouts::none().with_idle(idle);
    let http = HttpSessions::start_with(Arc::new(store.clone()), config, hooks).await.unwrap();
    let mut browser = Browser { http: http.clone(), cookies: Vec::new() };
    let begun = [browser.sign_in("alice").await, browser.sign_in("bob").await];
    assert_eq!(browser.users().await, ["bob", "alice"]);
    tokio::time::sleep(idle).await;
    assert_eq!(browser.users().await, [""; 0]);
    let cookie = browser.auth().await.sign_out_all().await.unwrap();
    browser.keep(&cookie);
    assert_eq!(browser.cookies, []);
    for id in begun {
        let ended = store.ended(id).await.unwrap().unwrap();
        assert_eq!(ended.cause, EndCause::SignedOut);
    }
    http.shutdown().await;
}

async fn identify(http: &HttpSessions, headers: &HeaderMap, peer: Option<Peer>) -> Identity {
    let uri = Uri::from_static("/");
    http.identify(Head::new(&Method::GET, &uri, headers), peer).resolve().await
}

/// The application knows by its own means whose request it is. The session's record and claims are as
/// fresh as ever, and its end is noticed.
#[tokio::test]
async fn what_the_application_vouches_for_is_checked_against_the_live_session() {
    let hooks = Hooks::default().with_voucher(|head: Head<'_>| {
        let id = head.headers.get("x-gateway-session")?.to_str().ok()?.parse().ok()?;
        Some(Vouched::explicit(id))
    });
    let http = start(HttpOptions::default(), hooks).await;
    let signed_in = http.manager().sign_in(session_engine::SignIn::new(alice())).await;
    let id = signed_in.unwrap().session.id();
    let mut headers = HeaderMap::new();
    headers.insert("x-gateway-session", id.to_string().parse().unwrap());
    let identity = identify(&http, &headers, None).await;
    assert_eq!(identity.session().map(|session| session.id()), Some(id));
    assert_eq!(identity.credential(), Some(Credential::Vouched { ambient: false }));
    // A change needs no proof of its origin; a cookie would.
    let (method, uri) = (Method::DELETE, Uri::from_static("/"));
    let head = Head::new(&method, &uri, &headers);
    let request = RequestSession::new(http.clone(), identity, None);
    let guard = RequireSession::signed_in().from_same_origin();
    assert!(request.require(head, &guard).is_ok());
    // Where it knows nothing, our own credentials count.
    let own: HeaderMap = headers_of(&http, "bob").await.unwrap().into_iter().collect();
    let identity = identify(&http, &own, None).await;
    assert_eq!(identity.session().map(|session| session.user().as_str()), Some("bob"));
    assert_eq!(identity.credential(), Some(Credential::Cookie));
    http.manager().revoke_user(alice(), Actor::Application).await.unwrap();
    assert!(matches!(identify(&http, &headers, None).await, Identity::Ended(_)));
    http.shutdown().await;
}

/// An operator writes rules from the page: it has every event of this layer, and the one of the engine.
#[test]
fn every_security_event_is_described() {
    let page = include_str!("../../../docs/security.md");
    let described: std::collections::BTreeSet<_> = (page.lines())
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let sources =
        [include_str!("../src/security.rs"), include_str!("../../../session-engine/src/admit.rs")];
    let names = sources.iter().flat_map(|text| text.split("event = \"").skip(1));
    let names: Vec<_> = names.filter_map(|rest| rest.split('"').next()).collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        assert!(described.contains(name), "{name} has no row in docs/security.md");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn security_events_have_address_and_reason_and_no_token() {
    let (log, _listening) = Log::begin();
    let store = MemoryStore::new();
    let http = HttpSessions::start(store.clone(), Config::default()).await.unwrap();
    let headers: HeaderMap = headers_of(&http, "alice").await.unwrap().into_iter().collect();
    let cookie = headers[COOKIE].to_str().unwrap().to_owned();
    let token = cookie.split_once('=').unwrap().1;
    let peer = Some(Peer::Ip("203.0.113.9".parse().unwrap()));
    log.take();
    let refused = |text: &str, reason: &str| {
        for part in [reason, "203.0.113.9", "session_kit::security"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        for secret in [token, &token[32..]] {
            assert!(!text.contains(secret), "a token is in {text}");
        }
    };
    // The id of a session with a guess at its secret, and one that has never been.
    let id = SessionId::from_bytes([7; 16]);
    let unknown = Token::new(&key(&store).await, id, [1; 12], [2; 16]).expose();
    for (guess, reason) in [
        (format!("{}{}", &token[..48], "0".repeat(56)), "not the token of this session"),
        (unknown, "no such session"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {guess}").parse().unwrap());
        assert!(matches!(identify(&http, &headers, peer).await, Identity::Anonymous));
        refused(&log.take(), reason);
    }
    // A page of another origin, and a caller whom the guard denies.
    let identity = identify(&http, &headers, peer).await;
    let request = RequestSession::new(http.clone(), identity, peer);
    let (method, uri) = (Method::POST, Uri::from_static("/transfer"));
    let mut crossing = headers.clone();
    crossing.insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
    let head = Head::new(&method, &uri, &crossing);
    assert!(request.same_origin(head).is_err());
    refused(&log.take(), "a page of another origin");
    assert!(request.auth(head).sign_in("alice").await.is_err());
    refused(&log.take(), "a page of another origin");
    assert!(request.auth(head).finish_flow("0123456789").is_err());
    refused(&log.take(), "a foreign flow");
    let (method, uri) = (Method::GET, Uri::from_static("/sessions/admin/sessions"));
    let body = futures_util::stream::empty::<Result<bytes::Bytes, std::io::Error>>();
    let answer = request.serve(Head::new(&method, &uri, &headers), "/admin/sessions", body).await;
    assert_eq!(answer.status(), 403);
    refused(&log.take(), "the guard denies");
    http.shutdown().await;
}

#[tokio::test]
async fn security_events_say_no_more_of_an_address_than_is_kept() {
    let (log, _listening) = Log::begin();
    for addresses in [Addresses::Prefix, Addresses::None] {
        let mut config = Config::default();
        config.engine = config.engine.with_addresses(addresses);
        let store = MemoryStore::new();
        let http = HttpSessions::start(store.clone(), config).await.unwrap();
        let peer = Some(Peer::Ip("203.0.113.9".parse().unwrap()));
        let unknown =
            Token::new(&key(&store).await, SessionId::from_bytes([7; 16]), [1; 12], [2; 16]);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {}", unknown.expose()).parse().unwrap());
        headers.insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
        log.take();
        let identity = identify(&http, &headers, peer).await;
        let request = RequestSession::new(http.clone(), identity, peer);
        let (method, uri) = (Method::POST, Uri::from_static("/transfer"));
        let head = Head::new(&method, &uri, &headers);
        assert!(request.auth(head).finish_flow("0123456789").is_err());
        let text = log.take();
        assert_eq!(text.matches("session_kit::security").count(), 2, "{text}");
        assert_eq!(
            text.matches("203.0.113").count(),
            text.matches("203.0.113.0").count(),
            "{text}"
        );
        assert_eq!(text.contains("203.0.113"), addresses == Addresses::Prefix, "{text}");
        http.shutdown().await;
    }
}

async fn key(store: &MemoryStore) -> FleetKey {
    store.fleet_key(&FleetKey::from_bytes([0; 32])).await.unwrap()
}

#[tokio::test]
async fn an_app_is_told_that_its_token_is_dead() {
    let http = start(HttpOptions::default(), Hooks::default()).await;
    let (method, uri) = (Method::POST, Uri::from_static("/"));
    let signed_in = http.manager().sign_in(session_engine::SignIn::new(alice())).await.unwrap();
    let mut headers = HeaderMap::new();
    let token = signed_in.token.expose();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    let head = Head::new(&method, &uri, &headers);
    let auth = async || {
        let identity = http.identify(head, None).resolve().await;
        RequestSession::new(http.clone(), identity, None).auth(head)
    };
    let rotated = async || {
        let (next, _) = auth().await.rotate_token(RotateReason::Renewal).await.unwrap();
        next.map(|next| next.expose())
    };
    let next = rotated().await.unwrap();
    assert_ne!(next, token);
    assert_eq!(rotated().await.as_ref(), Some(&next), "a lost answer is repeated");
    let used = http.manager().validate(next.as_bytes(), session_engine::Access::default()).await;
    assert!(used.unwrap().session().is_some());
    assert_eq!(rotated().await, None, "the client has the new one");
    http.manager().revoke_user(alice(), Actor::Application).await.unwrap();
    let refused = auth().await.rotate_token(RotateReason::Renewal).await.unwrap_err();
    assert_eq!(refused.status(), 401);
    http.shutdown().await;
}

fn alice() -> UserKey {
    UserKey::new(UserId::new("alice").unwrap())
}

/// No token is in anything that an application can print with `{:?}`.
#[tokio::test]
async fn debug_shows_no_token() {
    let http = start(HttpOptions::default(), Hooks::default()).await;
    let mut headers: HeaderMap = headers_of(&http, "alice").await.unwrap().into_iter().collect();
    let token = headers[COOKIE].to_str().unwrap().split_once('=').unwrap().1.to_owned();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    let (method, uri) = (Method::GET, Uri::from_static("/"));
    let head = Head::new(&method, &uri, &headers);
    let identified = http.identify(head, None);
    let mut shown = format!("{http:?} {head:?} {:?} {identified:?}", head.to_owned());
    let identity = identified.resolve().await;
    let request = RequestSession::new(http.clone(), identity.clone(), None);
    let auth = request.auth(head);
    let (signed_in, cookie) = auth.sign_in("bob").await.unwrap();
    let (flow, flow_cookie) = auth.begin_flow("").unwrap();
    let guard = RequireSession::signed_in();
    shown += &format!("{identity:?} {request:?} {auth:?} {signed_in:?} {cookie:?} {guard:?}");
    shown += &format!("{flow:?} {flow_cookie:?} {:?}", Hooks::default());
    mark_sensitive(&mut headers);
    shown += &format!("{headers:?}");
    for secret in [&token, &token[32..], &signed_in.token.expose(), &flow.state, &flow.verifier] {
        assert!(!shown.contains(secret), "{shown}");
    }
    http.shutdown().await;
}
