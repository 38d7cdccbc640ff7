//! What admins see and do.

use std::time::Duration;

use serde_json::{Value, json};
use session_kit::UserKey;
use session_kit::engine::SignIn;

use crate::app::{App, Ground, eventually, user_of};
use crate::client::{Client, login_form};

async fn users(admin: &Client, query: &str) -> Vec<String> {
    let answer = admin.get(&format!("/sessions/admin/sessions?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sessions = answer.json()["sessions"].as_array().unwrap().clone();
    let name = |session: &Value| match session["tenant"].as_str() {
        Some(tenant) => format!("{tenant}/{}", session["user"].as_str().unwrap()),
        None => session["user"].as_str().unwrap().to_owned(),
    };
    let mut names: Vec<_> = sessions.iter().map(name).collect();
    names.sort();
    names
}

pub(crate) async fn only_admins_administer(on: Ground) {
    let app = App::start(on).await;
    let alice = app.browser("alice").await;
    let id = alice.session_id().await;
    for (method, path) in [
        ("GET", "sessions".to_owned()),
        ("GET", format!("sessions/{id}")),
        ("DELETE", format!("sessions/{id}")),
        ("DELETE", "sessions?user=alice".to_owned()),
        ("DELETE", "users/alice/sessions".to_owned()),
        ("GET", "policy".to_owned()),
        ("PUT", "policy".to_owned()),
        ("DELETE", "policy".to_owned()),
        ("GET", "events".to_owned()),
        ("DELETE", "sessions?all=true".to_owned()),
        ("GET", "history".to_owned()),
        ("GET", "block".to_owned()),
        ("PUT", "block".to_owned()),
        ("DELETE", "block".to_owned()),
        ("GET", "users/alice/export".to_owned()),
        ("DELETE", "users/alice/data".to_owned()),
    ] {
        alice.send(method, &format!("/sessions/admin/{path}"), "{}").await.problem(403);
        app.stranger().send(method, &format!("/sessions/admin/{path}"), "{}").await.problem(401);
    }
}

pub(crate) async fn filters_and_pages(on: Ground) {
    let app = App::with(on, |config| config.engine.write_back.every_hits = 1).await;
    let root = app.browser("root").await;
    for name in ["alice", "bob", "north/alice", "south/bob"] {
        app.browser(name).await;
    }
    let mut phone = app.stranger();
    phone.post("/login", &format!("{}&device=mobile", login_form("alice"))).await;
    let all = ["alice", "alice", "bob", "north/alice", "root", "south/bob"];
    assert_eq!(users(&root, "").await, all);
    assert_eq!(users(&root, "user=alice").await, ["alice", "alice", "north/alice"]);
    assert_eq!(users(&root, "user=alice&tenant=").await, ["alice", "alice"]);
    assert_eq!(users(&root, "tenant=north").await, ["north/alice"]);
    assert_eq!(users(&root, "device=Mobile").await, ["alice"]);
    assert_eq!(users(&root, "client=shop").await, [""; 0]);
    app.advance(Duration::from_secs(3600)).await;
    let since = app.http.manager().now().minus(Duration::from_secs(60));
    assert_eq!(user_of(&phone).await, "alice");
    // The filter is the store's: the access has to be written back first.
    let recent = format!("device=Mobile&active_since={since}");
    eventually("it is found", async || users(&root, &recent).await == ["alice"]).await;
    assert_eq!(users(&root, &format!("user=bob&active_since={since}")).await, [""; 0]);
    assert_eq!(every_page(&root).await, 6);

    for (query, field) in [
        ("limit=201", "limit"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("cursor=zz", "cursor"),
        ("active_since=yesterday", "active_since"),
        ("tenent=north", "tenent"),
        ("user=a&user=b", "user"),
    ] {
        let problem = root.get(&format!("/sessions/admin/sessions?{query}")).await.problem(400);
        assert_eq!(problem["field"], field, "{query}");
    }
    let long = "x".repeat(300);
    let problem = root.get(&format!("/sessions/admin/sessions?user={long}")).await.problem(400);
    assert!(problem["limit"].as_u64().unwrap() < 300);
}

/// Reads two sessions a page, and answers how many there are.
async fn every_page(root: &Client) -> usize {
    let first = "/sessions/admin/sessions?limit=2";
    let (mut seen, mut path) = (Vec::new(), first.to_owned());
    loop {
        let page = root.get(&path).await.json();
        let sessions = page["sessions"].as_array().unwrap();
        assert!(sessions.len() <= 2);
        seen.extend(sessions.iter().map(|session| session["id"].to_string()));
        match page["next_cursor"].as_str() {
            Some(next) => path = format!("{first}&cursor={next}"),
            None => break,
        }
    }
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count, "each once");
    count
}

pub(crate) async fn an_admin_of_a_tenant_stays_within_its_walls(on: Ground) {
    let app = App::start(on).await;
    let boss = app.browser("north/boss").await;
    let inside = app.browser("north/alice").await;
    let outside = app.browser("alice").await;
    let foreign = app.browser("south/alice").await;
    assert_eq!(users(&boss, "").await, ["north/alice", "north/boss"]);
    boss.get("/sessions/admin/sessions?tenant=south").await.problem(403);
    boss.get("/sessions/admin/sessions?tenant=").await.problem(403);
    for browser in [&outside, &foreign] {
        let path = format!("/sessions/admin/sessions/{}", browser.session_id().await);
        boss.get(&path).await.problem(404);
        boss.delete(&path).await.problem(404);
    }
    boss.delete("/sessions/admin/users/alice/sessions?tenant=south").await.problem(403);
    let answer = boss.delete("/sessions/admin/users/alice/sessions").await;
    assert_eq!(answer.json(), json!({ "revoked": 1 }));
    inside.get("/whoami").await.problem(401);
    assert_eq!(user_of(&outside).await, "alice");
    assert_eq!(user_of(&foreign).await, "alice");
    let policy = r#"{"prevent_concurrent_login":"LogoutFromAllDevices"}"#;
    boss.send("PUT", "/sessions/admin/policy?tenant=south", policy).await.problem(403);
    assert_eq!(boss.send("PUT", "/sessions/admin/policy", policy).await.status, 200);
    let root = app.browser("root").await;
    let policy = async |query: &str| {
        root.get(&format!("/sessions/admin/policy{query}")).await.json()["prevent_concurrent_login"]
            .clone()
    };
    assert_eq!(policy("").await, "Disabled", "the deployment's is untouched");
    assert_eq!(policy("?tenant=north").await, "LogoutFromAllDevices");
}

pub(crate) async fn details_and_revocation(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let [one, two, three] =
        [app.browser("alice").await, app.browser("alice").await, app.browser("alice").await];
    let path = format!("/sessions/admin/sessions/{}", one.session_id().await);
    let details = root.get(&path).await.json();
    let mut fields: Vec<_> = details.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let expected = [
        "absolute_expiry",
        "authenticated_at",
        "claimed",
        "client_id",
        "current",
        "data",
        "device_info",
        "device_kind",
        "device_name",
        "id",
        "impersonator",
        "ip_addresses",
        "last_accessed",
        "level",
        "methods",
        "signed_in",
        "tenant",
        "user",
    ];
    assert_eq!(fields, expected);
    assert_eq!(details["ip_addresses"], json!(["127.0.0.1"]));
    assert_eq!(root.delete(&path).await.status, 204);
    root.delete(&path).await.problem(404);
    root.get(&path).await.problem(404);
    one.get("/whoami").await.problem(401);
    let except = two.session_id().await;
    let answer =
        root.delete(&format!("/sessions/admin/users/alice/sessions?except={except}")).await;
    assert_eq!(answer.json(), json!({ "revoked": 1 }));
    three.get("/whoami").await.problem(401);
    let answer = root.delete("/sessions/admin/users/alice/sessions?device=Mobile").await;
    assert_eq!(answer.json(), json!({ "revoked": 0 }));
    assert_eq!(user_of(&two).await, "alice");
}

pub(crate) async fn policies_are_set_shown_and_inherited(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let limit = json!({ "max": 3, "scope": "user", "on_exceed": "evict_oldest" });
    let policy =
        json!({ "prevent_concurrent_login": "LogoutFromSameTypeDevices", "limits": [limit] });
    let mut expected = policy.clone();
    expected["inherited"] = false.into();
    let answer = root.send("PUT", "/sessions/admin/policy", &policy.to_string()).await;
    assert_eq!(answer.json(), expected);
    assert_eq!(root.get("/sessions/admin/policy").await.json(), expected);
    expected["inherited"] = true.into();
    expected["inherited_from"] = "deployment".into();
    let of_alice = "/sessions/admin/policy?tenant=north&user=alice";
    assert_eq!(root.get(of_alice).await.json(), expected);
    // What was shown may be sent back.
    assert_eq!(root.send("PUT", of_alice, &expected.to_string()).await.status, 200);
    let shown = root.get(of_alice).await.json();
    assert_eq!((&shown["inherited"], shown.get("inherited_from")), (&json!(false), None));
    assert_eq!(root.delete(of_alice).await.status, 204);
    let of_north = "/sessions/admin/policy?tenant=north";
    assert_eq!(root.send("PUT", of_north, &policy.to_string()).await.status, 200);
    assert_eq!(root.get(of_alice).await.json()["inherited_from"], "tenant");
    assert_eq!(root.delete(of_north).await.status, 204);
    assert_eq!(root.get(of_alice).await.json()["inherited_from"], "deployment");
    assert_eq!(root.delete("/sessions/admin/policy").await.status, 204);
    let mut default = json!({ "prevent_concurrent_login": "Disabled", "limits": [] });
    default["inherited"] = true.into();
    default["inherited_from"] = "default".into();
    assert_eq!(root.get("/sessions/admin/policy").await.json(), default);
    for bad in [
        "",
        "[]",
        r#"{"prevent_concurrent_login":"Enabled"}"#,
        r#"{"limits":[{"max":0,"scope":"user","on_exceed":"reject"}]}"#,
        r#"{"limits":[{"max":1,"scope":"planet","on_exceed":"reject"}]}"#,
        r#"{"limit":[]}"#,
    ] {
        root.send("PUT", "/sessions/admin/policy", bad).await.problem(400);
    }
    assert_eq!(root.get("/sessions/admin/policy").await.json(), default);
}

/// Of two admins, the later one learns that the policy is no longer what they saw.
pub(crate) async fn a_policy_is_changed_by_who_has_seen_it(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let path = "/sessions/admin/policy?user=alice";
    let policy = |option: &str| json!({ "prevent_concurrent_login": option }).to_string();
    let put = async |tag: &str, option: &str| {
        root.ask("PUT", path).header("if-match", tag).json(policy(option)).send().await
    };
    let delete = async |tag: &str| root.ask("DELETE", path).header("if-match", tag).send().await;
    let tag = async || root.get(path).await.header("etag").unwrap().to_owned();

    let seen = tag().await;
    assert_eq!(tag().await, seen, "it changes with the policy only");
    let answer = put(&seen, "LogoutFromAllDevices").await;
    assert_eq!(answer.status, 200);
    let saved = answer.header("etag").unwrap().to_owned();
    assert!(saved == tag().await && saved != seen);
    let problem = put(&seen, "Disabled").await.problem(412);
    assert_eq!(problem["type"], "urn:session-kit:precondition-failed");
    delete(&seen).await.problem(412);
    delete("garbage").await.problem(412);
    assert_eq!(tag().await, saved, "nothing was changed");

    // What an inherited policy was is seen, too.
    assert_eq!(delete(&format!("W/{saved}")).await.status, 204, "a proxy has compressed it");
    let inherited = tag().await;
    let wide = root.send("PUT", "/sessions/admin/policy", &policy("LogoutFromAllDevices")).await;
    assert_eq!(wide.status, 200);
    put(&inherited, "Disabled").await.problem(412);
    assert_eq!(put("*", "Disabled").await.status, 200);
    assert_eq!(
        root.send("PUT", path, &policy("Disabled")).await.status,
        200,
        "as it was seen or not"
    );
}

/// A name that means something in a path is one like any other in a parameter.
pub(crate) async fn users_of_any_name_are_revoked(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let manager = app.http.manager();
    for name in [".", "..", "a/b", "%2e", "?"] {
        let user = UserKey::new(name.parse().unwrap());
        let namesake = UserKey::in_tenant("north".parse().unwrap(), name.parse().unwrap());
        for owner in [&user, &namesake] {
            manager.sign_in(SignIn::new(owner.clone())).await.unwrap();
        }
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/sessions/admin/sessions?user={encoded}");
        assert_eq!(root.delete(&path).await.json(), json!({ "revoked": 1 }), "{name}");
        assert_eq!(manager.count(&namesake).await.unwrap(), 1, "{name} of another tenant");
        let path = format!("{path}&tenant=north");
        assert_eq!(root.delete(&path).await.json(), json!({ "revoked": 1 }), "{name}");
    }
    let problem = root.delete("/sessions/admin/sessions?user=").await.problem(400);
    assert_eq!(problem["field"], "user");
    let boss = app.browser("north/boss").await;
    boss.delete("/sessions/admin/sessions?user=root&tenant=south").await.problem(403);
    assert_eq!(user_of(&root).await, "root");
}

pub(crate) async fn the_event_stream_tells_of_everybody_within_the_walls(on: Ground) {
    let app = App::start(on).await;
    let boss = app.browser("north/boss").await;
    let mut events = boss.ask("GET", "/sessions/admin/events").open().await;
    events.until(": open").await;
    let foreign = app.browser("south/alice").await.session_id().await;
    let alice = app.browser("north/alice").await.session_id().await;
    let seen = events.until(&alice).await;
    assert!(seen.contains("event: created\ndata: {"), "{seen}");
    assert!(seen.contains(r#""by":"user:alice""#), "{seen}");
    assert!(!seen.contains(&foreign), "{seen}");
}
