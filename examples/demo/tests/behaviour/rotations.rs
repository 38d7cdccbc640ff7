//! Answers that are lost on the way, copies of tokens, and renewal.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::app::{App, Ground, eventually, user_of};
use crate::client::{Answer, Client};
use crate::doors::cookies;

fn holding(browser: &Client, answer: &Answer) -> Client {
    let cookie = answer.cookie().unwrap().split(';').next().unwrap().to_owned();
    Client { cookie: Some(cookie), ..browser.clone() }
}

/// The answer with the new cookie does not arrive, twice; the owner stays in, and a copy is found.
pub(crate) async fn a_lost_rotation_is_repeated(on: Ground) {
    let app = App::start(on).await;
    let old = app.browser("alice").await;
    let lost = old.send("POST", "/rotate", "").await;
    app.advance(Duration::from_secs(3600)).await;
    assert_eq!(user_of(&old).await, "alice", "the new token was never used");
    let again = old.send("POST", "/rotate", "").await;
    assert_eq!(again.cookie(), lost.cookie(), "the same token, until it is used");
    let new = holding(&old, &again);
    assert_eq!(user_of(&new).await, "alice");
    app.advance(Duration::from_secs(9)).await;
    assert_eq!(user_of(&old).await, "alice", "its grace began with the first use of the new one");
    app.advance(Duration::from_secs(2)).await;
    assert_eq!((user_of(&old).await, user_of(&new).await), ("nobody".into(), "nobody".into()));
    let root = app.browser("root").await;
    let ended = root.get("/sessions/admin/history?user=alice").await.json();
    assert_eq!(ended["sessions"][0]["cause"], "token_reused");
}

pub(crate) async fn many_rotations_of_one_token_are_one(on: Ground) {
    let app = App::start(on).await;
    let browser = app.browser("alice").await;
    let mut requests = JoinSet::new();
    for _ in 0..16 {
        let browser = browser.clone();
        requests.spawn(async move { browser.send("POST", "/rotate", "").await });
    }
    let mut cookies: Vec<_> = requests
        .join_all()
        .await
        .into_iter()
        .map(|answer| answer.cookie().unwrap().to_owned())
        .collect();
    cookies.sort();
    cookies.dedup();
    assert_eq!(cookies.len(), 1);
    let token = cookies[0].split(';').next().unwrap().to_owned();
    let new = Client { cookie: Some(token), ..browser };
    assert_eq!(user_of(&new).await, "alice");
}

/// A request with the old token, in its grace, is as fresh as it was before the step-up.
pub(crate) async fn a_replaced_token_gains_no_freshness(on: Ground) {
    let app = App::start(on).await;
    let mut browser = app.browser("alice").await;
    app.advance(Duration::from_secs(400)).await;
    let before = browser.clone();
    assert_eq!(browser.post("/reauthenticate", "password=alice").await.status, 200);
    before.get("/vault").await.problem(401);
    assert_eq!(browser.get("/vault").await.status, 200);
    assert_eq!(user_of(&before).await, "alice", "in its grace");
    let cookie = before.cookie.clone().unwrap();
    let again = format!("{cookie}.r");
    let beside = |other| cookies(&before, &[&cookie, other]);
    for before in [before.clone(), beside("__Host-session=x"), beside(&again)] {
        assert_eq!(user_of(&before).await, "alice");
        let problem = before.get("/vault").await.problem(401);
        assert_eq!(problem["type"], "urn:session-kit:reauthentication-required");
    }
}

pub(crate) async fn a_token_is_renewed_by_navigations_only(on: Ground) {
    let app = App::with(on, |config| {
        config.engine.renew_after = Some(Duration::from_secs(60));
    })
    .await;
    let browser = app.browser("alice").await;
    let ask = async |browser: &Client, method: &str, mode: &str, dest: &str, purpose: &str| {
        let ask = browser.ask(method, "/").header("sec-fetch-mode", mode);
        ask.header("sec-fetch-dest", dest).header("sec-purpose", purpose).send().await
    };
    let navigate =
        async |browser: &Client| ask(browser, "GET", "navigate", "document", "none").await;
    assert_eq!(navigate(&browser).await.cookie(), None, "it is new");
    app.advance(Duration::from_secs(61)).await;
    for (method, mode, dest, purpose) in [
        ("GET", "cors", "empty", "none"),
        ("GET", "no-cors", "image", "none"),
        ("GET", "navigate", "iframe", "none"),
        ("GET", "navigate", "document", "prefetch"),
        ("POST", "navigate", "document", "none"),
    ] {
        let answer = ask(&browser, method, mode, dest, purpose).await;
        assert_eq!(answer.cookie(), None, "{method} {mode} {dest} {purpose}");
    }
    assert_eq!(browser.get("/").await.cookie(), None);
    let lost = navigate(&browser).await;
    assert_eq!(lost.header("cache-control"), Some("no-store"));
    let renewed = navigate(&browser).await;
    assert_eq!(renewed.cookie(), lost.cookie(), "an answer that was lost is repeated");
    let new = holding(&browser, &renewed);
    assert_eq!(navigate(&new).await.cookie(), None);
    assert_eq!(new.session_id().await, browser.session_id().await);

    // A copy is found: the owner's browser was renewed, and went on.
    let owner = app.browser("bob").await;
    let thief = owner.clone();
    app.advance(Duration::from_secs(61)).await;
    let owner = holding(&owner, &navigate(&owner).await);
    assert_eq!(user_of(&owner).await, "bob");
    app.advance(Duration::from_secs(11)).await;
    assert_eq!(user_of(&thief).await, "nobody");
    assert_eq!(user_of(&owner).await, "nobody");
}

