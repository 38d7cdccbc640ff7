//! Sign-in, sign-out, rotation and what a request is taken for.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use session_kit::UserKey;
use session_kit::core::Actor;
use session_kit::core::store::TenantFilter;
use session_kit::http::ForwardingHeader;

use crate::app::{App, Ground, user_of};
use crate::client::{Client, login_form};
use crate::tickets::one_session;

pub(crate) async fn a_session_begins_is_known_and_ends(on: Ground) {
    let app = App::start(on).await;
    let mut browser = app.stranger();
    assert_eq!(user_of(&browser).await, "nobody");
    browser.get("/whoami").await.problem(401);
    let answer = browser.post("/login", "user=alice&password=wrong").await;
    assert_eq!((answer.status.as_u16(), answer.cookie()), (401, None));
    let answer = browser.post("/login", &login_form("alice")).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some("/")));
    let cookie = answer.cookie().unwrap();
    assert!(cookie.starts_with("__Host-session="), "{cookie}");
    for attribute in ["; HttpOnly", "; SameSite=Lax", "; Secure", "; Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("Domain") && !cookie.contains("Max-Age"), "{cookie}");
    assert_eq!(user_of(&browser).await, "alice");
    let me = browser.get("/whoami").await.json();
    assert_eq!((&me["user"], &me["tenant"]), (&json!("alice"), &json!(null)));
    let before = browser.cookie.clone();
    let answer = browser.post("/logout", "").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some("/login")));
    assert!(answer.cookie().unwrap().contains("Max-Age=0"));
    browser.cookie = before;
    assert_eq!(user_of(&browser).await, "nobody", "the old cookie is worth nothing");
}

/// Sign-out, and it alone, takes back a cookie that is worth nothing.
pub(crate) async fn a_second_sign_out_does_no_harm(on: Ground) {
    let app = App::start(on).await;
    let mut browser = app.browser("alice").await;
    let dead = browser.cookie.clone();
    browser.post("/logout", "").await;
    for cookie in [dead, Some("__Host-session=x".to_owned())] {
        browser.cookie = cookie;
        let answer = browser.send("POST", "/logout", "").await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some("/login")));
        assert!(answer.cookie().unwrap().contains("Max-Age=0"));
    }
    let answer = app.stranger().send("POST", "/logout", "").await;
    assert_eq!((answer.status.as_u16(), answer.cookie()), (303, None), "nothing to take back");
}

/// However many requests change them at once.
pub(crate) async fn changes_of_the_data_are_not_lost(on: Ground) {
    let app = App::start(on).await;
    let browser = app.browser("alice").await;
    let counts = join_all((0..20).map(|_| browser.send("POST", "/count", ""))).await;
    let mut counts: Vec<u32> =
        counts.iter().map(|answer| answer.text().trim().parse().unwrap()).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=20).collect::<Vec<_>>());
    let root = app.browser("root").await;
    let shown = root.get("/sessions/admin/sessions?user=alice").await.json();
    assert_eq!(shown["sessions"][0]["data"]["count"], 20, "{shown}");
    let foreign = browser.ask("POST", "/count").without("sec-fetch-site");
    let foreign = foreign.header("sec-fetch-site", "cross-site");
    assert_eq!(foreign.send().await.problem(403)["type"], "urn:session-kit:cross-origin");
}

/// A refused token is answered as anonymous, and the browser's cookie is left alone (G11).
pub(crate) async fn a_refusal_writes_no_cookie(on: Ground) {
    let app = App::start(on).await;
    let mut browser = app.browser("alice").await;
    let alice = UserKey::new("alice".parse().unwrap());
    app.http.manager().revoke_user(alice, Actor::Application).await.unwrap();
    let unknown = format!("__Host-session={}", "0".repeat(104));
    for cookie in [browser.cookie.clone(), Some("__Host-session=x".to_owned()), Some(unknown)] {
        browser.cookie = cookie;
        let answer = browser.get("/").await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("Nobody is signed in"));
        assert_eq!(answer.cookie(), None);
        for path in ["/whoami", "/vault", "/roles", "/sessions/me", "/sessions/admin/sessions"] {
            browser.get(path).await.problem(401);
        }
        for path in ["/rotate", "/sessions/me/revoke-others"] {
            browser.send("POST", path, "").await.problem(401);
        }
        let answer = browser.get("/sessions/").await;
        assert_eq!((answer.status.as_u16(), answer.cookie()), (303, None));
    }
}

