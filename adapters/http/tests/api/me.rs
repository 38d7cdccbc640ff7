//! What a session shows, names of devices, freshness and levels.

use std::time::Duration;

use http::{Method, Uri};
use serde_json::{Value, json};
use session_core::usage::Timeouts;
use session_core::{AssuranceLevel, AuthMethod};
use session_engine::{Proof, RotateReason};
use session_http::{Config, Head, NewSession, RequireSession};

use crate::node::{Client, start, user};

#[tokio::test(start_paused = true)]
async fn a_user_names_their_devices() {
    let http = start(Config::default()).await;
    let alice = Client::signed_in(&http, "alice").await;
    let other = Client::signed_in(&http, "alice").await.session_id().await.unwrap();
    let bob = Client::signed_in(&http, "bob").await;
    let path = format!("/me/{other}");
    let named = alice.ask("PATCH", &path, r#"{"device_name":"Kitchen tablet"}"#).await.ok();
    assert_eq!((&named["id"], &named["device_name"]), (&json!(other), &json!("Kitchen tablet")));
    let shown = async || {
        let me = alice.get("/me").await.ok();
        let sessions = me["sessions"].as_array().unwrap().clone();
        sessions.into_iter().find(|session| session["id"] == other).unwrap()["device_name"].clone()
    };
    assert_eq!(shown().await, "Kitchen tablet");
    let root = Client::signed_in(&http, "root").await;
    let seen = root.get(&format!("/admin/sessions/{other}")).await.ok();
    assert_eq!(seen["device_name"], "Kitchen tablet");
    for (body, field) in [
        ("{}", "device_name"),
        (r#"{"device_name":""}"#, "device_name"),
        (r#"{"device_name":7}"#, "device_name"),
        (r#"{"device_name":"a\u0000b"}"#, "device_name"),
        (r#"{"device_name":null,"user":"bob"}"#, "user"),
    ] {
        let problem = alice.ask("PATCH", &path, body).await.problem(400, "invalid");
        assert_eq!(problem["field"], field, "{body}");
    }
    let long = json!({ "device_name": "x".repeat(129) }).to_string();
    assert_eq!(alice.ask("PATCH", &path, &long).await.problem(400, "invalid")["limit"], 128);
    let name = r#"{"device_name":"x"}"#;
    bob.ask("PATCH", &path, name).await.problem(404, "not-found");
    alice.ask("PATCH", "/me/first", name).await.problem(400, "invalid");
    alice.ask("PATCH", "/me/history", name).await.problem(405, "method-not-allowed");
    Client::browser(&http).ask("PATCH", &path, name).await.problem(401, "unauthorized");
    let mut elsewhere = alice.clone();
    elsewhere.set("sec-fetch-site", "cross-site");
    elsewhere.ask("PATCH", &path, name).await.problem(403, "cross-origin");
    assert_eq!(shown().await, "Kitchen tablet");
    alice.ask("PATCH", &path, r#"{"device_name":null}"#).await.ok();
    assert_eq!(shown().await, Value::Null);
    http.shutdown().await;
}

/// The answer to a name is the session as the lists show it.
#[tokio::test(start_paused = true)]
async fn a_named_session_is_shown_as_it_is_known() {
    let idle = Duration::from_secs(600);
    let mut config = Config::default();
    config.engine.timeouts = Timeouts::none().with_idle(idle);
    let http = start(config).await;
    let alice = Client::signed_in(&http, "alice").await;
    let other = Client::signed_in(&http, "alice").await.session_id().await.unwrap();
    let path = format!("/me/{}", alice.session_id().await.unwrap());
    tokio::time::sleep(idle / 2).await;
    let named = alice.ask("PATCH", &path, r#"{"device_name":"Laptop"}"#).await.ok();
    assert_eq!(named, alice.get("/me").await.ok()["sessions"][0]);
    tokio::time::sleep(idle / 2).await;
    let name = r#"{"device_name":"Phone"}"#;
    let idle = alice.ask("PATCH", &format!("/me/{other}"), name).await;
    idle.problem(404, "not-found");
    http.shutdown().await;
}

fn proof(level: AssuranceLevel) -> Proof {
    let methods = ["pwd", "otp"].map(|word| AuthMethod::new(word).unwrap());
    Proof::default().with_level(level).with_methods(methods)
}

#[tokio::test(start_paused = true)]
async fn a_session_shows_how_its_user_proved_who_they_are() {
    let http = start(Config::default()).await;
    let at = http.manager().now().minus(Duration::from_secs(300));
    let new = NewSession::of(user("alice")).with_proof(proof(AssuranceLevel::Aal2).at(at));
    let alice = Client::signed_in_as(&http, new).await;
    let session = alice.get("/me").await.ok()["sessions"][0].clone();
    assert_eq!((&session["level"], &session["methods"]), (&json!("aal2"), &json!(["pwd", "otp"])));
    assert_eq!(session["authenticated_at"], at.to_string());
    assert_eq!((&session["impersonator"], &session["device_name"]), (&Value::Null, &Value::Null));
    assert!(session["claimed"].is_boolean(), "{session}");
    let plain = Client::signed_in(&http, "bob").await;
    let session = plain.get("/me").await.ok()["sessions"][0].clone();
    assert_eq!((&session["level"], &session["methods"]), (&Value::Null, &json!([])));
    http.shutdown().await;
}

async fn allowed(client: &Client, guard: &RequireSession) -> u16 {
    let (method, uri) = (Method::GET, Uri::from_static("/vault"));
    let head = Head::new(&method, &uri, &client.headers);
    match client.request(head).await.require(head, guard) {
        Ok(()) => 200,
        Err(refused) => refused.status().as_u16(),
    }
}

/// The token before a step-up is accepted for some seconds more, and gains nothing by it.
#[tokio::test(start_paused = true)]
async fn a_replaced_token_is_not_fresh() {
    let http = start(Config::default()).await;
    let old = Client::signed_in(&http, "alice").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let fresh = RequireSession::signed_in().fresh_within(Duration::from_secs(300));
    let strong = RequireSession::signed_in().at_level(AssuranceLevel::Aal2);
    assert_eq!((allowed(&old, &fresh).await, allowed(&old, &strong).await), (401, 401));
    let reason = RotateReason::Reauthenticated(proof(AssuranceLevel::Aal3));
    let cookie = old.auth().await.rotate(reason).await;
    let mut new = old.clone();
    new.keep(&old.answer(cookie).await);
    assert_eq!(allowed(&old, &fresh).await, 401, "the new one is not used yet");
    assert_eq!((allowed(&new, &fresh).await, allowed(&new, &strong).await), (200, 200));
    let anybody = RequireSession::signed_in();
    assert_eq!(allowed(&old, &anybody).await, 200, "it is in its grace");
    assert_eq!((allowed(&old, &fresh).await, allowed(&old, &strong).await), (401, 401));
    http.shutdown().await;
}
