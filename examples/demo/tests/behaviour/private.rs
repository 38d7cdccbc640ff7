//! Who else may keep a response.

use crate::app::{App, Ground};

pub(crate) async fn pages_of_a_session_are_private(on: Ground) {
    let app = App::start(on).await;
    let alice = app.browser("alice").await;
    for path in ["/", "/login", "/whoami", "/vault", "/roles"] {
        let answer = alice.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("cache-control"), Some("private, no-store"), "{path}");
        assert_eq!(answer.header("vary").map(str::to_lowercase).as_deref(), Some("cookie"));
    }
    let missing = alice.get("/nothing").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.header("cache-control"), Some("private, no-store"));
    // The library's own answers say it in their own words, once.
    for path in ["/sessions/", "/sessions/me", "/sessions/nothing", "/sessions/admin/policy"] {
        let answer = alice.get(path).await;
        let headers: Vec<_> = answer.headers.get_all("cache-control").iter().collect();
        assert_eq!(headers, ["no-store"], "{path}");
    }
}

pub(crate) async fn pages_of_nobody_are_left_alone(on: Ground) {
    let app = App::start(on).await;
    let mut dead = app.browser("alice").await;
    let cookie = dead.cookie.clone();
    dead.post("/logout", "").await;
    dead.cookie = cookie;
    for browser in [&app.stranger(), &dead] {
        for path in ["/", "/login"] {
            let answer = browser.get(path).await;
            assert_eq!(answer.status, 200);
            assert_eq!((answer.header("cache-control"), answer.header("vary")), (None, None));
        }
    }
}

pub(crate) async fn an_application_may_decide_about_caching_itself(on: Ground) {
    let app = App::with(on, |config| config.http.private_responses = false).await;
    let alice = app.browser("alice").await;
    for path in ["/", "/whoami"] {
        let answer = alice.get(path).await;
        assert_eq!((answer.header("cache-control"), answer.header("vary")), (None, None));
    }
    assert_eq!(alice.get("/sessions/me").await.header("cache-control"), Some("no-store"));
}
