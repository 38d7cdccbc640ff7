//! A limit locks nobody out: the sessions, the ticket, and the choice.

use serde_json::{Value, json};
use session_core::ExtraData;
use session_engine::RotateReason;
use session_http::{Config, NewSession};

use crate::node::{Client, at_most, start, user};

fn choice(ticket: &Value, end: &str) -> String {
    json!({ "ticket": ticket, "end": end }).to_string()
}

#[tokio::test(start_paused = true)]
async fn a_refused_user_chooses_a_session_to_end_and_is_signed_in() {
    let http = start(at_most(2)).await;
    let old = Client::signed_in(&http, "alice").await;
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let new = Client::signed_in(&http, "alice").await;
    let mut third = Client::browser(&http);
    let listed = new.get("/me").await.ok()["sessions"].clone();
    let refused = third.sign_in(NewSession::of(user("alice"))).await;
    let problem = refused.problem(409, "too-many-sessions");
    assert_eq!(problem["limit"], 2);
    // As My devices shows them, but for which is the current one.
    let mut expected = listed.clone();
    for session in expected.as_array_mut().unwrap() {
        session["current"] = json!(false);
        session["claimed"] = problem["sessions"][0]["claimed"].clone();
    }
    let mut shown = problem["sessions"].clone();
    shown
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .for_each(|it| it["claimed"] = expected[0]["claimed"].clone());
    assert_eq!(shown, expected);
    let end = old.session_id().await.unwrap();
    let answer = third.ask("POST", "/ticket", &choice(&problem["ticket"], &end)).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    let cookie = answer.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("__Host-session=") && cookie.contains("HttpOnly"), "{cookie}");
    third.keep(&answer);
    assert_eq!((&answer.json["user"], &answer.json["token"]), (&json!("alice"), &Value::Null));
    assert_eq!(third.session_id().await.as_deref(), answer.json["session_id"].as_str());
    assert_eq!((old.session_id().await, new.session_id().await.is_some()), (None, true));
    // It works once.
    let (browser, body) = (Client::browser(&http), choice(&problem["ticket"], &end));
    browser.ask("POST", "/ticket", &body).await.problem(410, "invalid-ticket");
    assert_eq!(new.get("/me").await.ok()["total"], 2);
    http.shutdown().await;
}

