//! Requests as bytes: many at once, too long, or left half-way.

use crate::app::{App, Ground, eventually, user_of};
use crate::client::login_form;
use crate::raw::{Raw, head, status};

pub(crate) async fn pipelined_requests_are_answered_in_turn(on: Ground) {
    let app = App::start(on).await;
    let (alice, bob) = (app.browser("alice").await, app.browser("bob").await);
    let mut raw = Raw::connect(app.address).await;
    let requests = [
        head(&alice, "GET", "/whoami") + "\r\n",
        head(&app.stranger(), "GET", "/whoami") + "\r\n",
        head(&bob, "GET", "/sessions/me") + "\r\n",
        head(&bob, "GET", "/whoami") + "Connection: close\r\n\r\n",
    ];
    raw.send(requests.concat()).await;
    let answers = raw.finish().await;
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "401", "200", "200"], "{answers}");
    let users: Vec<_> =
        answers.split(r#"{"user":""#).skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(users, ["alice", "bob", "bob"], "{answers}");
}

/// As bytes, since a client's library would not show them.
pub(crate) async fn a_head_is_answered_without_a_byte_of_body(on: Ground) {
    let app = App::start(on).await;
    let alice = app.browser("alice").await;
    for path in ["/", "/whoami", "/sessions/", "/sessions/me", "/sessions/me/events"] {
        let mut raw = Raw::connect(app.address).await;
        raw.send(head(&alice, "HEAD", path) + "Connection: close\r\n\r\n").await;
        let answer = raw.finish().await;
        assert_eq!(status(&answer), 200, "{path}: {answer}");
        assert_eq!(answer.split("\r\n\r\n").nth(1), Some(""), "{path}: {answer}");
    }
}

/// Either a refusal or the end of the connection; never a failure, and others are served.
pub(crate) async fn what_is_too_long_is_refused(on: Ground) {
    let app = App::start(on).await;
    let alice = app.browser("alice").await;
    let long = "x".repeat(1_000_000);
    for request in [
        head(&alice, "GET", "/whoami") + &format!("X-Long: {long}\r\n\r\n"),
        head(&alice, "GET", "/whoami") + &"X-Many: x\r\n".repeat(5_000) + "\r\n",
        head(&alice, "GET", &format!("/{long}")) + "\r\n",
        head(&alice, "GET", &format!("/sessions/me?cursor={long}")) + "\r\n",
        head(&alice, "GET", "/whoami") + &format!("Cookie: {long}\r\n\r\n"),
    ] {
        let mut raw = Raw::connect(app.address).await;
        raw.send(request).await;
        let answer = raw.finish().await;
        let status = status(&answer);
        assert!(answer.is_empty() || (400..500).contains(&status), "{answer}");
        assert_eq!(user_of(&alice).await, "alice");
    }
}

/// Cookies as long as a browser may send are read, and one of ours among them is found.
pub(crate) async fn many_cookies_do_not_hide_ours(on: Ground) {
    let app = App::start(on).await;
    let alice = app.browser("alice").await;
    let other = format!("other={}", "x".repeat(4_000));
    let ours = alice.cookie.clone().unwrap();
    let stranger = app.stranger();
    let ask = stranger.ask("GET", "/whoami").header("cookie", format!("{other}; {ours}; a=b"));
    assert_eq!(ask.send().await.json()["user"], "alice");
    let ask = stranger.ask("GET", "/whoami").header("cookie", other).header("cookie", ours);
    assert_eq!(ask.send().await.json()["user"], "alice");
}

/// A client that disconnects during a sign-in disturbs no other.
pub(crate) async fn a_client_may_leave_in_the_middle_of_a_sign_in(on: Ground) {
    let app = App::start(on).await;
    let form = login_form("alice");
    let head = head(&app.stranger(), "POST", "/login")
        + "Content-Type: application/x-www-form-urlencoded\r\n"
        + &format!("Content-Length: {}\r\n\r\n", form.len());
    for end in [20, head.len(), head.len() + form.len() / 2] {
        let mut raw = Raw::connect(app.address).await;
        raw.send(&(head.clone() + &form)[..end]).await;
    }
    // While the store is at it.
    let gate = app.probe.hold("commit");
    let mut raw = Raw::connect(app.address).await;
    raw.send(head + &form).await;
    gate.reached().await;
    drop(raw);
    gate.open();
    let browser = app.browser("alice").await;
    assert_eq!(user_of(&browser).await, "alice");
}

/// The room of a stream whose client has gone is given back.
pub(crate) async fn a_client_may_leave_in_the_middle_of_a_stream(on: Ground) {
    let app = App::with(on, |config| config.http.max_streams_per_session = 1).await;
    let alice = app.browser("alice").await;
    let mut raw = Raw::connect(app.address).await;
    raw.send(head(&alice, "GET", "/sessions/me/events") + "\r\n").await;
    raw.until(": open").await;
    alice.get("/sessions/me/events").await.problem(429);
    drop(raw);
    eventually("there is room again", async || {
        let stream = alice.ask("GET", "/sessions/me/events").open().await;
        stream.status == 200
    })
    .await;
}
