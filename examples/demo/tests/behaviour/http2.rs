//! HTTP/2 with prior knowledge.

use http::Version;

use crate::app::{App, Ground};
use crate::client::{Client, login_form};

pub(crate) async fn everything_works_over_http_2(on: Ground) {
    let app = App::start(on).await;
    let mut browser = Client { version: Version::HTTP_2, ..app.stranger() };
    let answer = browser.post("/login", &login_form("alice")).await;
    assert_eq!(answer.status, 303);
    let me = browser.get("/sessions/me").await.json();
    assert_eq!(me["sessions"].as_array().unwrap().len(), 1);
    for path in ["/", "/sessions/me", "/sessions/assets/app.css", "/sessions/me/events"] {
        let head = browser.send("HEAD", path, "").await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "{path}");
    }
    let mut stream = browser.ask("GET", "/sessions/me/events").open().await;
    stream.until(": open").await;
    let other = app.browser("alice").await.session_id().await;
    stream.until(&other).await;
    assert_eq!(browser.delete(&format!("/sessions/me/{other}")).await.status, 204);
    stream.until("event: revoked\n").await;
    assert_eq!(browser.post("/logout", "").await.status, 303);
    assert!(stream.finish().await.contains("event: ended"));
}

/// HTTP/2 names the host in `:authority`.
pub(crate) async fn the_origin_is_compared_with_the_authority(on: Ground) {
    let app = App::start(on).await;
    let mut browser = Client { version: Version::HTTP_2, ..app.stranger() };
    let own = format!("http://{}", app.address);
    let login = |origin: &str| {
        let ask = browser.ask("POST", "/login").without("sec-fetch-site");
        ask.header("origin", origin).form(login_form("alice"))
    };
    login("http://evil.example").send().await.problem(403);
    let answer = login(&own).send().await;
    assert_eq!(answer.status, 303);
    browser.keep(&answer);
    let ask = |origin: &str| {
        let ask = browser.ask("POST", "/sessions/me/revoke-others").without("sec-fetch-site");
        ask.header("origin", origin)
    };
    ask("http://evil.example").send().await.problem(403);
    assert_eq!(ask(&own).send().await.status, 200);
}