/// The sign-in does not wait for what becomes of the other user's session.
pub(crate) async fn another_users_session_is_left_behind_ended(on: Ground) {
    let app = App::start(on).await;
    let mut browser = app.browser("alice").await;
    let before = browser.clone();
    app.probe.fail("end_many", true);
    assert_eq!(browser.login("bob").await, 303, "one outcome, and it is a sign-in");
    assert_eq!(user_of(&browser).await, "bob");
    app.probe.fail("end_many", false);
    let ended = async || user_of(&before).await == "nobody";
    eventually("the former session is ended once the store can be asked", ended).await;
    let root = app.browser("root").await;
    let ended = root.get("/sessions/admin/history?user=alice").await.json();
    assert_eq!(ended["sessions"][0]["cause"], "replaced");
}

pub(crate) async fn who_acts_as_another_is_shown_and_administers_nothing(on: Ground) {
    let app = App::start(on).await;
    let (mut root, admin) = (app.browser("root").await, app.browser("root").await);
    let (alice, mut boss) = (app.browser("alice").await, app.browser("north/boss").await);
    let act = async |client: &Client, user: &str| {
        client.send("POST", "/impersonate", &format!("user={user}")).await
    };
    act(&alice, "bob").await.problem(403);
    act(&boss, "alice").await.problem(403);
    act(&boss, "south/alice").await.problem(403);
    act(&app.stranger(), "alice").await.problem(401);
    for origin in [None, Some("cross-site")] {
        let ask = admin.ask("POST", "/impersonate").without("sec-fetch-site");
        let ask = origin.into_iter().fold(ask, |ask, site| ask.header("sec-fetch-site", site));
        ask.form("user=alice").send().await.problem(403);
    }
    let stale = app.browser("root").await;
    app.advance(Duration::from_secs(301)).await;
    let problem = act(&stale, "alice").await.problem(401);
    assert_eq!(problem["type"], "urn:session-kit:reauthentication-required");
    for browser in [&mut root, &mut boss] {
        let name = user_of(browser).await;
        let password = if name == "root" { "root" } else { "north%2Fboss" };
        let form = format!("password={password}");
        assert_eq!(browser.post("/reauthenticate", &form).await.status, 200, "{name}");
    }
    act(&root, "nobody").await.problem(404);
    assert_eq!(alice.get("/whoami").await.json()["impersonator"], json!(null));

    let mut events = admin.ask("GET", "/sessions/admin/events").open().await;
    events.until(": open").await;
    let answer = root.post("/impersonate", "user=alice").await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let told = events.until(r#""user":"alice""#).await;
    let begun = told.split_once("event: created").map(|(_, begun)| begun);
    assert!(begun.is_some_and(|begun| begun.contains(r#""by":"user:root""#)), "{told}");
    let me = root.get("/whoami").await.json();
    assert_eq!((&me["user"], &me["impersonator"]), (&json!("alice"), &json!("root")));
    assert!(root.get("/").await.text().contains("acting as"));
    let problem = root.get("/sessions/admin/sessions").await.problem(403);
    assert_eq!(problem["type"], "urn:session-kit:impersonated");
    act(&root, "bob").await.problem(403);
    // Admins and the user see it.
    let id = root.session_id().await;
    let shown = admin.get(&format!("/sessions/admin/sessions/{id}")).await.json();
    assert_eq!(shown["impersonator"], "root");
    let mine = alice.get("/sessions/me").await.json();
    let sessions = mine["sessions"].as_array().unwrap();
    let acting: Vec<_> = sessions.iter().filter(|one| one["impersonator"] == "root").collect();
    assert_eq!((acting.len(), &acting[0]["id"]), (1, &json!(id)));
    root.post("/logout", "").await;
    let ended = alice.get("/sessions/me/history").await.json();
    assert_eq!(ended["sessions"][0]["impersonator"], "root");
    let mate = act(&boss, "north/alice").await;
    assert_eq!(mate.status, 303);
}
