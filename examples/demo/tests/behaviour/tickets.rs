//! What a user does whom a limit has refused.

use std::time::Duration;

use serde_json::{Value, json};
use session_kit::http::Config;

use crate::app::{App, Ground, user_of};
use crate::client::{Answer, Client, login_form};

/// One session per user, and the newcomer is refused.
pub(crate) fn one_session(config: &mut Config) {
    let limit = json!({ "max": 1, "scope": "user", "on_exceed": "reject" });
    let policy = serde_json::from_value(json!({ "limits": [limit] }));
    config.engine.default_policy = policy.unwrap();
}

async fn refused(client: &Client, form: &str) -> Value {
    let problem = client.send("POST", "/login", form).await.problem(409);
    assert_eq!(problem["type"], "urn:session-kit:too-many-sessions");
    assert_eq!(problem["limit"], 1);
    problem
}

async fn redeem(client: &Client, ticket: &Value, end: &Value) -> Answer {
    let body = json!({ "ticket": ticket, "end": end }).to_string();
    client.ask("POST", "/sessions/ticket").json(body).send().await
}

pub(crate) async fn a_refused_user_ends_a_session_and_is_signed_in(on: Ground) {
    let app = App::with(on, one_session).await;
    let old = app.browser("alice").await;
    let mut new = app.stranger();
    let problem = refused(&new, &format!("{}&remember=on", login_form("alice"))).await;
    let (ticket, sessions) = (&problem["ticket"], problem["sessions"].as_array().unwrap());
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0]["id"], old.session_id().await.as_str());
    assert_eq!(sessions[0]["ip_addresses"], json!(["127.0.0.1"]));

    let commits = || app.probe.calls()["commit"];
    let before = commits();
    let answer = redeem(&new, ticket, &sessions[0]["id"]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(commits() - before, 1, "one ends and the other begins in one step");
    assert!(answer.cookie().unwrap().contains("; Max-Age="), "as the sign-in asked");
    new.keep(&answer);
    assert_eq!(user_of(&new).await, "alice");
    assert_eq!(new.session_id().await, answer.json()["session_id"].as_str().unwrap());
    old.get("/whoami").await.problem(401);

    let own = json!(new.session_id().await);
    let again = redeem(&app.stranger(), ticket, &own).await.problem(410);
    assert_eq!(again["type"], "urn:session-kit:invalid-ticket");
    assert_eq!(user_of(&new).await, "alice", "a used ticket ends nothing");
    let ended = new.get("/sessions/me/history").await.json();
    assert_eq!(ended["sessions"][0]["cause"], "revoked");
}

pub(crate) async fn a_ticket_is_good_for_its_user_and_for_a_while(on: Ground) {
    let app = App::with(on, one_session).await;
    let (alice, bob) = (app.browser("alice").await, app.browser("bob").await);
    let (own, bobs) = (json!(alice.session_id().await), json!(bob.session_id().await));
    let stranger = app.stranger();
    let ticket = refused(&stranger, &login_form("alice")).await["ticket"].clone();
    let problem = redeem(&stranger, &ticket, &bobs).await.problem(409);
    assert_eq!(user_of(&bob).await, "bob", "a ticket of alice's ends no session of bob's");
    assert_ne!(problem["ticket"], ticket, "it was refused once more, with a new ticket");

    let changed = format!("{}A", ticket.as_str().unwrap());
    for bad in [json!("x"), json!(changed)] {
        redeem(&stranger, &bad, &own).await.problem(410);
    }
    for (ticket, end) in [(&json!(7), &own), (&json!(""), &own), (&ticket, &json!("x")), (&ticket, &Value::Null)] {
        redeem(&stranger, ticket, end).await.problem(400);
    }
    let body = json!({ "ticket": ticket, "end": own }).to_string();
    let ask = stranger.ask("POST", "/sessions/ticket").without("sec-fetch-site");
    ask.header("origin", "https://evil.example").json(body).send().await.problem(403);
    app.advance(Duration::from_secs(301)).await;
    redeem(&stranger, &ticket, &own).await.problem(410);
    assert_eq!(user_of(&alice).await, "alice");
}

pub(crate) async fn an_app_gets_its_token_for_a_ticket(on: Ground) {
    let app = App::with(on, one_session).await;
    app.browser("alice").await;
    let credentials = r#"{"user":"alice","password":"alice"}"#;
    let ask = app.stranger().ask("POST", "/token").json(credentials).send().await;
    let problem = ask.problem(409);
    let answer = redeem(&app.stranger(), &problem["ticket"], &problem["sessions"][0]["id"]).await;
    assert_eq!((answer.status.as_u16(), answer.cookie()), (200, None));
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let client = app.stranger();
    let ask = client.ask("GET", "/whoami").header("authorization", format!("Bearer {token}"));
    assert_eq!(ask.send().await.json()["session_id"], answer.json()["session_id"]);
}

pub(crate) async fn a_browser_is_offered_the_choice(on: Ground) {
    let app = App::with(on, one_session).await;
    let alice = app.browser("alice").await;
    let stranger = app.stranger();
    let form = format!("{}&next=/vault", login_form("alice"));
    let ask = stranger.ask("POST", "/login").header("accept", "text/html").form(form);
    let answer = ask.send().await;
    assert_eq!((answer.status.as_u16(), answer.cookie()), (409, None));
    let page = answer.text();
    for part in [
        "as many devices as you may be",
        r#"data-to="/sessions/ticket""#,
        r#"data-next="/vault""#,
        "Last used just now from 127.0.0.1",
        &format!(r#"name="end" value="{}""#, alice.session_id().await),
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let script = stranger.get("/choose.js").await;
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
}
