//! What users see and do of their own sessions, and the pages.

use serde_json::{Value, json};
use session_kit::UserKey;
use session_kit::engine::SignIn;

use crate::app::{App, Ground, user_of};

pub(crate) async fn a_user_lists_and_ends_their_own_sessions_only(on: Ground) {
    let app = App::start(on).await;
    let (here, there) = (app.browser("alice").await, app.browser("alice").await);
    let (bob, same_name) = (app.browser("bob").await, app.browser("north/alice").await);
    let me = here.get("/sessions/me").await.json();
    assert_eq!((&me["user"], &me["tenant"]), (&json!("alice"), &Value::Null));
    assert_eq!(me["session_id"], here.session_id().await.as_str());
    let sessions = me["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let current: Vec<_> = sessions.iter().filter(|session| session["current"] == true).collect();
    assert_eq!(current.len(), 1);
    assert_eq!(current[0]["id"], me["session_id"]);
    let token = here.cookie.as_ref().unwrap().split_once('=').unwrap().1;
    assert!(!me.to_string().contains(&token[32..]), "the token shows nowhere");
    for other in [&bob, &same_name] {
        here.delete(&format!("/sessions/me/{}", other.session_id().await)).await.problem(404);
    }
    here.delete("/sessions/me/nonsense").await.problem(400);
    let path = format!("/sessions/me/{}", there.session_id().await);
    assert_eq!(here.delete(&path).await.status, 204);
    here.delete(&path).await.problem(404);
    there.get("/sessions/me").await.problem(401);
    let third = app.browser("alice").await;
    let answer = here.send("POST", "/sessions/me/revoke-others", "").await;
    assert_eq!(answer.json(), json!({ "revoked": 1 }));
    third.get("/sessions/me").await.problem(401);
    assert_eq!(user_of(&here).await, "alice");
    assert_eq!((user_of(&bob).await, user_of(&same_name).await), ("bob".into(), "alice".into()));
}

/// However many sessions are newer, the caller's own stands first; each is reached once.
pub(crate) async fn the_own_session_comes_first_and_all_are_reached(on: Ground) {
    let app = App::start(on).await;
    let browser = app.browser("alice").await;
    let own = browser.session_id().await;
    let alice = UserKey::new("alice".parse().unwrap());
    for _ in 0..5 {
        app.advance(std::time::Duration::from_secs(1)).await;
        app.http.manager().sign_in(SignIn::new(alice.clone())).await.unwrap();
    }
    for limit in [1, 2, 3, 5, 6, 7] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/sessions/me?limit={limit}{cursor}");
            let page = browser.get(&path).await.json();
            assert_eq!(page["total"], 6);
            let sessions = page["sessions"].as_array().unwrap();
            assert!(sessions.len() <= limit, "{page}");
            seen.extend(sessions.iter().map(|session| session["id"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen[0], own, "{limit} a page");
        let times: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!((seen.len(), times.len()), (6, 6), "{limit} a page: each once");
    }
}

pub(crate) async fn a_page_signs_its_own_session_out(on: Ground) {
    let app = App::start(on).await;
    let (mut here, there) = (app.browser("alice").await, app.browser("alice").await);
    let dead = here.cookie.clone();
    let answer = here.post("/sessions/me/sign-out", "").await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    assert!(answer.cookie().unwrap().contains("Max-Age=0"));
    here.cookie = dead;
    here.get("/sessions/me").await.problem(401);
    assert_eq!(user_of(&there).await, "alice", "another device stays");
    assert_eq!(here.send("POST", "/sessions/me/sign-out", "").await.status, 204, "no harm");
    let answer = app.stranger().send("POST", "/sessions/me/sign-out", "").await;
    assert_eq!((answer.status.as_u16(), answer.cookie()), (204, None));
    // The pages know where to sign in, and whose they are.
    let page = there.get("/sessions/").await;
    assert!(page.text().contains(r#"data-sign-in="/login""#), "{}", page.text());
    assert!(page.text().contains(&format!(r#"data-session="{}""#, there.session_id().await)));
}

pub(crate) async fn state_changing_calls_need_a_proof_of_origin(on: Ground) {
    let app = App::start(on).await;
    let browser = app.browser("root").await;
    let id = browser.session_id().await;
    let calls = [
        ("POST", "/sessions/me/revoke-others".to_owned()),
        ("POST", "/sessions/me/sign-out".to_owned()),
        ("DELETE", format!("/sessions/me/{id}")),
        ("DELETE", format!("/sessions/admin/sessions/{id}")),
        ("DELETE", "/sessions/admin/sessions?user=bob".to_owned()),
        ("DELETE", "/sessions/admin/users/bob/sessions".to_owned()),
        ("PUT", "/sessions/admin/policy".to_owned()),
        ("DELETE", "/sessions/admin/policy".to_owned()),
        ("PATCH", format!("/sessions/me/{id}")),
        ("DELETE", "/sessions/admin/sessions?all=true".to_owned()),
        ("PUT", "/sessions/admin/block".to_owned()),
        ("DELETE", "/sessions/admin/block".to_owned()),
        ("DELETE", "/sessions/admin/users/bob/data".to_owned()),
    ];
    let proofs = [
        ("x-nothing", "at all"),
        ("sec-fetch-site", "same-site"),
        ("origin", "null"),
        ("origin", "http://evil.example"),
    ];
    for (method, path) in calls {
        for (name, value) in proofs {
            let ask = browser.ask(method, &path).without("sec-fetch-site").header(name, value);
            ask.json("{}").send().await.problem(403);
        }
    }
    let ask = browser.ask("POST", "/sessions/me/revoke-others").without("sec-fetch-site");
    let ask = ask.header("origin", format!("http://{}", app.address));
    assert_eq!(ask.send().await.status, 200);
}

pub(crate) async fn pages_load_only_themselves(on: Ground) {
    let app = App::start(on).await;
    let (alice, root) = (app.browser("alice").await, app.browser("root").await);
    let pages =
        [(&alice, "/sessions/", "My devices"), (&root, "/sessions/admin", "Prevent concurrent")];
    for (browser, path, text) in pages {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains(text));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        for inline in ["<script>", "onclick", "style=", "<style", "http://", "https://"] {
            assert!(!answer.text().contains(inline), "{path} has {inline}");
        }
        for asset in answer.text().split("\"assets/").skip(1) {
            let name = asset.split('"').next().unwrap();
            assert_eq!(browser.get(&format!("/sessions/assets/{name}")).await.status, 200);
        }
    }
    let answer = alice.get("/sessions").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some("/sessions/")));
    let answer = alice.get("/sessions/admin").await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("not allowed"));
    alice.get("/sessions/assets/../../Cargo.toml").await.problem(404);
    alice.get("/sessions/assets/secret").await.problem(404);
}
