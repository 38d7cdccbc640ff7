//! What is answered while the store is away.

use std::time::Duration;

use crate::app::{App, Ground, eventually, user_of};
use crate::client::login_form;

/// While nothing can be said about a token the answer is 503, never 401 (G4).
pub(crate) async fn an_outage_is_no_refusal(on: Ground) {
    let app = App::start(on).await;
    let browser = app.browser("alice").await;
    app.probe.away(true);
    app.clock.advance(Duration::from_secs(31));
    let calls = [
        ("GET", "/"),
        ("GET", "/whoami"),
        ("GET", "/vault"),
        ("GET", "/roles"),
        ("PUT", "/roles/alice"),
        ("POST", "/logout"),
        ("POST", "/rotate"),
        ("GET", "/sessions/"),
        ("GET", "/sessions/admin"),
        ("GET", "/sessions/me"),
        ("GET", "/sessions/me/events"),
        ("POST", "/sessions/me/revoke-others"),
        ("GET", "/sessions/admin/sessions"),
        ("GET", "/sessions/admin/events"),
    ];
    for (method, path) in calls {
        let answer = browser.send(method, path, "").await;
        assert_eq!(answer.status, 503, "{method} {path}: {}", answer.text());
        assert_eq!(answer.header("retry-after"), Some("1"), "{method} {path}");
        assert_eq!(answer.cookie(), None, "{method} {path}");
        // A browser is not sent to sign in either.
        let ask = browser.ask(method, path).header("accept", "text/html");
        assert_eq!(ask.send().await.status, 503, "{method} {path}");
    }
    let stranger = app.stranger();
    assert_eq!(user_of(&stranger).await, "nobody", "no token, no question");
    let answer = stranger.send("POST", "/login", &login_form("alice")).await;
    answer.problem(503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    app.probe.away(false);
    eventually("the cookie has survived", async || browser.whoami().await == 200).await;
    assert_eq!(user_of(&browser).await, "alice");
}
