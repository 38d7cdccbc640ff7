//! One script on every adapter, with one transcript.

use std::fmt::Write;

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
    let mut told = Transcript { address: app.address.to_string(), text: String::new() };
    let mut browser = app.stranger();
    strangers_part(&browser, &mut told).await;
    told.post(&mut browser, "/login", &login_form("alice")).await;
    users_part(&mut browser, &mut told).await;
    let mut root = app.stranger();
    told.post(&mut root, "/login", &login_form("root")).await;
    admins_part(&root, &mut told).await;
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
    address: String,
    text: String,
}

impl Transcript {
    async fn send(&mut self, client: &Client, method: &str, path: &str, body: &str) {
        let answer = client.send(method, path, body).await;
        self.answer(method, path, &answer);
    }

    async fn post(&mut self, client: &mut Client, path: &str, form: &str) {
        let answer = client.post(path, form).await;
        self.answer("POST", path, &answer);
    }

    fn answer(&mut self, method: &str, path: &str, answer: &Answer) {
        let mut text = format!("{method} {path}: {}\n", answer.status.as_u16());
        for name in HEADERS {
            for value in answer.headers.get_all(name) {
                let value = value.to_str().unwrap();
                // The time of the request, a year ago.
                let value = value.split("Expires=").next().unwrap();
                // A framework may name the character set that JSON has in any case.
                let value = value.replace("application/json; charset=utf-8", "application/json");
                let _ = writeln!(text, "{method} {path}: {name}: {value}");
            }
        }
        for line in answer.text().lines() {
            let _ = writeln!(text, "{method} {path}: {line}");
        }
        self.text += &masked(&text.replace(&self.address, "ADDRESS"));
    }
}

/// The text without ids, tokens and times.
fn masked(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-:.".contains(c);
    let words = text.split_inclusive(|c| !is_word(c));
    words
        .map(|word| {
            let (word, end) = match word.char_indices().last() {
                Some((at, end)) if !is_word(end) => word.split_at(at),
                _ => (word, ""),
            };
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