pub(crate) async fn rotation_replaces_the_cookie(on: Ground) {
    let app = App::start(on).await;
    let mut browser = app.browser("alice").await;
    let id = browser.session_id().await;
    let old = browser.cookie.clone();
    let answer = browser.post("/rotate", "").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["session_id"]), (200, &json!(id)));
    assert_ne!(browser.cookie, old);
    assert_eq!(browser.session_id().await, id);
    // A request beside it that carries the old cookie, after the new one was used, writes none.
    let beside = Client { cookie: old, ..app.stranger() };
    let answer = beside.send("POST", "/rotate", "").await;
    assert_eq!((answer.status.as_u16(), answer.cookie()), (200, None));
}

pub(crate) async fn a_proof_of_the_password_refreshes_the_session(on: Ground) {
    let app = App::start(on).await;
    let mut browser = app.browser("alice").await;
    assert_eq!(browser.get("/vault").await.status, 200);
    app.advance(Duration::from_secs(290)).await;
    assert_eq!(browser.get("/vault").await.status, 200);
    app.advance(Duration::from_secs(12)).await;
    let problem = browser.get("/vault").await.problem(401);
    assert_eq!(problem["type"], "urn:session-kit:reauthentication-required");
    // Renewal is no proof of who it is, and neither is a wrong password.
    assert_eq!(browser.post("/rotate", "").await.status, 200);
    browser.get("/vault").await.problem(401);
    let answer = browser.post("/reauthenticate", "password=guess").await;
    let problem = answer.problem(401);
    assert_eq!(problem["type"], "urn:session-kit:reauthentication-required");
    browser.get("/vault").await.problem(401);
    let old = browser.cookie.clone();
    assert_eq!(browser.post("/reauthenticate", "password=alice").await.status, 200);
    assert_ne!(browser.cookie, old, "who has seen the old token is not refreshed");
    assert_eq!(browser.get("/vault").await.status, 200);
}

pub(crate) async fn a_stolen_token_ends_the_session(on: Ground) {
    let app = App::start(on).await;
    let mut browser = app.browser("alice").await;
    let thief = Client { cookie: browser.cookie.clone(), ..app.stranger() };
    browser.post("/rotate", "").await;
    assert_eq!(user_of(&browser).await, "alice");
    assert_eq!(user_of(&thief).await, "alice", "for its grace");
    app.advance(Duration::from_secs(11)).await;
    assert_eq!(user_of(&thief).await, "nobody");
    assert_eq!(user_of(&browser).await, "nobody", "a stolen token ends the session");
}

