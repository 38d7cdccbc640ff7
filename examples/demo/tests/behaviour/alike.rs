//! One script on every adapter, with one transcript.

use std::fmt::Write;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use serde_json::json;
use session_demo::Adapter;

use crate::ADAPTERS;
use crate::app::{App, Ground};
use crate::client::{Answer, Client, login_form};

/// The headers that an adapter could get wrong.
const HEADERS: [&str; 17] = [
    "allow",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "etag",
    "location",
    "referrer-policy",
    "retry-after",
    "set-cookie",
    "vary",
    "www-authenticate",
    "x-accel-buffering",
    "x-content-type-options",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_adapter_answers_alike() {
    let expected = transcript(Adapter::Axum).await;
    assert!(expected.contains("ID") && expected.contains("TOKEN") && expected.contains("TIME"));
    for adapter in ADAPTERS {
        let transcript = transcript(*adapter).await;
        for (expected, line) in expected.lines().zip(transcript.lines()) {
            assert_eq!(line, expected, "{adapter:?}");
        }
        assert_eq!(transcript.lines().count(), expected.lines().count(), "{adapter:?}");
    }
}

async fn transcript(adapter: Adapter) -> String {
    let app = App::start(Ground::memory(adapter)).await;
    let mut told = Transcript { hidden: Vec::new(), text: String::new() };
    told.hide(&app.address.to_string(), "ADDRESS");
    let mut browser = app.stranger();
    strangers_part(&browser, &mut told).await;
    told.post(&mut browser, "/login", &login_form("alice")).await;
    users_part(&mut browser, &mut told).await;
    let mut root = app.stranger();
    told.post(&mut root, "/login", &login_form("root")).await;
    devices_part(&app, &root, &mut told).await;
    blocks_part(&app, &root, &mut told).await;
    elsewhere_part(&app, &mut told).await;
    privacy_part(&root, &mut told).await;
    admins_part(&root, &mut told).await;
    told.post(&mut root, "/impersonate", "user=alice").await;
    told.send(&root, "GET", "/whoami", "").await;
    told.send(&root, "GET", "/sessions/admin/sessions", "").await;
    told.post(&mut browser, "/logout", "").await;
    told.post(&mut browser, "/logout", "").await;
    told.text
}

async fn strangers_part(stranger: &Client, told: &mut Transcript) {
    for path in [
        "/",
        "/login",
        "/login?next=/vault",
        "/login?next=//evil.example",
        "/whoami",
        "/vault",
        "/roles",
        "/sessions",
        "/sessions/",
        "/sessions/admin",
        "/sessions/me",
        "/sessions/nothing",
        "/sessions/openapi.json",
        "/sessions/assets/app.css",
        "/sessions/assets/nothing",
    ] {
        told.send(stranger, "GET", path, "").await;
    }
    for (method, path) in [
        ("HEAD", "/sessions/assets/app.css"),
        ("OPTIONS", "/sessions/me"),
        ("PATCH", "/sessions/me"),
        ("POST", "/logout"),
        ("POST", "/rotate"),
        ("POST", "/count"),
        ("POST", "/sessions/me/revoke-others"),
    ] {
        told.send(stranger, method, path, "").await;
    }
    told.send(stranger, "POST", "/login", "user=alice&password=wrong").await;
    told.send(stranger, "POST", "/login", "user=north/mallory&password=north/mallory").await;
    let page = stranger.ask("GET", "/vault?item=1").header("accept", "text/html").send().await;
    told.answer("GET", "/vault?item=1 as a page", &page);
}

async fn users_part(browser: &mut Client, told: &mut Transcript) {
    for path in [
        "/",
        "/login",
        "/whoami",
        "/vault",
        "/roles",
        "/sessions/",
        "/sessions/admin",
        "/sessions/me",
        "/sessions/me?limit=1",
        "/sessions/me?limit=0",
        "/sessions/admin/sessions",
    ] {
        told.send(browser, "GET", path, "").await;
    }
    told.send(browser, "HEAD", "/sessions/me", "").await;
    told.send(browser, "HEAD", "/sessions/me/events", "").await;
    told.send(browser, "DELETE", "/sessions/me/nonsense", "").await;
    told.send(browser, "POST", "/sessions/me/revoke-others", "").await;
    told.send(browser, "PUT", "/roles/alice", r#"{"roles":["admin"]}"#).await;
    let foreign = browser.ask("POST", "/logout").header("sec-fetch-site", "cross-site");
    told.answer("POST", "/logout of another origin", &foreign.send().await);
    told.post(browser, "/count", "").await;
    told.post(browser, "/rotate", "").await;
    told.post(browser, "/reauthenticate", "password=wrong").await;
    told.post(browser, "/reauthenticate", "password=alice").await;
}

/// A device gets a name, one is signed out, a limit refuses the next, and a ticket ends that one.
async fn devices_part(app: &App, root: &Client, told: &mut Transcript) {
    let (bob, second) = (app.browser("bob").await, app.browser("bob").await);
    let own = format!("/sessions/me/{}", bob.session_id().await);
    for name in [r#"{"device_name":"Kitchen"}"#, r#"{"device_name":7}"#, "{}", "["] {
        told.json(&bob, "PATCH", &own, name).await;
    }
    told.json(&app.stranger(), "PATCH", &own, r#"{"device_name":"x"}"#).await;
    told.json(&second, "PATCH", "/sessions/me/nonsense", r#"{"device_name":"x"}"#).await;
    told.send(&second, "POST", "/sessions/me/sign-out", "").await;
    told.send(&second, "GET", "/whoami", "").await;
    told.send(&second, "POST", "/sessions/me/sign-out", "").await;
    let page = second.ask("GET", "/vault").header("accept", "text/html").send().await;
    told.answer("GET", "/vault after a sign-out, as a page", &page);
    for query in ["", "?limit=1", "?limit=0", "?cause=revoked", "?cause=nothing"] {
        told.send(&bob, "GET", &format!("/sessions/me/history{query}"), "").await;
    }

    let limit = json!({
        "prevent_concurrent_login": "Disabled",
        "limits": [{ "max": 1, "scope": "user", "on_exceed": "reject" }],
    });
    told.send(root, "PUT", "/sessions/admin/policy?user=bob", &limit.to_string()).await;
    let refused = app.stranger().send("POST", "/login", &login_form("bob")).await;
    let problem = refused.problem(409);
    let ticket = problem["ticket"].as_str().unwrap();
    told.hide(ticket, "TICKET");
    told.answer("POST", "/login beyond a limit", &refused);
    let stranger = app.stranger();
    let page = stranger.ask("POST", "/login").header("accept", "text/html");
    let page = page.form(login_form("bob")).send().await;
    told.hide(ticket_of(page.text()), "TICKET");
    told.answer("POST", "/login beyond a limit, as a page", &page);
    // Lists go by time.
    app.advance(Duration::from_secs(1)).await;
    let end = bob.session_id().await;
    for (ticket, end) in
        [("", end.as_str()), ("x", &end), (ticket, "x"), (ticket, &end), (ticket, &end)]
    {
        let body = json!({ "ticket": ticket, "end": end }).to_string();
        told.json(&app.stranger(), "POST", "/sessions/ticket", &body).await;
    }
    told.send(&bob, "GET", "/whoami", "").await;
    told.send(root, "DELETE", "/sessions/admin/policy?user=bob", "").await;
}

async fn blocks_part(app: &App, root: &Client, told: &mut Transcript) {
    let bob = app.browser("south/bob").await;
    let path = "/sessions/admin/block?tenant=south&user=bob";
    told.send(root, "GET", path, "").await;
    for block in ["{", r#"{"until":"yesterday"}"#, r#"{"reason":"moved"}"#] {
        told.send(root, "PUT", path, block).await;
    }
    told.send(root, "GET", path, "").await;
    told.send(&bob, "GET", "/whoami", "").await;
    told.send(&app.stranger(), "POST", "/login", &login_form("south/bob")).await;
    told.send(root, "DELETE", path, "").await;
    told.send(root, "DELETE", path, "").await;
    told.send(root, "GET", "/sessions/admin/block?user=", "").await;
    told.send(&app.stranger(), "POST", "/login", &login_form("south/bob")).await;
}

/// By another site, by a token, and with several accounts in one browser.
async fn elsewhere_part(app: &App, told: &mut Transcript) {
    let stranger = app.stranger();
    let gone = stranger.send("GET", "/login/elsewhere", "").await;
    let (name, value) = gone.cookie().unwrap().split(';').next().unwrap().split_once('=').unwrap();
    told.hide(value, "FLOW");
    told.hide(name, "NAME");
    let provider = gone.header("location").unwrap();
    told.hide(provider.split("state=").nth(1).unwrap(), "STATE");
    told.answer("GET", "/login/elsewhere", &gone);
    told.send(&stranger, "GET", "/callback?state=x&user=alice", "").await;
    told.send(&stranger, "POST", "/callback", "state=x&user=alice").await;
    app.advance(Duration::from_secs(1)).await;
    told.json(&stranger, "POST", "/token", r#"{"user":"bob","password":"bob"}"#).await;
    let bob = app.browser("south/bob").await;
    told.send(&bob, "GET", "/accounts", "").await;
    told.send(&stranger, "GET", "/choose.js", "").await;
}

async fn privacy_part(root: &Client, told: &mut Transcript) {
    for path in [
        "/sessions/admin/history?user=bob&cause=signed-out",
        "/sessions/admin/history?cause=nothing",
        "/sessions/admin/history?since=nothing",
        "/sessions/admin/users/bob/export",
        "/sessions/admin/users/export?user=bob",
        "/sessions/admin/users/export",
    ] {
        told.send(root, "GET", path, "").await;
    }
    for path in [
        "/sessions/admin/users/bob/data",
        "/sessions/admin/users/data?user=bob",
        "/sessions/admin/users/data",
        "/sessions/admin/sessions",
        "/sessions/admin/sessions?user=",
        "/sessions/admin/sessions?tenant=south&user=bob",
        "/sessions/admin/sessions?all=maybe",
    ] {
        told.send(root, "DELETE", path, "").await;
    }
    told.send(root, "GET", "/sessions/admin/users/bob/export", "").await;
}

async fn admins_part(root: &Client, told: &mut Transcript) {
    for path in [
        "/sessions/admin",
        "/sessions/admin/sessions",
        "/sessions/admin/sessions?limit=1",
        "/sessions/admin/sessions?tenent=north",
        "/sessions/admin/policy",
    ] {
        told.send(root, "GET", path, "").await;
    }
    told.send(root, "PUT", "/roles/north/alice", r#"["auditor"]"#).await;
    let policy = r#"{"prevent_concurrent_login":"LogoutFromAllDevices"}"#;
    told.send(root, "PUT", "/sessions/admin/policy", policy).await;
    told.send(root, "PUT", "/sessions/admin/policy", "{").await;
    told.send(root, "DELETE", "/sessions/admin/policy", "").await;
    told.send(root, "DELETE", "/sessions/admin/users/north%2Falice/sessions", "").await;
    told.send(root, "DELETE", "/sessions/admin/sessions/nonsense", "").await;
    let mut stream = root.ask("GET", "/sessions/admin/events").open().await;
    let body = stream.until(": open\n\n").await.to_owned().into();
    let (status, headers) = (stream.status, stream.headers.clone());
    told.answer("GET", "/sessions/admin/events", &Answer { status, headers, body });
}

/// What was asked and answered, without what differs from run to run.
struct Transcript {
    /// What differs, and what stands for it.
    hidden: Vec<(String, &'static str)>,
    text: String,
}

impl Transcript {
    async fn send(&mut self, client: &Client, method: &str, path: &str, body: &str) {
        let answer = client.send(method, path, body).await;
        self.answer(method, path, &answer);
    }

    async fn json(&mut self, client: &Client, method: &str, path: &str, body: &str) {
        let answer = client.ask(method, path).json(body.to_owned()).send().await;
        self.answer(method, path, &answer);
    }

    fn hide(&mut self, text: &str, name: &'static str) {
        self.hidden.push((text.to_owned(), name));
    }

    async fn post(&mut self, client: &mut Client, path: &str, form: &str) {
        let answer = client.post(path, form).await;
        self.answer("POST", path, &answer);
    }

    fn answer(&mut self, method: &str, path: &str, answer: &Answer) {
        let mut text = format!("{method} {path}: {}\n", answer.status.as_u16());
        let (length, of_body) = (CONTENT_LENGTH.as_str(), answer.body.len().to_string());
        for name in HEADERS {
            for value in answer.headers.get_all(name) {
                let value = value.to_str().unwrap();
                // The time of the request, a year ago.
                let value = value.split("Expires=").next().unwrap();
                // A framework may name the character set that JSON has in any case.
                let value = value.replace("application/json; charset=utf-8", "application/json");
                // The lengths of times and tickets differ from run to run.
                let is_right = name == length && value == of_body;
                let value = if is_right { "that of the body".to_owned() } else { value };
                let _ = writeln!(text, "{method} {path}: {name}: {value}");
            }
        }
        // A first use is written back a moment later.
        let body = answer.text().replace(r#""claimed":true"#, r#""claimed":false"#);
        for line in body.lines() {
            let _ = writeln!(text, "{method} {path}: {line}");
        }
        let shown = |text: String, (hidden, name): &(String, &str)| text.replace(hidden, name);
        self.text += &masked(&self.hidden.iter().fold(text, shown));
    }
}

/// The ticket in a page that offers the choice.
fn ticket_of(page: &str) -> &str {
    let (_, rest) = page.split_once(r#"data-ticket=""#).unwrap();
    rest.split('"').next().unwrap()
}

/// The text without ids, tokens and times.
fn masked(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-:.".contains(c);
    let is_inner = |c: char| is_word(c) && !":.".contains(c);
    let words = text.split_inclusive(|c| !is_word(c));
    words
        .map(|word| {
            let (word, end) = word.split_at(word.trim_end_matches(|c| !is_inner(c)).len());
            let is_hex = word.chars().all(|c| c.is_ascii_hexdigit());
            let is_time =
                word.len() >= 20 && word[..4].parse::<u16>().is_ok() && word.ends_with('Z');
            let mask = match word.len() {
                36 if word.matches('-').count() == 4 => "ID",
                32.. if is_hex => "TOKEN",
                _ if is_time => "TIME",
                _ => word,
            };
            format!("{mask}{end}")
        })
        .collect()
}
