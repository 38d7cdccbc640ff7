//! Headers that keep a browser from taking an answer for something else.

use http::HeaderMap;

use crate::app::{App, Ground};

/// One answer of each kind that the library makes itself.
pub(crate) async fn every_answer_of_the_library_is_sealed(on: Ground) {
    let app = App::start(on).await;
    let (alice, root, stranger) =
        (app.browser("alice").await, app.browser("root").await, app.stranger());
    for (browser, method, path, status) in [
        (&alice, "GET", "/sessions/", 200),
        (&alice, "HEAD", "/sessions/", 200),
        (&root, "GET", "/sessions/admin", 200),
        (&alice, "GET", "/sessions/admin", 403),
    ] {
        let answer = browser.send(method, path, "").await;
        assert_eq!(answer.status, status, "{path}");
        is_sealed(&answer.headers, "default-src 'none'; script-src 'self'; ", path);
        assert_eq!(answer.header("cross-origin-opener-policy"), Some("same-origin"), "{path}");
    }
    let nothing = "default-src 'none'; frame-ancestors 'none'";
    for (browser, method, path, status) in [
        (&alice, "GET", "/sessions/me", 200),
        (&root, "GET", "/sessions/admin/sessions", 200),
        (&stranger, "GET", "/sessions/openapi.json", 200),
        (&stranger, "GET", "/sessions/assets/app.css", 200),
        (&stranger, "GET", "/sessions/assets/icon.svg", 200),
        (&stranger, "GET", "/sessions", 303),
        (&stranger, "GET", "/sessions/", 303),
        (&stranger, "OPTIONS", "/sessions/me", 204),
        (&root, "PUT", "/sessions/admin/policy", 400),
        (&stranger, "GET", "/sessions/me", 401),
        (&alice, "GET", "/sessions/admin/sessions", 403),
        (&alice, "GET", "/sessions/nothing", 404),
        (&alice, "PATCH", "/sessions/me", 405),
        // An extractor and a guard of the application's routes.
        (&stranger, "GET", "/whoami", 401),
        (&stranger, "GET", "/vault", 401),
    ] {
        let answer = browser.send(method, path, "").await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        is_sealed(&answer.headers, nothing, path);
        assert_eq!(answer.header("cross-origin-opener-policy"), None, "{path} is no page");
    }
    let known = stranger.ask("GET", "/sessions/assets/app.css").header("if-none-match", "*");
    let way_to_sign_in = stranger.ask("GET", "/whoami").header("accept", "text/html");
    let cross_origin = alice.ask("POST", "/sessions/me/revoke-others").without("sec-fetch-site");
    for (ask, status) in [(known, 304), (way_to_sign_in, 303), (cross_origin, 403)] {
        let answer = ask.send().await;
        assert_eq!(answer.status, status);
        is_sealed(&answer.headers, nothing, &status.to_string());
    }
    let stream = alice.ask("GET", "/sessions/me/events").open().await;
    assert_eq!(stream.status, 200);
    is_sealed(&stream.headers, nothing, "a stream");
    let gone = alice.session_id().await;
    let answer = alice.delete(&format!("/sessions/me/{gone}")).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    is_sealed(&answer.headers, nothing, "the end of a session");
}

#[track_caller]
fn is_sealed(headers: &HeaderMap, policy: &str, what: &str) {
    let value = |name| {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(values.len(), 1, "{name} of {what}: {headers:?}");
        values[0].to_str().unwrap()
    };
    let found = value("content-security-policy");
    assert!(found.starts_with(policy), "{what}: {found}");
    assert!(found.contains("frame-ancestors 'none'") && !found.contains("unsafe"), "{found}");
    assert_eq!(value("x-content-type-options"), "nosniff", "{what}");
    assert_eq!(value("cross-origin-resource-policy"), "same-origin", "{what}");
    assert_eq!(value("referrer-policy"), "same-origin", "{what}");
    assert!(["no-store", "no-cache"].contains(&value("cache-control")), "{what}");
}
