//! What is told and kept of sessions that have ended.

use std::time::Duration;

use serde_json::{Value, json};
use session_kit::UserKey;
use session_kit::engine::{Addresses, SignIn};

use crate::app::{App, Ground, user_of};
use crate::client::{Client, login_form};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A browser that says what it is.
async fn firefox(app: &App, user: &str) -> Client {
    let mut browser = app.stranger();
    let ask = browser.ask("POST", "/login").header("user-agent", FIREFOX);
    let answer = ask.form(login_form(user)).send().await;
    browser.keep(&answer);
    browser
}

/// What the sign-in page says above its form.
async fn notice(browser: &Client) -> String {
    let page = browser.get("/login").await;
    let after = page.text().split(r#"role="alert">"#).nth(1).unwrap_or_default();
    after.split("</p>").next().unwrap_or_default().to_owned()
}

pub(crate) async fn the_sign_in_page_says_why(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let policy = r#"{"prevent_concurrent_login":"LogoutFromAllDevices"}"#;
    root.send("PUT", "/sessions/admin/policy?user=bob", policy).await;
    let evicted = app.browser("bob").await;
    firefox(&app, "bob").await;
    app.advance(Duration::from_secs(200)).await;
    let text = "You signed in on another device, 3 minutes ago, Firefox 140 on Linux.";
    assert_eq!(notice(&evicted).await, text);
    assert_eq!(notice(&evicted).await, text, "as often as it is asked");

    let revoked = app.browser("alice").await;
    root.delete("/sessions/admin/sessions?user=alice").await;
    assert_eq!(notice(&revoked).await, "An admin signed you out, just now.");
    let (here, there) = (firefox(&app, "alice").await, app.browser("alice").await);
    here.send("POST", "/sessions/me/revoke-others", "").await;
    let own = "You signed this device out from another one, just now, Firefox 140 on Linux.";
    assert_eq!(notice(&there).await, own);

    let mut robbed = app.browser("north/alice").await;
    let thief = robbed.clone();
    robbed.post("/rotate", "").await;
    assert_eq!(robbed.whoami().await, 200);
    app.advance(Duration::from_secs(11)).await;
    assert_eq!(thief.whoami().await, 401);
    let copied = notice(&robbed).await;
    assert!(copied.starts_with("A copy of this browser&#39;s sign-in was used"), "{copied}");

    let expired = app.browser("south/bob").await;
    app.advance(Duration::from_secs(15 * 24 * 3600)).await;
    assert_eq!(notice(&expired).await, "Your session has expired, just now.");
}

/// Only for a token of the session, and not for a user who has signed out.
pub(crate) async fn a_stranger_is_told_nothing(on: Ground) {
    let app = App::start(on).await;
    let mut alice = app.browser("alice").await;
    let id = alice.session_id().await.replace('-', "");
    let (dead, root) = (alice.clone(), app.browser("root").await);
    root.delete("/sessions/admin/sessions?user=alice").await;
    assert_ne!(notice(&dead).await, "");
    let token = dead.cookie.clone().unwrap();
    let checked = &token[..token.len() - 56];
    let guesses =
        [format!("__Host-session={id}{}", "0".repeat(72)), format!("{checked}{}", "0".repeat(56))];
    for guess in guesses {
        let stranger = Client { cookie: Some(guess), ..app.stranger() };
        assert_eq!(notice(&stranger).await, "");
    }
    alice.login("alice").await;
    let left = alice.clone();
    alice.post("/logout", "").await;
    assert_eq!(notice(&left).await, "");
}

async fn ended(client: &Client, query: &str) -> Vec<Value> {
    let answer = client.get(query).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["sessions"].as_array().unwrap().clone()
}

pub(crate) async fn ended_sessions_are_listed_within_the_walls(on: Ground) {
    let app = App::start(on).await;
    let (root, boss) = (app.browser("root").await, app.browser("north/boss").await);
    let mut users = Vec::new();
    for user in ["alice", "bob", "north/alice", "south/alice"] {
        let mut browser = firefox(&app, user).await;
        users.push(browser.session_id().await);
        browser.post("/logout", "").await;
        app.advance(Duration::from_secs(60)).await;
    }
    let alice = app.browser("alice").await;
    root.delete(&format!("/sessions/admin/sessions/{}", alice.session_id().await)).await;
    let alice = app.browser("alice").await;
    let mine = ended(&alice, "/sessions/me/history").await;
    assert_eq!(mine.len(), 2, "hers, and not those of her namesakes");
    assert_eq!(mine[0]["cause"], "revoked");
    assert_eq!((&mine[1]["id"], &mine[1]["cause"]), (&json!(users[0]), &json!("signed_out")));
    assert_eq!(mine[1]["device_info"], "Firefox 140 on Linux");
    assert_eq!(mine[1]["from"], "Firefox 140 on Linux");
    assert_eq!(ended(&alice, "/sessions/me/history?cause=revoked").await.len(), 1);
    alice.get("/sessions/me/history?cause=whim").await.problem(400);
    alice.get("/sessions/admin/history").await.problem(403);
    app.stranger().get("/sessions/me/history").await.problem(401);

    app.advance(Duration::from_secs(60)).await;
    let in_the_shop = SignIn::new(UserKey::new("bob".parse().unwrap()))
        .with_client_id(Some("shop".parse().unwrap()))
        .with_device_kind("Mobile".parse().unwrap());
    let in_the_shop = app.http.manager().sign_in(in_the_shop).await.unwrap();
    app.http.manager().sign_out(&in_the_shop.session).await.unwrap();
    let all = ended(&root, "/sessions/admin/history").await;
    assert_eq!(all.len(), 6);
    for (query, count) in [
        ("user=alice", 4),
        ("user=alice&tenant=", 2),
        ("tenant=north", 1),
        ("cause=signed_out", 5),
        ("device=Mobile", 1),
        ("device=Web", 5),
        ("client=shop", 1),
        ("client=bank", 0),
        ("active_since=2020-01-01T00:00:00Z", 6),
    ] {
        let found = ended(&root, &format!("/sessions/admin/history?{query}")).await;
        assert_eq!(found.len(), count, "{query}");
    }
    let since = all[1]["ended"].as_str().unwrap().replace('+', "%2B");
    let found = ended(&root, &format!("/sessions/admin/history?since={since}")).await;
    assert_eq!(found, all[..2]);
    // Each was used a minute after the one before it.
    let since = all[2]["last_accessed"].as_str().unwrap().replace('+', "%2B");
    let found = ended(&root, &format!("/sessions/admin/history?active_since={since}")).await;
    assert_eq!(found, all[..3]);
    for (query, field) in [
        ("tenent=north", "tenent"),
        ("signed_in_before=2020-01-01T00:00:00Z", "signed_in_before"),
        ("user=", "user"),
        ("user=a&user=b", "user"),
        ("device=", "device"),
        ("client=", "client"),
        ("active_since=", "active_since"),
        ("active_since=yesterday", "active_since"),
        ("since=", "since"),
        ("since=yesterday", "since"),
        ("cause=", "cause"),
        ("cause=whim", "cause"),
        ("limit=201", "limit"),
        ("cursor=zz", "cursor"),
    ] {
        let problem = root.get(&format!("/sessions/admin/history?{query}")).await.problem(400);
        assert_eq!(problem["field"], field, "{query}");
    }
    let within = ended(&boss, "/sessions/admin/history").await;
    assert_eq!(within.len(), 1);
    assert_eq!(within[0]["tenant"], "north");
    boss.get("/sessions/admin/history?tenant=south").await.problem(403);
    assert_eq!(walk(&root).await, all);
}

/// A user learns what an admin did, and not who that was nor from where; the same in what is handed out.
pub(crate) async fn a_user_is_not_told_who_an_admin_is(on: Ground) {
    let app = App::start(on).await;
    let (root, here) = (firefox(&app, "root").await, firefox(&app, "alice").await);
    let mut told = here.ask("GET", "/sessions/me/events").open().await;
    told.until(": open").await;
    let mut all = root.ask("GET", "/sessions/admin/events").open().await;
    all.until(": open").await;
    let (by_admin, by_owner) = (app.browser("alice").await, app.browser("alice").await);
    let id = by_admin.session_id().await;
    root.delete(&format!("/sessions/admin/sessions/{id}")).await;
    app.advance(Duration::from_secs(1)).await;
    here.delete(&format!("/sessions/me/{}", by_owner.session_id().await)).await;
    app.advance(Duration::from_secs(1)).await;
    let mut shared = app.browser("alice").await;
    shared.login("bob").await;
    let events = told.until(r#""by":"another_user""#).await.to_owned();
    assert!(events.contains(r#""by":"administrator""#), "{events}");
    assert!(!events.contains("root") && !events.contains("user:bob"), "{events}");
    all.until(r#""by":"user:root""#).await;

    root.send(
        "PUT",
        "/sessions/admin/policy?user=alice",
        r#"{"prevent_concurrent_login":"Disabled"}"#,
    )
    .await;
    let mine = ended(&here, "/sessions/me/history").await;
    let seen: Vec<_> = mine.iter().map(|one| (&one["cause"], &one["by"], &one["from"])).collect();
    let device = json!("Firefox 140 on Linux");
    let expected = [
        (json!("replaced"), json!("another_user"), Value::Null),
        (json!("revoked"), json!("user:alice"), device.clone()),
        (json!("revoked"), json!("administrator"), Value::Null),
    ];
    let expected: Vec<_> = expected.iter().map(|(cause, by, from)| (cause, by, from)).collect();
    assert_eq!(seen, expected);
    let theirs = ended(&root, "/sessions/admin/history?user=alice").await;
    assert_eq!((&theirs[2]["by"], &theirs[2]["from"]), (&json!("user:root"), &device));

    root.send("PUT", "/sessions/admin/block?user=alice", r#"{"reason":"fraud"}"#).await;
    let kept = root.get("/sessions/admin/users/export?user=alice").await;
    assert!(!kept.text().contains("root"), "{}", kept.text());
    assert_eq!(kept.json()["block"]["by"], "administrator");
}

/// All pages of one session each.
async fn walk(root: &Client) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = root.get(&format!("/sessions/admin/history?limit=1{cursor}")).await.json();
        all.extend(page["sessions"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

pub(crate) async fn without_a_history_nothing_is_kept(on: Ground) {
    let app = App::with(on, |config| {
        config.engine.history = config.engine.history.with_keep(Duration::ZERO);
    })
    .await;
    let (dead, root) = (app.browser("alice").await, app.browser("root").await);
    root.delete("/sessions/admin/sessions?user=alice").await;
    assert_eq!(dead.whoami().await, 401);
    assert_eq!(notice(&dead).await, "");
    assert_eq!(ended(&root, "/sessions/admin/history").await, [Value::Null; 0]);
}

pub(crate) async fn a_user_names_a_device(on: Ground) {
    let app = App::start(on).await;
    let (here, there) = (app.browser("alice").await, app.browser("alice").await);
    let path = format!("/sessions/me/{}", there.session_id().await);
    let name = async |client: &Client, body: &str| {
        client.ask("PATCH", &path).json(body.to_owned()).send().await
    };
    let answer = name(&here, r#"{"device_name":"Kitchen"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["device_name"], "Kitchen");
    let me = there.get("/sessions/me").await.json();
    assert_eq!(me["sessions"][0]["device_name"], "Kitchen");
    let stranger = app.browser("bob").await;
    name(&stranger, r#"{"device_name":"Mine"}"#).await.problem(404);
    name(&app.browser("north/alice").await, r#"{"device_name":"Mine"}"#).await.problem(404);
    for bad in ["", "{}", r#"{"device_name":7}"#, r#"{"name":"x"}"#] {
        name(&here, bad).await.problem(400);
    }
    let long = format!(r#"{{"device_name":"{}"}}"#, "x".repeat(1_000));
    assert_eq!(name(&here, &long).await.problem(400)["field"], "device_name");
    let ask = here.ask("PATCH", &path).without("sec-fetch-site").json("{}");
    assert_eq!(ask.send().await.problem(403)["type"], "urn:session-kit:cross-origin");
    // What it does is told by its name.
    there.send("POST", "/sessions/me/revoke-others", "").await;
    assert_eq!(ended(&there, "/sessions/me/history").await[0]["from"], "Kitchen");
    let answer = name(&there, r#"{"device_name":null}"#).await;
    assert_eq!(answer.json()["device_name"], Value::Null);
}

pub(crate) async fn a_user_is_exported_and_erased(on: Ground) {
    let app = App::start(on).await;
    let (root, boss) = (app.browser("root").await, app.browser("north/boss").await);
    let mut gone = app.browser("alice").await;
    let token = gone.cookie.clone().unwrap();
    gone.post("/logout", "").await;
    let (alice, namesake) = (app.browser("alice").await, app.browser("north/alice").await);
    let policy = r#"{"prevent_concurrent_login":"Disabled"}"#;
    root.send("PUT", "/sessions/admin/policy?user=alice", policy).await;
    let (export, data) = ("/sessions/admin/users/alice/export", "/sessions/admin/users/alice/data");
    let kept = root.get(export).await;
    assert!(!kept.text().contains(&token.split_once('=').unwrap().1[48..]), "no token is in it");
    let kept = kept.json();
    assert_eq!((&kept["user"], &kept["tenant"]), (&json!("alice"), &Value::Null));
    assert_eq!(kept["sessions"][0]["id"], alice.session_id().await.as_str());
    assert_eq!(kept["history"].as_array().unwrap().len(), 1);
    assert_eq!(kept["policy"]["prevent_concurrent_login"], "Disabled");
    alice.get(export).await.problem(403);
    alice.delete(data).await.problem(403);
    let theirs = boss.get(export).await.json();
    assert_eq!(theirs["tenant"], "north", "an admin of a tenant means the user within it");
    boss.delete(&format!("{data}?tenant=south")).await.problem(403);

    assert_eq!(root.delete(data).await.json(), json!({ "sessions": 1, "history": 2 }));
    assert_eq!(user_of(&alice).await, "nobody");
    let kept = root.get(export).await.json();
    for list in ["sessions", "history"] {
        assert_eq!(kept[list], json!([]), "{list}");
    }
    assert_eq!(kept["policy"], Value::Null);
    assert_eq!(user_of(&namesake).await, "alice");
    let again = app.browser("alice").await;
    assert_eq!(ended(&again, "/sessions/me/history").await, [Value::Null; 0]);
}

/// A name that means something in a path is one like any other, in a parameter and, where the client
/// leaves it as it is, in the path.
pub(crate) async fn users_of_any_name_are_exported_and_erased(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let manager = app.http.manager();
    for name in [".", "..", "a/b", "%2e", "?", "export", "data"] {
        let user = UserKey::new(name.parse().unwrap());
        let namesake = UserKey::in_tenant("north".parse().unwrap(), name.parse().unwrap());
        manager.sign_in(SignIn::new(namesake.clone())).await.unwrap();
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for (export, data) in [
            (format!("export?user={encoded}"), format!("data?user={encoded}")),
            (format!("{encoded}/export"), format!("{encoded}/data")),
        ] {
            manager.sign_in(SignIn::new(user.clone())).await.unwrap();
            let kept = root.get(&format!("/sessions/admin/users/{export}")).await.json();
            assert_eq!((&kept["user"], &kept["tenant"]), (&json!(name), &Value::Null), "{export}");
            assert_eq!(kept["sessions"].as_array().unwrap().len(), 1, "{export}");
            let erased = root.delete(&format!("/sessions/admin/users/{data}")).await;
            assert_eq!(erased.json(), json!({ "sessions": 1, "history": 1 }), "{data}");
        }
        assert_eq!(manager.count(&namesake).await.unwrap(), 1, "{name} of another tenant");
        let data = format!("/sessions/admin/users/data?user={encoded}&tenant=north");
        assert_eq!(root.delete(&data).await.json()["sessions"], 1, "{name}");
    }
    let boss = app.browser("north/boss").await;
    let mate = app.browser("north/alice").await;
    let kept = boss.get("/sessions/admin/users/export?user=alice").await.json();
    assert_eq!(kept["sessions"][0]["id"], mate.session_id().await, "within their walls");
    for (method, path) in [("GET", "export"), ("DELETE", "data")] {
        for nobody in ["", "?user=", "?tenant=north", "?usr=alice"] {
            let path = format!("/sessions/admin/users/{path}{nobody}");
            root.send(method, &path, "").await.problem(400);
        }
        let path = format!("/sessions/admin/users/{path}?user=bob");
        boss.send(method, &format!("{path}&tenant=south"), "").await.problem(403);
        mate.send(method, &path, "").await.problem(403);
        root.send("PUT", &path, "").await.problem(405);
    }
}

pub(crate) async fn addresses_are_kept_as_the_options_say(on: Ground) {
    for (addresses, kept) in
        [(Addresses::Prefix, json!(["127.0.0.0"])), (Addresses::None, json!([]))]
    {
        let app = App::with(on, |config| config.engine.addresses = addresses).await;
        let alice = app.browser("alice").await;
        assert_eq!(alice.whoami().await, 200);
        let me = alice.get("/sessions/me").await.json();
        assert_eq!(me["sessions"][0]["ip_addresses"], kept);
    }
}
