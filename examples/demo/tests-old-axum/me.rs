//! What users see and do of their own sessions, and the pages.

use http_body_util::BodyExt;

use crate::app::App;

#[tokio::test]
async fn a_user_lists_and_ends_their_own_sessions_only() {
    let app = App::start().await;
    let (here, there) = (app.browser("alice").await, app.browser("alice").await);
    let (bob, same_name) = (app.browser("bob").await, app.browser("north/alice").await);
    let me = here.get("/sessions/me").await.json();
    assert_eq!(me["user"], "alice");
    assert_eq!(me["session_id"], here.id().await.as_str());
    let sessions = me["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let current: Vec<_> = sessions.iter().filter(|session| session["current"] == true).collect();
    assert_eq!(current.len(), 1);
    assert_eq!(current[0]["id"], me["session_id"]);
    let token = here.cookie.as_ref().unwrap().split_once('=').unwrap().1;
    assert!(!me.to_string().contains(&token[32..]), "the token shows nowhere");
    for other in [&bob, &same_name] {
        here.delete(&format!("/sessions/me/{}", other.id().await)).await.problem(404);
    }
    here.delete("/sessions/me/nonsense").await.problem(400);
    let path = format!("/sessions/me/{}", there.id().await);
    assert_eq!(here.delete(&path).await.status, 204);
    here.delete(&path).await.problem(404);
    there.get("/sessions/me").await.problem(401);
    let third = app.browser("alice").await;
    let answer = here.send("POST", "/sessions/me/revoke-others", "").await;
    assert_eq!(answer.json(), serde_json::json!({ "revoked": 1 }));
    third.get("/sessions/me").await.problem(401);
    assert_eq!(here.get("/").await.text(), "alice");
    assert_eq!((bob.get("/").await.text(), same_name.get("/").await.text()), ("bob", "alice"));
}

#[tokio::test]
async fn state_changing_calls_need_a_proof_of_origin() {
    let app = App::start().await;
    let browser = app.browser("root").await;
    let id = browser.id().await;
    let calls = [
        ("POST", "/sessions/me/revoke-others".to_owned()),
        ("DELETE", format!("/sessions/me/{id}")),
        ("DELETE", format!("/sessions/admin/sessions/{id}")),
        ("DELETE", "/sessions/admin/users/bob/sessions".to_owned()),
        ("PUT", "/sessions/admin/policy".to_owned()),
        ("DELETE", "/sessions/admin/policy".to_owned()),
    ];
    for (method, path) in calls {
        for proof in [None, Some(("sec-fetch-site", "same-site")), Some(("origin", "null"))] {
            let mut request = browser.request(method, &path, "{}");
            request.headers_mut().remove("sec-fetch-site");
            if let Some((name, value)) = proof {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            app.send(request).await.problem(403);
        }
    }
    let mut request = browser.request("POST", "/sessions/me/revoke-others", "");
    request.headers_mut().remove("sec-fetch-site");
    request.headers_mut().insert("origin", "https://app.example".parse().unwrap());
    assert_eq!(app.send(request).await.status, 200);
}

#[tokio::test]
async fn an_event_stream_ends_with_its_session() {
    let app = App::start().await;
    let (here, there) = (app.browser("alice").await, app.browser("alice").await);
    let response = app.open(here.request("GET", "/sessions/me/events", "")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut seen = String::new();
    let bob = app.browser("bob").await;
    let revoke = format!("/sessions/me/{}", here.id().await);
    assert_eq!(there.delete(&revoke).await.status, 204);
    while let Some(frame) = body.frame().await {
        seen.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
    }
    assert!(seen.ends_with("event: ended\ndata: {\"cause\":\"revoked\"}\n\n"), "{seen}");
    assert!(!seen.contains(&bob.id().await), "nobody else's events");
}

#[tokio::test]
async fn pages_load_only_themselves() {
    let app = App::start().await;
    let (alice, root) = (app.browser("alice").await, app.browser("root").await);
    let pages =
        [(&alice, "/sessions/", "My devices"), (&root, "/sessions/admin", "Prevent concurrent")];
    for (browser, path, text) in pages {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains(text));
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.headers["cache-control"], "no-store");
        for inline in ["<script>", "onclick", "style=", "<style", "http://", "https://"] {
            assert!(!answer.text().contains(inline), "{path} has {inline}");
        }
        for asset in answer.text().split("\"assets/").skip(1) {
            let name = asset.split('"').next().unwrap();
            assert_eq!(browser.get(&format!("/sessions/assets/{name}")).await.status, 200);
        }
    }
    assert_eq!(alice.get("/sessions").await.headers["location"], "/sessions/");
    assert_eq!(alice.get("/sessions/admin").await.status, 403);
    assert_eq!(app.stranger().get("/sessions/").await.status, 401);
    assert_eq!(app.stranger().get("/sessions/admin").await.status, 401);
    alice.get("/sessions/assets/../../Cargo.toml").await.problem(404);
    alice.get("/sessions/assets/secret").await.problem(404);
}
