//! Every way in besides the form of our own origin: bearer tokens, callbacks, sister hosts, and what an
//! attacker makes of them.

use std::net::IpAddr;
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::json;
use session_kit::http::jwt::{JwtOptions, JwtVoucher};

use crate::app::{App, Ground, user_of};
use crate::client::{Answer, Ask, Client, login_form};

const CREDENTIALS: &str = r#"{"user":"alice","password":"alice"}"#;

/// An app's request: no cookie, no word of an origin.
fn bear<'c>(app: &'c Client, token: &str, method: &str, path: &str) -> Ask<'c> {
    let ask = app.ask(method, path).without("sec-fetch-site");
    ask.header("authorization", format!("Bearer {token}"))
}

async fn token(app: &App) -> String {
    let answer = app.stranger().ask("POST", "/token").json(CREDENTIALS).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["token"].as_str().unwrap().to_owned()
}

pub(crate) async fn an_app_gets_its_token_in_the_answer(on: Ground) {
    let app = App::start(on).await;
    let client = app.stranger();
    let sign_in = |body| client.ask("POST", "/token").without("sec-fetch-site").json(body).send();
    let answer = sign_in(CREDENTIALS).await;
    assert_eq!((answer.status.as_u16(), answer.cookie()), (200, None));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let me = bear(&client, &token, "GET", "/whoami").send().await;
    assert_eq!((me.status.as_u16(), me.cookie()), (200, None));
    assert_eq!(me.json()["session_id"], answer.json()["session_id"]);
    let wrong = sign_in(r#"{"user":"alice","password":"guess"}"#).await;
    assert_eq!(wrong.problem(401)["type"], "urn:session-kit:unauthorized");
    // `rotate` is for cookies; a sign-out ends the session.
    let problem = bear(&client, &token, "POST", "/rotate").send().await.problem(400);
    assert_eq!(problem["type"], "urn:session-kit:wrong-credential");
    assert_eq!(bear(&client, &token, "POST", "/logout").send().await.status, 303);
    bear(&client, &token, "GET", "/whoami").send().await.problem(401);
    // The answer is 401 and not 403: a bearer token needs no proof of origin.
    for (method, path) in [("GET", "/sessions/me"), ("POST", "/sessions/me/revoke-others")] {
        bear(&client, &token, method, path).send().await.problem(401);
    }
}

pub(crate) async fn a_bearer_needs_no_origin(on: Ground) {
    let app = App::start(on).await;
    let (client, token) = (app.stranger(), token(&app).await);
    let browser = app.browser("alice").await;
    let theirs = format!("/sessions/me/{}", browser.session_id().await);
    let answer = browser.ask("DELETE", &theirs).without("sec-fetch-site").send().await;
    assert_eq!(answer.problem(403)["type"], "urn:session-kit:cross-origin", "a cookie does");
    let ask = bear(&client, &token, "DELETE", &theirs).header("origin", "https://evil.example");
    assert_eq!(ask.send().await.status, 204);
    let others = "/sessions/me/revoke-others";
    let ask = bear(&client, &token, "POST", others).header("sec-fetch-site", "cross-site");
    assert_eq!(ask.send().await.status, 200);
    // What is no token of ours says nothing.
    let last = if token.ends_with('0') { "1" } else { "0" };
    let other = format!("{}{last}", &token[..token.len() - 1]);
    for bad in ["", "x", &"0".repeat(104), &other] {
        bear(&client, bad, "GET", "/whoami").send().await.problem(401);
    }
    // The bearer token counts before the cookie.
    let bob = app.browser("bob").await;
    let answer = bear(&bob, &token, "GET", "/whoami").send().await;
    assert_eq!(answer.json()["user"], "alice");
    let ask = bob.ask("GET", "/whoami").header("authorization", "Basic Ym9iOmJvYg==");
    assert_eq!(ask.send().await.json()["user"], "bob");
    // What writes cookies looks at the cookie, and at the origin: a page with a token of its own signs
    // nobody in or out.
    for (path, form) in [("/logout", String::new()), ("/login", login_form("alice"))] {
        let ask = bob.ask("POST", path).without("sec-fetch-site").form(form);
        let ask = ask.header("authorization", format!("Bearer {token}"));
        ask.header("sec-fetch-site", "cross-site").send().await.problem(403);
    }
    let answer = bear(&bob, &token, "POST", "/logout").send().await;
    assert!(answer.cookie().unwrap().contains("Max-Age=0"));
    assert_eq!(user_of(&bob).await, "nobody", "the cookie is taken back, so its session ends, too");
    bear(&client, &token, "GET", "/whoami").send().await.problem(401);
}

pub(crate) fn cookies(client: &Client, values: &[&str]) -> Client {
    Client { cookie: Some(values.join("; ")), ..client.clone() }
}

pub(crate) async fn several_cookies_are_judged(on: Ground) {
    let app = App::start(on).await;
    let stranger = app.stranger();
    let cookie = |browser: &Client| browser.cookie.clone().unwrap();
    let alice = cookie(&app.browser("alice").await);
    let bob = cookie(&app.browser("bob").await);
    let stale = format!("__Host-session={}", "0".repeat(104));
    for values in [[&*stale, &*alice], [&*alice, &*stale], [&*alice, "__Host-session=x"]] {
        assert_eq!(user_of(&cookies(&stranger, &values)).await, "alice", "{values:?}");
    }
    assert_eq!(user_of(&cookies(&stranger, &[&alice, &bob])).await, "nobody", "whose is it?");
    let rest = ["__Host-session=1", "__Host-session=2", "__Host-session=3"];
    let many = [&rest[..], &[&*stale, &*alice]].concat();
    assert_eq!(user_of(&cookies(&stranger, &many)).await, "nobody", "four are looked at");
    // Two of one user are that user, and a sign-out ends both.
    let again = cookie(&app.browser("alice").await);
    let both = cookies(&stranger, &[&alice, &again]);
    assert_eq!(user_of(&both).await, "alice");
    let answer = cookies(&stranger, &[&stale, &alice, &again]).send("POST", "/logout", "").await;
    assert!(answer.cookie().unwrap().contains("Max-Age=0"));
    for ended in [&alice, &again] {
        assert_eq!(user_of(&cookies(&stranger, &[ended])).await, "nobody");
    }
}

/// A browser that holds two cookies of one session, as after a change of `domain`, is no thief.
pub(crate) async fn an_old_cookie_beside_the_new_one_is_no_theft(on: Ground) {
    let app = App::start(on).await;
    let mut alice = app.browser("alice").await;
    let old = alice.cookie.clone().unwrap();
    assert_eq!(alice.post("/rotate", "").await.status, 200);
    let new = alice.cookie.clone().unwrap();
    app.advance(Duration::from_secs(60)).await;
    for values in [[&*old, &*new], [&*new, &*old]] {
        assert_eq!(user_of(&cookies(&alice, &values)).await, "alice", "{values:?}");
    }
    // An id with a guess at the secret beside it does not keep the session from being rotated.
    let id = alice.session_id().await.replace('-', "");
    let guess = format!("__Host-session={id}{}", "0".repeat(72));
    let both = cookies(&alice, &[&guess, &new]);
    let answer = both.send("POST", "/reauthenticate", "password=alice").await;
    assert!(answer.status == 200 && answer.cookie().is_some(), "{}", answer.status);
    assert_eq!(user_of(&alice).await, "alice", "within its grace");
}

/// With a planted cookie nobody is signed in, but the next sign-in ends what was planted.
pub(crate) async fn a_planted_cookie_does_not_outlive_a_sign_in(on: Ground) {
    let app = App::start(on).await;
    let cookie = |browser: &Client| browser.cookie.clone().unwrap();
    let alice = cookie(&app.browser("alice").await);
    let planted = cookie(&app.browser("bob").await);
    let both = cookies(&app.stranger(), &[&alice, &planted]);
    assert_eq!(user_of(&both).await, "nobody");
    let answer = both.send("POST", "/login", &login_form("alice")).await;
    let new = answer.cookie().unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(user_of(&cookies(&both, &[&new, &planted])).await, "alice");
    for ended in [&alice, &planted] {
        assert_eq!(user_of(&cookies(&both, &[ended])).await, "nobody");
    }
}

/// Sent by a page of another host.
pub(crate) async fn of(ask: Ask<'_>, site: &str, origin: &str) -> Answer {
    let ask = ask.without("sec-fetch-site").header("sec-fetch-site", site);
    ask.header("origin", origin).send().await
}

pub(crate) async fn sister_origins_may_be_allowed(on: Ground) {
    let app = App::with(on, |config| {
        config.http.allowed_origins = vec!["https://shop.example.com".parse().unwrap()];
    })
    .await;
    let mut browser = app.stranger();
    for origin in ["https://evil.example", "http://shop.example.com", "null"] {
        let client = app.stranger();
        let ask = client.ask("POST", "/login").form(login_form("alice"));
        of(ask, "same-site", origin).await.problem(403);
    }
    let client = app.stranger();
    let ask = client.ask("POST", "/login").form(login_form("alice"));
    let answer = of(ask, "same-site", "https://shop.example.com").await;
    assert_eq!(answer.status, 303);
    browser.keep(&answer);
    let ask = || browser.ask("POST", "/sessions/me/revoke-others");
    of(ask(), "same-site", "https://other.example.com").await.problem(403);
    assert_eq!(of(ask(), "same-site", "https://shop.example.com").await.status, 200);
}

/// The cookie is kept for as long as the session's own timeouts let it live.
pub(crate) async fn remembered_sign_ins_outlive_the_browser(on: Ground) {
    let app = App::start(on).await;
    let mut browser = app.stranger();
    let form = format!("{}&remember=on", login_form("alice"));
    let answer = browser.post("/login", &form).await;
    assert!(answer.cookie().unwrap().contains("; Max-Age=7776000"), "{:?}", answer.cookie());
    let answer = browser.post("/rotate", "").await;
    assert!(answer.cookie().unwrap().contains("; Max-Age=7776000"), "{:?}", answer.cookie());
    assert_eq!(user_of(&browser).await, "alice");
    let answer = browser.post("/login", &login_form("alice")).await;
    assert!(!answer.cookie().unwrap().contains("Max-Age"), "{:?}", answer.cookie());
    let answer = browser.post("/rotate", "").await;
    assert!(!answer.cookie().unwrap().contains("Max-Age"), "{:?}", answer.cookie());
}

pub(crate) async fn ending_others_needs_a_fresh_sign_in(on: Ground) {
    let app = App::start(on).await;
    let (mut root, others) = (app.browser("root").await, "/sessions/me/revoke-others");
    let own = app.browser("root").await.session_id().await;
    let mine = app.browser("root").await.session_id().await;
    let policy = "/sessions/admin/policy?user=alice";
    let changes = [
        ("POST", others.to_owned()),
        ("PUT", policy.to_owned()),
        ("DELETE", policy.to_owned()),
        ("DELETE", "/sessions/admin/users/alice/sessions".to_owned()),
        ("DELETE", format!("/sessions/admin/sessions/{own}")),
        ("DELETE", format!("/sessions/me/{mine}")),
    ];
    app.advance(Duration::from_secs(901)).await;
    for (method, path) in &changes {
        let problem = root.send(method, path, "{}").await.problem(401);
        assert_eq!(problem["type"], "urn:session-kit:reauthentication-required", "{path}");
        assert_eq!(problem["reauthenticate"], "/login");
    }
    for path in ["/sessions/me", "/sessions/admin/sessions", policy] {
        assert_eq!(root.get(path).await.status, 200, "reading does not: {path}");
    }
    assert_eq!(root.post("/reauthenticate", "password=root").await.status, 200);
    for (method, path) in &changes[1..] {
        let answer = root.send(method, path, r#"{"prevent_concurrent_login":"Disabled"}"#).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.status);
    }
    assert_eq!(root.send("POST", others, "").await.status, 200);
}

/// The application's own routes: by a guard (POST) and by an extractor (DELETE).
pub(crate) async fn an_application_may_ask_for_same_origin(on: Ground) {
    let app = App::start(on).await;
    let alice = app.browser("alice").await;
    for method in ["POST", "DELETE"] {
        let ask = || alice.ask(method, "/vault").without("sec-fetch-site");
        for ask in [
            ask(),
            ask().header("sec-fetch-site", "same-site"),
            ask().header("sec-fetch-site", "cross-site"),
            ask().header("origin", "https://evil.example"),
        ] {
            assert_eq!(ask.send().await.problem(403)["type"], "urn:session-kit:cross-origin");
        }
        assert_eq!(ask().header("sec-fetch-site", "same-origin").send().await.status, 200);
        let own = format!("http://{}", app.address);
        assert_eq!(ask().header("origin", own).send().await.status, 200);
        let stranger = app.stranger();
        stranger.ask(method, "/vault").send().await.problem(401);
    }
}

/// Another service signs who is signed in; the session says whether that is still true.
pub(crate) async fn a_signed_token_names_its_session(on: Ground) {
    let keys = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let x = BASE64_URL_SAFE_NO_PAD.encode(keys.public_key_raw());
    let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] }).to_string();
    let fetch = move || std::future::ready(Ok::<_, std::io::Error>(set.clone()));
    let voucher = JwtVoucher::new(JwtOptions::new("issuer", "demo"), fetch).unwrap();
    let app = App::with_hooks(on, |hooks| hooks.with_voucher(voucher)).await;
    let (browser, other) = (app.browser("alice").await, app.browser("alice").await);
    let (id, theirs) = (browser.session_id().await, other.session_id().await);
    let sign = |issuer: &str| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let claims = json!({ "iss": issuer, "aud": "demo", "exp": now + 600, "sid": id });
        let key = EncodingKey::from_ed_der(keys.serialized_der());
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap()
    };
    let (service, token) = (app.stranger(), sign("issuer"));
    let me = bear(&service, &token, "GET", "/whoami").send().await;
    assert_eq!(me.json()["session_id"], id);
    for (method, path) in [("DELETE", format!("/sessions/me/{theirs}")), ("POST", "/vault".into())]
    {
        let answer = bear(&service, &token, method, &path).send().await;
        assert!(answer.status.is_success(), "needs no proof of origin: {path} {}", answer.status);
    }
    assert_eq!(user_of(&other).await, "nobody");
    bear(&service, &sign("another"), "GET", "/whoami").send().await.problem(401);
    // Our own credentials count beside it.
    assert_eq!(user_of(&browser).await, "alice");
    assert_eq!(browser.send("POST", "/logout", "").await.status, 303);
    bear(&service, &token, "GET", "/whoami").send().await.problem(401);
}

