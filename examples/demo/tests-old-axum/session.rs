//! Sign-in, sign-out, rotation and the extractors.

use std::time::Duration;

use axum::http::header::SET_COOKIE;
use session_axum::HttpOptions;
use session_core::Actor;
use session_engine::Options;

use crate::app::{App, user};

#[tokio::test]
async fn a_session_begins_is_known_and_ends() {
    let app = App::start().await;
    let mut browser = app.stranger();
    assert_eq!(browser.get("/").await.text(), "nobody");
    browser.get("/required").await.problem(401);
    let answer = browser.post("/login", "user=alice").await;
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("__Host-session="), "{cookie}");
    for attribute in ["; HttpOnly", "; SameSite=Lax", "; Secure", "; Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("Domain") && !cookie.contains("Max-Age"), "{cookie}");
    assert_eq!(browser.get("/").await.text(), "alice");
    let before = browser.cookie.clone();
    let answer = browser.post("/logout", "").await;
    assert!(answer.headers[SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    browser.cookie = before;
    assert_eq!(browser.get("/").await.text(), "nobody", "the old cookie is worth nothing");
}

/// A refused token is answered as anonymous, and the browser's cookie is left alone (G11).
#[tokio::test]
async fn a_refusal_writes_no_cookie() {
    let app = App::start().await;
    let mut browser = app.browser("alice").await;
    app.engine.sessions().revoke_user(user("alice"), Actor::Application).await.unwrap();
    let unknown = format!("__Host-session={}", "0".repeat(88));
    for cookie in [browser.cookie.clone(), Some("__Host-session=x".to_owned()), Some(unknown)] {
        browser.cookie = cookie;
        let answer = browser.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "nobody"));
        assert!(!answer.headers.contains_key(SET_COOKIE));
        browser.get("/required").await.problem(401);
        browser.get("/sessions/me").await.problem(401);
        browser.post("/logout", "").await.problem(401);
    }
}

/// While nothing can be said about a token the answer is 503, never 401 (G4).
#[tokio::test(start_paused = true)]
async fn an_outage_is_no_refusal() {
    let app = App::start().await;
    let browser = app.browser("alice").await;
    app.probe.away(true);
    tokio::time::sleep(Duration::from_secs(31)).await;
    for path in ["/", "/required", "/fresh", "/sessions/me", "/sessions/admin/sessions"] {
        let answer = browser.get(path).await;
        answer.problem(503);
        assert_eq!(answer.headers["retry-after"], "1");
    }
    assert_eq!(app.stranger().get("/").await.text(), "nobody", "no token, no question");
    app.probe.away(false);
    assert_eq!(browser.get("/").await.text(), "alice", "the cookie has survived");
}

#[tokio::test(start_paused = true)]
async fn rotation_replaces_the_cookie_and_refreshes() {
    let app = App::start().await;
    let mut browser = app.browser("alice").await;
    let id = browser.id().await;
    assert_eq!(browser.get("/fresh").await.text(), id);
    tokio::time::sleep(Duration::from_secs(61)).await;
    let problem = browser.get("/fresh").await.problem(401);
    assert_eq!(problem["type"], "urn:session-kit:reauthentication-required");
    let old = browser.cookie.clone();
    assert_eq!(browser.post("/confirm", "").await.status, 200);
    assert_ne!(browser.cookie, old);
    assert_eq!(browser.get("/fresh").await.text(), id);
    // A request beside it that carries the old cookie writes none.
    let mut beside = app.stranger();
    beside.cookie = old.clone();
    assert!(!beside.post("/confirm", "").await.headers.contains_key(SET_COOKIE));
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(beside.get("/").await.text(), "nobody");
    assert_eq!(browser.get("/").await.text(), "nobody", "a stolen token ends the session");
}