pub(crate) async fn a_page_of_another_origin_signs_nobody_in_or_out(on: Ground) {
    let app = App::start(on).await;
    let mut browser = app.browser("alice").await;
    let forms = [
        ("/login", "user=bob&password=bob"),
        ("/logout", ""),
        ("/rotate", ""),
        ("/reauthenticate", "password=alice"),
    ];
    let foreign =
        [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example"), ("origin", "null")];
    for (path, form) in forms {
        for (name, value) in foreign {
            let ask = browser.ask("POST", path).without("sec-fetch-site").header(name, value);
            let problem = ask.form(form).send().await.problem(403);
            assert_eq!(problem["type"], "urn:session-kit:cross-origin", "{path}");
        }
    }
    assert_eq!(user_of(&browser).await, "alice");
    assert_eq!(browser.login("bob").await, 303);
    assert_eq!(user_of(&browser).await, "bob");
}

pub(crate) async fn signing_in_again_leaves_no_session_behind(on: Ground) {
    let app = App::start(on).await;
    let mut browser = app.browser("alice").await;
    browser.login("alice").await;
    let me = browser.get("/sessions/me").await.json();
    assert_eq!(me["sessions"].as_array().unwrap().len(), 1);
    browser.login("bob").await;
    let other = app.browser("alice").await;
    let me = other.get("/sessions/me").await.json();
    assert_eq!(me["sessions"].as_array().unwrap().len(), 1, "the browser's first user is out");
}

pub(crate) async fn the_request_says_what_the_session_records(on: Ground) {
    let app = App::with(on, |config| {
        config.http.client_ip.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let mut browser = app.stranger();
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    let ask = browser.ask("POST", "/login").form(login_form("alice"));
    let ask = ask.header("user-agent", agent);
    let answer = ask.header("x-forwarded-for", "6.6.6.6, 198.51.100.9").send().await;
    browser.keep(&answer);
    let ask = browser.ask("GET", "/sessions/me").header("x-forwarded-for", "198.51.100.10");
    let me = ask.send().await.json();
    let session = &me["sessions"][0];
    assert_eq!(session["device_kind"], "Web");
    assert_eq!(session["device_info"], "Firefox 140 on Linux");
    assert_eq!(session["ip_addresses"], json!(["198.51.100.9", "198.51.100.10"]));
}

pub(crate) async fn client_hints_say_more_than_the_agent(on: Ground) {
    let app = App::start(on).await;
    let mut browser = app.stranger();
    let agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
        Chrome/141.0.0.0 Safari/537.36";
    let ask = browser.ask("POST", "/login").form(login_form("alice"));
    let ask = ask.header("user-agent", agent).header("sec-ch-ua-mobile", "?1");
    let ask = ask.header("sec-ch-ua", r#""Chromium";v="141", "Brave";v="141""#);
    let answer = ask.header("sec-ch-ua-platform", "\"Android\"").send().await;
    browser.keep(&answer);
    let session = &browser.get("/sessions/me").await.json()["sessions"][0];
    assert_eq!(
        (&session["device_kind"], &session["device_info"]),
        (&json!("Mobile"), &json!("Brave 141 on Android"),)
    );
}

pub(crate) async fn a_quoted_address_is_text(on: Ground) {
    let app = App::with(on, |config| {
        config.http.client_ip.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
        config.http.client_ip.header = ForwardingHeader::Forwarded;
    })
    .await;
    let mut browser = app.stranger();
    let ask = browser.ask("POST", "/login").form(login_form("alice"));
    let forwarded = r#"for=203.0.113.9;host="x,for=6.6.6.6""#;
    let answer = ask.header("forwarded", forwarded).send().await;
    browser.keep(&answer);
    let me = browser.ask("GET", "/sessions/me").header("forwarded", "for=203.0.113.9");
    let me = me.send().await.json();
    assert_eq!(me["sessions"][0]["ip_addresses"], json!(["203.0.113.9"]));
}

/// Neither a zero-width space nor text that runs backwards makes a name that looks like another.
pub(crate) async fn a_name_that_looks_like_another_is_refused(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    for name in ["ali%E2%80%8Bce", "%E2%80%AEecila", "alice%EF%BB%BF", "alice%0A"] {
        let form = format!("{}&device={name}", login_form("alice"));
        let problem = app.stranger().send("POST", "/login", &form).await.problem(400);
        assert_eq!(problem["field"], "device_kind", "{name}: {problem}");
        let problem = root.get(&format!("/sessions/admin/sessions?tenant={name}")).await;
        assert_eq!(problem.problem(400)["field"], "tenant", "{name}");
        let problem = root.delete(&format!("/sessions/admin/users/{name}/sessions")).await;
        assert_eq!(problem.problem(400)["field"], "user", "{name}");
    }
}

pub(crate) async fn prefetches_and_preflights_do_not_keep_a_session_alive(on: Ground) {
    let app = App::start(on).await;
    let browser = app.browser("alice").await;
    let used = async || {
        let manager = app.http.manager();
        let page = manager.list(&manager.query(TenantFilter::Any)).await.unwrap();
        page.sessions[0].last_accessed
    };
    let before = used().await;
    app.advance(Duration::from_secs(1)).await;
    for (name, value) in [("sec-purpose", "prefetch;prerender"), ("purpose", "prefetch")] {
        let answer = browser.ask("GET", "/whoami").header(name, value).send().await;
        assert_eq!(answer.status, 200);
    }
    browser.send("OPTIONS", "/sessions/me", "").await;
    assert_eq!(used().await, before);
    browser.send("HEAD", "/sessions/me", "").await;
    assert!(used().await > before);
}

/// A browser that signs in again has a session, whether or not the answer arrives (G17): by its cookie and by
/// a bearer token.
pub(crate) async fn a_sign_in_whose_answer_is_lost_signs_nobody_out(on: Ground) {
    let app = App::with(on, one_session).await;
    let mut browser = app.browser("alice").await;
    let id = browser.session_id().await;
    let mut cookies = Vec::new();
    for _ in 0..3 {
        let answer = browser.send("POST", "/login", &login_form("alice")).await;
        assert_eq!(answer.status, 303);
        cookies.push(answer);
        assert_eq!(browser.session_id().await, id, "it goes on with what it holds");
        app.advance(Duration::from_secs(60)).await;
    }
    let before = browser.clone();
    // All three answers have the same token.
    browser.keep(&cookies[0]);
    assert_ne!(browser.cookie, before.cookie);
    assert_eq!(cookies[0].cookie(), cookies[2].cookie());
    assert_eq!(browser.session_id().await, id);
    app.advance(Duration::from_secs(11)).await;
    assert_eq!(user_of(&browser).await, "alice");
    assert_eq!(user_of(&before).await, "nobody", "a copy of the old token is found");
    assert_eq!(user_of(&browser).await, "nobody");

    let body = r#"{"user":"bob","password":"bob"}"#;
    let client = app.stranger();
    let token = async |bearer: Option<&str>| {
        let mut ask = client.ask("POST", "/token").json(body);
        if let Some(bearer) = bearer {
            ask = ask.header("authorization", format!("Bearer {bearer}"));
        }
        let answer = ask.send().await.json();
        answer["token"].as_str().unwrap().to_owned()
    };
    let first = token(None).await;
    let (lost, again) = (token(Some(&first)).await, token(Some(&first)).await);
    assert_eq!(lost, again);
    for bearer in [first, again] {
        let ask = client.ask("GET", "/whoami").header("authorization", format!("Bearer {bearer}"));
        assert_eq!(ask.send().await.json()["user"], "bob");
    }
}

/// A sign-in from a device that already holds a session raises no number, so a limit that rejects lets it
/// in: by its cookie, also beside a planted one, by the token before a rotation, and by a bearer token.
pub(crate) async fn the_same_device_is_never_refused(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let policy = r#"{"limits":[{"max":1,"scope":"user","on_exceed":"reject"}]}"#;
    let policy = policy.replacen('{', r#"{"prevent_concurrent_login":"Disabled","#, 1);
    assert_eq!(root.send("PUT", "/sessions/admin/policy", &policy).await.status, 200);
    let mut browser = app.browser("alice").await;
    for _ in 0..3 {
        let before = browser.session_id().await;
        assert_eq!(browser.login("alice").await, 303);
        assert_eq!(browser.session_id().await, before);
    }
    let planted = format!("__Host-session=x; {}", browser.cookie.as_ref().unwrap());
    browser.cookie = Some(planted);
    assert_eq!(browser.login("alice").await, 303);
    let held = browser.clone();
    browser.post("/rotate", "").await;
    assert_eq!(browser.whoami().await, 200);
    browser.cookie = held.cookie;
    assert_eq!(browser.login("alice").await, 303, "with the token of before the rotation");
    let mine = browser.get("/sessions/me").await.json();
    assert_eq!(mine["total"], 1);

    let body = r#"{"user":"bob","password":"bob"}"#;
    let answer = app.stranger().ask("POST", "/token").json(body).send().await;
    let bearer = format!("Bearer {}", answer.json()["token"].as_str().unwrap());
    let ask = app.stranger();
    let answer = ask.ask("POST", "/token").header("authorization", bearer).json(body).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Another device is refused.
    for user in ["alice", "bob"] {
        app.stranger().send("POST", "/login", &login_form(user)).await.problem(409);
    }
}

pub(crate) async fn a_limit_that_rejects_answers_409(on: Ground) {
    let app = App::with(on, one_session).await;
    let browser = app.browser("alice").await;
    let problem = app.stranger().send("POST", "/login", &login_form("alice")).await.problem(409);
    assert_eq!(problem["limit"], 1);
    assert_eq!(user_of(&browser).await, "alice");
    let form = format!("{}&device={}", login_form("bob"), "x".repeat(65));
    let problem = app.stranger().send("POST", "/login", &form).await.problem(400);
    assert_eq!((&problem["field"], &problem["limit"]), (&json!("device_kind"), &json!(64)));
}