pub(crate) async fn empty_parameters_are_refused(on: Ground) {
    let app = App::start(on).await;
    let (root, alice) = (app.browser("root").await, app.browser("alice").await);
    for (method, path, field) in [
        ("PUT", "/sessions/admin/policy?user=", "user"),
        ("DELETE", "/sessions/admin/policy?user=", "user"),
        ("GET", "/sessions/admin/policy?user=", "user"),
        ("DELETE", "/sessions/admin/users/alice/sessions?device=", "device"),
        ("DELETE", "/sessions/admin/users/alice/sessions?except=", "except"),
        ("GET", "/sessions/admin/sessions?user=", "user"),
        ("GET", "/sessions/admin/sessions?device=", "device"),
        ("GET", "/sessions/admin/sessions?client=", "client"),
        ("GET", "/sessions/admin/sessions?active_since=", "active_since"),
        ("GET", "/sessions/admin/sessions?cursor=", "cursor"),
        ("GET", "/sessions/admin/sessions?limit=", "limit"),
        ("GET", "/sessions/me?cursor=", "cursor"),
    ] {
        let body = r#"{"prevent_concurrent_login":"LogoutFromAllDevices"}"#;
        let problem = root.send(method, path, body).await.problem(400);
        assert_eq!(problem["field"], field, "{method} {path}");
    }
    let policy = root.get("/sessions/admin/policy").await.json();
    assert_eq!(policy["prevent_concurrent_login"], json!("Disabled"), "nothing has changed");
    assert_eq!(user_of(&alice).await, "alice", "nobody was signed out");
}

