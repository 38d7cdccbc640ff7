//! Bodies of requests: their size, their pace, and who is asked for one.

use std::time::Duration;

use crate::app::{App, Ground, user_of};
use crate::raw::{Raw, head, status};

const POLICY: &str = "/sessions/admin/policy";

pub(crate) async fn an_announced_body_is_refused_before_it_is_sent(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let mut raw = Raw::connect(app.address).await;
    raw.send(head(&root, "PUT", POLICY) + "Content-Length: 20000000\r\n\r\n").await;
    let answer = raw.until("}").await;
    assert_eq!(status(&answer), 413, "{answer}");
    assert_eq!(user_of(&root).await, "root");
}

pub(crate) async fn a_body_without_an_end_is_refused_at_the_limit(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let mut raw = Raw::connect(app.address).await;
    raw.send(head(&root, "PUT", POLICY) + "Transfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..17 {
        raw.send(format!("400\r\n{}\r\n", "x".repeat(1024))).await;
    }
    let answer = raw.until("}").await;
    assert_eq!(status(&answer), 413, "{answer}");
    assert!(answer.contains(r#""limit":16384"#), "{answer}");
    let large = "x".repeat(16 * 1024 + 1);
    root.send("PUT", POLICY, &large).await.problem(413);
    root.send("PUT", POLICY, &large[1..]).await.problem(400);
}

pub(crate) async fn a_slow_body_is_not_waited_for(on: Ground) {
    let app = App::with(on, |config| {
        config.http.body_timeout = Duration::from_millis(300);
    })
    .await;
    let root = app.browser("root").await;
    let mut raw = Raw::connect(app.address).await;
    raw.send(head(&root, "PUT", POLICY) + "Content-Length: 100\r\n\r\n{").await;
    let answer = raw.until("}").await;
    assert_eq!(status(&answer), 408, "{answer}");
    assert_eq!(user_of(&root).await, "root");
}

/// Who may not make a call is told so before a byte of its body has been read.
pub(crate) async fn identity_and_origin_come_before_the_body(on: Ground) {
    let app = App::with(on, |config| {
        config.http.body_timeout = Duration::from_secs(3600);
    })
    .await;
    let (root, alice) = (app.browser("root").await, app.browser("alice").await);
    let foreign = head(&root, "PUT", POLICY).replace("same-origin", "cross-site");
    for (head, expected) in [
        (head(&app.stranger(), "PUT", POLICY), 401),
        (head(&alice, "PUT", POLICY), 403),
        (foreign, 403),
        (head(&root, "PUT", "/sessions/admin/policy?tenant=a&tenant=b"), 400),
    ] {
        let mut raw = Raw::connect(app.address).await;
        raw.send(head + "Content-Length: 100\r\n\r\n").await;
        let answer = raw.until("}").await;
        assert_eq!(status(&answer), expected, "{answer}");
    }
}

/// A refused body without an end is not read on: the connection ends.
pub(crate) async fn a_refused_body_is_not_read_to_its_end(on: Ground) {
    let app = App::start(on).await;
    let mut raw = Raw::connect(app.address).await;
    let head = head(&app.stranger(), "PUT", POLICY);
    raw.send(head + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n").await;
    let answer = raw.finish().await;
    assert_eq!(status(&answer), 401, "{answer}");
}