/// All that a ticket holds is as long as it may be, and its use fits into a body.
#[tokio::test(start_paused = true)]
async fn the_longest_ticket_can_be_used() {
    let http = start(at_most(64)).await;
    let owner = user(&format!("{}/{}", "\"".repeat(128), "\"".repeat(255)));
    let new = NewSession::of(owner.clone())
        .with_data(ExtraData::new(&json!({ "a": "\"".repeat(2_044) })).unwrap())
        .with_impersonator(owner);
    let mut first = None;
    for _ in 0..64 {
        let client = Client::signed_in_as(&http, new.clone()).await;
        first.get_or_insert(client.session_id().await.unwrap());
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
    }
    let newcomer = Client::browser(&http);
    let problem = newcomer.sign_in(new).await.problem(409, "too-many-sessions");
    let body = choice(&problem["ticket"], &first.unwrap());
    assert!(body.len() < session_http::MAX_BODY_BYTES, "{}", body.len());
    newcomer.ask("POST", "/ticket", &body).await.ok();
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_ticket_answers_as_the_refused_sign_in_would_have() {
    let http = start(at_most(1)).await;
    let mut holder = Client::signed_in(&http, "alice").await;
    let browser = Client::browser(&http);
    for remember in [true, false] {
        let new = NewSession::of(user("alice")).with_remember(remember);
        let problem = browser.sign_in(new).await.problem(409, "too-many-sessions");
        let end = holder.session_id().await.unwrap();
        let answer = browser.ask("POST", "/ticket", &choice(&problem["ticket"], &end)).await;
        let cookie = answer.headers["set-cookie"].to_str().unwrap();
        assert_eq!(cookie.contains("Max-Age="), remember, "{cookie}");
        holder.keep(&answer);
    }
    // A program shows no proof of its origin, and has its token in the body.
    let mut program = Client::browser(&http);
    program.headers.clear();
    let refused = program.auth().await.sign_in_app("alice").await.unwrap_err();
    assert_eq!(refused.problem().too_many_sessions().unwrap().sessions.len(), 1);
    let ticket = refused.problem().ticket().unwrap();
    assert!(!format!("{refused:?}").contains(&ticket[2..]), "a ticket is a secret");
    let end = holder.session_id().await.unwrap();
    let answer = program.ask("POST", "/ticket", &choice(&json!(ticket), &end)).await;
    assert!(!answer.headers.contains_key("set-cookie"));
    program.bear(answer.json["token"].as_str().unwrap());
    assert_eq!(program.session_id().await.as_deref(), answer.json["session_id"].as_str());
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_ticket_obeys_the_rules_of_sign_ins_and_names_what_does_not_fit() {
    let http = start(at_most(1)).await;
    let holder = Client::signed_in(&http, "alice").await;
    let bob = Client::signed_in(&http, "bob").await;
    let browser = Client::browser(&http);
    let refused = browser.sign_in(NewSession::of(user("alice"))).await;
    let ticket = refused.problem(409, "too-many-sessions")["ticket"].clone();
    let (own, foreign) = (holder.session_id().await.unwrap(), bob.session_id().await.unwrap());
    let mut elsewhere = browser.clone();
    elsewhere.set("sec-fetch-site", "cross-site");
    elsewhere.ask("POST", "/ticket", &choice(&ticket, &own)).await.problem(403, "cross-origin");
    for (body, field) in [
        (json!({ "end": own }).to_string(), "ticket"),
        (choice(&json!(7), &own), "ticket"),
        (choice(&json!(""), &own), "ticket"),
        (json!({ "ticket": ticket }).to_string(), "end"),
        (choice(&ticket, "first"), "end"),
        (json!({ "ticket": ticket, "end": own, "more": 1 }).to_string(), "more"),
    ] {
        let problem = browser.ask("POST", "/ticket", &body).await.problem(400, "invalid");
        assert_eq!(problem["field"], field, "{body}");
    }
    for body in ["", "[]", "{", "null"] {
        browser.ask("POST", "/ticket", body).await.problem(400, "invalid");
    }
    let mut forged = ticket.as_str().unwrap().to_owned();
    let last = if forged.pop() == Some('A') { 'E' } else { 'A' };
    forged.push(last);
    for bad in ["x", &forged, &"a".repeat(9000)] {
        let answer = browser.ask("POST", "/ticket", &choice(&json!(bad), &own)).await;
        answer.problem(410, "invalid-ticket");
    }
    // Nobody ends another user's session with it; the new ticket works.
    let refused = browser.ask("POST", "/ticket", &choice(&ticket, &foreign)).await;
    let fresh = refused.problem(409, "too-many-sessions")["ticket"].clone();
    assert!(bob.session_id().await.is_some() && holder.session_id().await.is_some());
    browser.ask("POST", "/ticket", &choice(&fresh, &own)).await.ok();
    assert!(holder.session_id().await.is_none());
    browser.get("/ticket").await.problem(405, "method-not-allowed");
    http.shutdown().await;
}

/// The browser's former session ends, as with any sign-in.
#[tokio::test(start_paused = true)]
async fn a_ticket_takes_the_place_of_the_browsers_session() {
    let http = start(at_most(1)).await;
    let holder = Client::signed_in(&http, "alice").await;
    let bob = Client::signed_in(&http, "bob").await;
    let refused = bob.sign_in(NewSession::of(user("alice"))).await;
    let ticket = refused.problem(409, "too-many-sessions")["ticket"].clone();
    assert!(bob.session_id().await.is_some(), "nothing has happened yet");
    let end = holder.session_id().await.unwrap();
    bob.ask("POST", "/ticket", &choice(&ticket, &end)).await.ok();
    assert_eq!(bob.session_id().await, None);
    http.shutdown().await;
}

/// It ends with the use of a ticket, as with any sign-in.
#[tokio::test(start_paused = true)]
async fn a_planted_cookie_does_not_outlive_the_use_of_a_ticket() {
    let http = start(at_most(1)).await;
    let holder = Client::signed_in(&http, "alice").await;
    let refused = Client::browser(&http).sign_in(NewSession::of(user("alice"))).await;
    let ticket = refused.problem(409, "too-many-sessions")["ticket"].clone();
    let (bob, carol) =
        (Client::signed_in(&http, "bob").await, Client::signed_in(&http, "carol").await);
    let cookie = |client: &Client| client.headers["cookie"].to_str().unwrap().to_owned();
    let mut both = bob.clone();
    both.set("cookie", &format!("{}; {}", cookie(&bob), cookie(&carol)));
    let end = holder.session_id().await.unwrap();
    both.ask("POST", "/ticket", &choice(&ticket, &end)).await.ok();
    assert_eq!((bob.session_id().await, carol.session_id().await), (None, None));
    http.shutdown().await;
}

/// One outcome: signed in, and the other user's session ends.
#[tokio::test(start_paused = true)]
async fn a_sign_in_over_another_users_session_ends_it() {
    let http = start(Config::default()).await;
    let bob = Client::signed_in(&http, "bob").await;
    let mut alice = bob.clone();
    let answer = bob.sign_in(NewSession::of(user("alice"))).await;
    alice.keep(&answer);
    assert_eq!(alice.get("/me").await.ok()["user"], "alice");
    while bob.session_id().await.is_some() {
        tokio::task::yield_now().await;
    }
    http.shutdown().await;
}

/// The browser keeps a flow, and may write into it what it likes.
#[tokio::test(start_paused = true)]
async fn a_flow_ends_only_a_session_whose_token_the_browser_had() {
    let http = start(Config::default()).await;
    let bob = Client::signed_in(&http, "bob").await;
    let victim = Client::signed_in(&http, "alice").await;
    let (bobs, victims) = (bob.session_id().await.unwrap(), victim.session_id().await.unwrap());
    let (flow, cookie) = bob.auth().await.begin_flow("").unwrap();
    let answer = bob.answer(Ok(cookie)).await;
    let kept = answer.cookie().unwrap().to_owned();
    let plain = |id: &str| id.replace('-', "");
    assert!(kept.contains(&plain(&bobs)), "{kept}");
    let finish = async |cookie: &str| {
        let mut back = Client::browser(&http);
        back.set("cookie", cookie);
        let auth = back.auth().await;
        let (_, proof) = auth.finish_flow(&flow.state).unwrap();
        let _ = auth.sign_in_from_callback(proof, "carol").await.unwrap();
    };
    finish(&kept.replace(&plain(&bobs), &plain(&victims))).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(victim.session_id().await.is_some() && bob.session_id().await.is_some());
    // A genuine flow ends the session that the browser held.
    let (flow, cookie) = bob.auth().await.begin_flow("").unwrap();
    let answer = bob.answer(Ok(cookie)).await;
    let mut back = Client::browser(&http);
    back.set("cookie", answer.cookie().unwrap());
    let auth = back.auth().await;
    let (_, proof) = auth.finish_flow(&flow.state).unwrap();
    let _ = auth.sign_in_from_callback(proof, "carol").await.unwrap();
    while bob.session_id().await.is_some() {
        tokio::task::yield_now().await;
    }
    // Also where another tab has renewed the token in between, and used the new one.
    let mut dave = Client::signed_in(&http, "dave").await;
    let (flow, cookie) = dave.auth().await.begin_flow("").unwrap();
    let answer = dave.answer(Ok(cookie)).await;
    let mut back = Client::browser(&http);
    back.set("cookie", answer.cookie().unwrap());
    let renewed = dave.auth().await.rotate(RotateReason::Renewal).await;
    let renewed = dave.answer(renewed).await;
    dave.keep(&renewed);
    assert!(dave.session_id().await.is_some());
    let auth = back.auth().await;
    let (_, proof) = auth.finish_flow(&flow.state).unwrap();
    let _ = auth.sign_in_from_callback(proof, "carol").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(dave.session_id().await, None);
    http.shutdown().await;
}