async fn last_accessed(app: &App, browser: &Client) -> (u64, Vec<IpAddr>) {
    use session_kit::core::store::TenantFilter;
    let ids = app.http.manager().query(TenantFilter::Any);
    let page = app.http.manager().list(&ids).await.unwrap();
    let id = browser.ask("GET", "/whoami").header("purpose", "prefetch").send().await;
    let id = id.json()["session_id"].as_str().unwrap().to_owned();
    let session = page.sessions.into_iter().find(|session| session.id.to_string() == id).unwrap();
    let micros = u64::try_from(session.last_accessed.as_micros()).unwrap();
    (micros, session.ip_addresses)
}

/// A stolen cookie cannot be used unseen by calling every request a prefetch.
pub(crate) async fn a_prefetch_hides_no_use(on: Ground) {
    let app = App::start(on).await;
    let alice = app.browser("alice").await;
    let (before, _) = last_accessed(&app, &alice).await;
    app.advance(Duration::from_secs(60)).await;
    let away: IpAddr = "127.0.0.2".parse().unwrap();
    let thief = Client { from: Some(away), ..alice.clone() };
    let answer = thief.ask("GET", "/whoami").header("sec-purpose", "prefetch").send().await;
    assert_eq!(answer.status, 200);
    let (after, addresses) = last_accessed(&app, &alice).await;
    assert_eq!(after, before, "a prefetch is no access");
    assert!(addresses.contains(&away), "and yet it is seen where it came from: {addresses:?}");
    let revoke = "/sessions/me/revoke-others";
    assert_eq!(alice.ask("POST", revoke).header("purpose", "prefetch").send().await.status, 200);
    assert!(last_accessed(&app, &alice).await.0 > before, "a change is no prefetch");
}