#[tokio::test]
async fn a_page_of_another_origin_signs_nobody_in_or_out() {
    let app = App::start().await;
    let mut browser = app.browser("alice").await;
    for path in ["/login", "/logout", "/confirm"] {
        let mut request = browser.request("POST", path, "user=mallory");
        request.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
        app.send(request).await.problem(403);
        let mut request = browser.request("POST", path, "user=mallory");
        request.headers_mut().remove("sec-fetch-site");
        request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
        app.send(request).await.problem(403);
    }
    assert_eq!(browser.get("/").await.text(), "alice");
    assert_eq!(browser.post("/login", "user=bob").await.status, 200);
}

#[tokio::test]
async fn signing_in_again_leaves_no_session_behind() {
    let app = App::start().await;
    let mut browser = app.browser("alice").await;
    browser.login("alice").await;
    let me = browser.get("/sessions/me").await.json();
    assert_eq!(me["sessions"].as_array().unwrap().len(), 1);
    browser.login("bob").await;
    let other = app.browser("alice").await;
    let me = other.get("/sessions/me").await.json();
    assert_eq!(me["sessions"].as_array().unwrap().len(), 1, "the browser's first user is out");
}

#[tokio::test]
async fn the_request_says_what_the_session_records() {
    let mut http = HttpOptions::default();
    http.client_ip.trusted_proxies = vec!["203.0.113.0/24".parse().unwrap()];
    let app = App::with(Options::default(), http).await;
    let mut browser = app.stranger();
    let mut request = browser.request("POST", "/login", "user=alice");
    let headers = request.headers_mut();
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    headers.insert("user-agent", agent.parse().unwrap());
    headers.insert("x-forwarded-for", "6.6.6.6, 198.51.100.9".parse().unwrap());
    let answer = app.send(request).await;
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
    browser.cookie = Some(cookie.split(';').next().unwrap().to_owned());
    let mut request = browser.request("GET", "/sessions/me", "");
    request.headers_mut().insert("x-forwarded-for", "198.51.100.10".parse().unwrap());
    let me = app.send(request).await.json();
    let session = &me["sessions"][0];
    assert_eq!(session["device_kind"], "Web");
    assert_eq!(session["device_info"], "Firefox 140 on Linux");
    assert_eq!(session["ip_addresses"], serde_json::json!(["198.51.100.9", "198.51.100.10"]));
}

#[tokio::test(start_paused = true)]
async fn prefetches_and_preflights_do_not_keep_a_session_alive() {
    let app = App::start().await;
    let browser = app.browser("alice").await;
    let used = async || {
        let query = app.engine.sessions().query(session_core::store::TenantFilter::Any);
        app.engine.sessions().list(&query).await.unwrap().sessions[0].last_accessed
    };
    let before = used().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (name, value) in [("sec-purpose", "prefetch;prerender"), ("purpose", "prefetch")] {
        let mut request = browser.request("GET", "/", "");
        request.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(app.send(request).await.text(), "alice");
    }
    browser.send("OPTIONS", "/", "").await;
    assert_eq!(used().await, before);
    browser.send("HEAD", "/", "").await;
    assert!(used().await > before);
}

#[tokio::test]
async fn a_limit_that_rejects_answers_409() {
    let mut options = Options::default();
    options.default_policy = serde_json::from_value(serde_json::json!({
        "limits": [{ "max": 1, "scope": "user", "on_exceed": "reject" }],
    }))
    .unwrap();
    let app = App::with(options, HttpOptions::default()).await;
    let browser = app.browser("alice").await;
    let problem = app.stranger().send("POST", "/login", "user=alice").await.problem(409);
    assert_eq!(problem["limit"], 1);
    assert_eq!(browser.get("/").await.text(), "alice");
    let long = "x".repeat(65);
    let body = format!("user=bob&device={long}");
    let problem = app.stranger().send("POST", "/login", &body).await.problem(400);
    assert_eq!((&problem["field"], &problem["limit"]), (&"device_kind".into(), &64.into()));
}
