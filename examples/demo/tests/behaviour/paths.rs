//! Methods and paths, and the files of the pages.

use session_kit::core::{TenantId, UserId, UserKey};
use session_kit::engine::SignIn;

use crate::app::{App, Ground, user_of};
use crate::raw::{Raw, head};

pub(crate) async fn files_of_the_pages_are_sent_once(on: Ground) {
    let app = App::start(on).await;
    let stranger = app.stranger();
    let kinds = [
        ("app.css", "text/css; charset=utf-8"),
        ("common.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ];
    for (name, kind) in kinds {
        let path = format!("/sessions/assets/{name}");
        let answer = stranger.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some(kind)));
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let tag = answer.header("etag").unwrap().to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".into()] {
            let answer = stranger.ask("GET", &path).header("if-none-match", known).send().await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (304, 0));
            assert_eq!(answer.header("etag"), Some(tag.as_str()));
        }
        let answer = stranger.ask("GET", &path).header("if-none-match", "\"other\"").send().await;
        assert!(answer.status == 200 && !answer.body.is_empty());
    }
}

pub(crate) async fn a_head_is_a_get_without_a_body(on: Ground) {
    let app = App::start(on).await;
    let alice = app.browser("alice").await;
    for path in ["/sessions/", "/sessions/assets/app.css", "/sessions/openapi.json", "/sessions/me"]
    {
        let get = alice.get(path).await;
        let length = get.body.len().to_string();
        let head = alice.send("HEAD", path, "").await;
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        assert_eq!(head.header("content-length"), Some(length.as_str()), "{path}");
        for name in ["content-type", "cache-control", "etag", "content-security-policy"] {
            assert_eq!(head.headers.get(name), get.headers.get(name), "{path}");
        }
    }
    let head = alice.send("HEAD", "/sessions/admin/sessions", "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (403, 0));
    // A stream would stay open; this ends at once.
    let head = alice.send("HEAD", "/sessions/me/events", "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
}

pub(crate) async fn every_path_says_which_methods_it_takes(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    for (path, allowed) in [
        ("/sessions/", "GET, HEAD, OPTIONS"),
        ("/sessions/me", "GET, HEAD, OPTIONS"),
        ("/sessions/me/events", "GET, HEAD, OPTIONS"),
        ("/sessions/me/sign-out", "POST, OPTIONS"),
        ("/sessions/me/revoke-others", "POST, OPTIONS"),
        ("/sessions/admin/sessions", "GET, HEAD, DELETE, OPTIONS"),
        ("/sessions/assets/app.css", "GET, HEAD, OPTIONS"),
        ("/sessions/admin/users/bob/sessions", "DELETE, OPTIONS"),
        ("/sessions/admin/policy", "GET, HEAD, PUT, DELETE, OPTIONS"),
    ] {
        for browser in [&root, &app.stranger()] {
            let answer = browser.send("OPTIONS", path, "").await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0), "{path}");
            assert_eq!(answer.header("allow"), Some(allowed), "{path}");
        }
        let answer = root.send("PATCH", path, "").await;
        answer.problem(405);
        assert_eq!(answer.header("allow"), Some(allowed), "{path}");
    }
    root.send("OPTIONS", "/sessions/nothing", "").await.problem(404);
    root.get("/sessions/me/revoke-others/more").await.problem(404);
    root.get("/sessions/admin/more").await.problem(404);
}

pub(crate) async fn a_path_is_decoded_once_and_by_its_parts(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let user = UserKey::new(UserId::new("north/alice").unwrap());
    let namesake = UserKey::in_tenant(TenantId::new("north").unwrap(), "alice".parse().unwrap());
    let percent = UserKey::new(UserId::new("%2f").unwrap());
    for user in [user, percent, namesake.clone()] {
        app.http.manager().sign_in(SignIn::new(user)).await.unwrap();
    }
    let end = async |user: &str| {
        let answer = root.delete(&format!("/sessions/admin/users/{user}/sessions")).await;
        assert_eq!(answer.status, 200, "{user}: {}", answer.text());
        answer.json()["revoked"].as_u64().unwrap()
    };
    assert_eq!(end("alice").await, 0, "of no tenant");
    assert_eq!(end("north%2Falice").await, 1, "a slash is part of the name");
    assert_eq!(end("%252f").await, 1, "decoded once");
    let answer = root.delete("/sessions/admin/users/alice/sessions?tenant=north").await;
    assert_eq!(answer.json()["revoked"], 1);
    for (path, status) in [
        ("/sessions/admin/users/a%00b/sessions", 400),
        ("/sessions/admin/users/%ff/sessions", 400),
        ("/sessions/admin/users/%/sessions", 200),
        ("/sessions/admin/users//sessions", 400),
        ("/sessions/me/%ff", 400),
    ] {
        let answer = root.delete(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    assert_eq!(user_of(&root).await, "root");
}

/// With a slash more or less at its end, a path leads to the page, and keeps its filters.
pub(crate) async fn a_slash_more_or_less_leads_to_the_page(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    for (path, page) in [
        ("/sessions", "/sessions/"),
        ("/sessions/admin/", "/sessions/admin"),
        ("/sessions/admin/?user=a%2Fb&tenant=", "/sessions/admin?user=a%2Fb&tenant="),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = root.send(method, path, "").await;
            assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some(page)));
        }
        assert_eq!(root.get(page).await.status, 200);
    }
}

/// What lies above a prefix is not reached from below it.
pub(crate) async fn dots_lead_nowhere(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    for path in [
        "/sessions/../sessions/me",
        "/sessions/./me",
        "/sessions/assets/../me",
        "/sessions/assets/%2e%2e/me",
        "/sessions/assets/..%2fme",
        "/sessions//me",
    ] {
        let mut raw = Raw::connect(app.address).await;
        raw.send(head(&root, "GET", path) + "Connection: close\r\n\r\n").await;
        let answer = raw.finish().await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
}