/// A page that is left open does not keep its session alive.
pub(crate) async fn reads_because_of_an_event_are_passive(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let (before, _) = last_accessed(&app, &root).await;
    app.advance(Duration::from_secs(60)).await;
    for path in ["/sessions/me?refresh=1", "/sessions/admin/sessions?refresh=1&limit=5"] {
        assert_eq!(root.get(path).await.status, 200, "{path}");
    }
    for path in ["/sessions/me/events", "/sessions/admin/events"] {
        root.ask("GET", path).open().await.until(": open").await;
    }
    assert_eq!(last_accessed(&app, &root).await.0, before);
    for path in ["/whoami?refresh=1", "/sessions/me"] {
        assert_eq!(root.get(path).await.status, 200);
        let now = last_accessed(&app, &root).await.0;
        assert!(now > before, "{path} is the user's doing");
    }
}

pub(crate) async fn an_admins_stream_ends_with_the_role(on: Ground) {
    let app = App::start(on).await;
    let (root, alice) = (app.browser("root").await, app.browser("alice").await);
    let (roles, events) = ("/roles/alice", "/sessions/admin/events");
    alice.get(events).await.problem(403);
    assert_eq!(root.send("PUT", roles, r#"["admin"]"#).await.status, 200);
    let mut stream = alice.ask("GET", events).open().await;
    stream.until(": open").await;
    assert_eq!(root.send("PUT", roles, "[]").await.status, 200);
    let seen = stream.finish().await;
    assert!(!seen.contains("event: ended"), "the session goes on: {seen}");
    assert_eq!(user_of(&alice).await, "alice");
    alice.get(events).await.problem(403);
}
