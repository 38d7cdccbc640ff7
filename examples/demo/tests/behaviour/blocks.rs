//! Users, tenants and deployments that may not sign in, and what an admin ends in an incident.

use std::time::Duration;

use serde_json::{Value, json};
use session_kit::UserKey;
use session_kit::core::Actor;
use session_kit::core::policy::PolicyScope;
use session_kit::engine::SignIn;
use tokio::task::JoinSet;

use crate::app::{App, Ground, eventually, user_of};
use crate::client::{Client, login_form};

const BLOCK: &str = "/sessions/admin/block";

async fn refused(app: &App, user: &str) -> Value {
    let problem = app.stranger().send("POST", "/login", &login_form(user)).await.problem(403);
    assert_eq!(problem["type"], "urn:session-kit:blocked");
    problem
}

pub(crate) async fn a_blocked_user_is_out(on: Ground) {
    let app = App::start(on).await;
    let (root, alice, bob) =
        (app.browser("root").await, app.browser("alice").await, app.browser("bob").await);
    app.browser("alice").await;
    let namesake = app.browser("north/alice").await;
    let path = format!("{BLOCK}?user=alice");
    let answer = root.send("PUT", &path, r#"{"reason":"fraud"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "revoked": 2 })));
    assert_eq!(user_of(&alice).await, "nobody");
    let problem = refused(&app, "alice").await;
    assert_eq!((&problem["reason"], &problem["until"]), (&json!("fraud"), &Value::Null));
    let stranger = app.stranger();
    let ask = stranger.ask("POST", "/login").header("accept", "text/html");
    let page = ask.form(login_form("alice")).send().await;
    assert_eq!((page.status.as_u16(), page.cookie()), (403, None));
    assert!(page.text().contains("Sign-in is blocked: fraud."), "{}", page.text());
    // The page of the browser that was signed out says it as well.
    let page = alice.get("/login").await;
    let text = "You were signed out, just now. Sign-in is blocked: fraud.";
    assert!(page.text().contains(text), "{}", page.text());
    for other in [&bob, &namesake] {
        assert_eq!(other.whoami().await, 200);
    }
    let shown = root.get(&path).await.json();
    assert_eq!((&shown["blocked"], &shown["by"]), (&json!(true), &json!("user:root")));

    assert_eq!(root.delete(&path).await.status, 204);
    assert_eq!(root.get(&path).await.json()["blocked"], false);
    assert_eq!(user_of(&alice).await, "nobody", "sign-in is restored, and nothing else");
    app.browser("alice").await;
}

pub(crate) async fn tenants_and_the_deployment_are_blocked(on: Ground) {
    let app = App::start(on).await;
    let (root, boss) = (app.browser("root").await, app.browser("north/boss").await);
    let (inside, outside) = (app.browser("north/alice").await, app.browser("south/alice").await);
    boss.send("PUT", &format!("{BLOCK}?tenant=south"), "{}").await.problem(403);
    boss.send("PUT", &format!("{BLOCK}?tenant=south&user=alice"), "{}").await.problem(403);
    let answer = boss.send("PUT", &format!("{BLOCK}?user=alice"), "{}").await;
    assert_eq!(answer.json(), json!({ "revoked": 1 }), "the one of their own tenant");
    assert_eq!(user_of(&inside).await, "nobody");
    refused(&app, "north/alice").await;
    inside.send("PUT", &format!("{BLOCK}?user=boss"), "{}").await.problem(401);
    outside.send("PUT", BLOCK, "{}").await.problem(403);
    root.send("PUT", &format!("{BLOCK}?tenant="), "{}").await.problem(400);

    assert_eq!(root.send("PUT", &format!("{BLOCK}?tenant=north"), "").await.status, 200);
    assert_eq!(user_of(&boss).await, "nobody");
    refused(&app, "north/boss").await;
    assert_eq!(user_of(&outside).await, "alice");
    root.delete(&format!("{BLOCK}?tenant=north")).await;
    app.browser("north/boss").await;
    refused(&app, "north/alice").await;

    let answer = root.send("PUT", BLOCK, r#"{"reason":"maintenance"}"#).await;
    assert_eq!(answer.json(), json!({ "revoked": 3 }));
    assert_eq!(user_of(&root).await, "nobody", "the one who has set it, too");
    for user in ["root", "bob", "south/alice"] {
        assert_eq!(refused(&app, user).await["reason"], "maintenance");
    }
    let manager = app.http.manager();
    manager.unblock(PolicyScope::Deployment, Actor::Application).await.unwrap();
    app.browser("root").await;
}

pub(crate) async fn a_block_ends_at_its_time(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let path = format!("{BLOCK}?user=alice");
    let until = app.http.manager().now().plus(Duration::from_secs(60)).to_string();
    let body = json!({ "until": until }).to_string();
    assert_eq!(root.send("PUT", &path, &body).await.status, 200);
    assert_eq!(refused(&app, "alice").await["until"], until.as_str());
    app.advance(Duration::from_secs(61)).await;
    app.browser("alice").await;
    assert_eq!(root.get(&path).await.json()["blocked"], false);
    for bad in [&*body, r#"{"until":"soon"}"#, r#"{"why":"x"}"#, "[]"] {
        root.send("PUT", &path, bad).await.problem(400);
    }
}

/// Clients sign in without a pause while the block is set: none of their sessions outlives it.
pub(crate) async fn sign_ins_race_a_block(on: Ground) {
    let app = App::start(on).await;
    let root = app.browser("root").await;
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let client = app.stranger();
        clients.spawn(async move {
            let mut held = Vec::new();
            loop {
                let mut client = client.clone();
                match client.login("alice").await.as_u16() {
                    303 => held.push(client),
                    403 => return held,
                    status => panic!("{status}"),
                }
            }
        });
    }
    let alice = UserKey::new("alice".parse().unwrap());
    let manager = app.http.manager();
    let signed_in = async || manager.count(&alice).await.unwrap() > 2;
    eventually("some have signed in", signed_in).await;
    assert_eq!(root.send("PUT", &format!("{BLOCK}?user=alice"), "{}").await.status, 200);
    assert_eq!(manager.count(&alice).await.unwrap(), 0);
    let held: Vec<Client> = clients.join_all().await.into_iter().flatten().collect();
    for client in held {
        assert_eq!(client.whoami().await, 401);
    }
    assert_eq!(manager.count(&alice).await.unwrap(), 0);
}

pub(crate) async fn an_incident_ends_what_all_filters_select(on: Ground) {
    let app = App::start(on).await;
    let (root, boss) = (app.browser("root").await, app.browser("north/boss").await);
    let end = async |admin: &Client, query: &str| {
        let answer = admin.delete(&format!("/sessions/admin/sessions?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        answer.json()["revoked"].as_u64().unwrap()
    };
    for nothing in
        ["", "tenant=", "except=00000000-0000-0000-0000-000000000000", "all=false", "users=alice"]
    {
        root.delete(&format!("/sessions/admin/sessions?{nothing}")).await.problem(400);
    }
    let mut phone = app.stranger();
    phone.post("/login", &format!("{}&device=Mobile", login_form("alice"))).await;
    let (web, north) = (app.browser("alice").await, app.browser("north/alice").await);
    let bob = UserKey::new("bob".parse().unwrap());
    let shop = SignIn::new(bob).with_client_id(Some("shop".parse().unwrap()));
    app.http.manager().sign_in(shop).await.unwrap();
    assert_eq!(end(&root, "client=shop").await, 1);
    assert_eq!(end(&root, "device=Mobile&user=bob").await, 0);
    assert_eq!(end(&root, "device=Mobile").await, 1);
    assert_eq!((user_of(&phone).await, user_of(&web).await), ("nobody".into(), "alice".into()));
    assert_eq!(end(&root, "tenant=north&user=alice").await, 1);
    assert_eq!(user_of(&north).await, "nobody");

    app.advance(Duration::from_secs(60)).await;
    let before = app.http.manager().now().minus(Duration::from_secs(30));
    let late = app.browser("alice").await;
    assert_eq!(end(&root, &format!("tenant=&user=alice&signed_in_before={before}")).await, 1);
    assert_eq!((user_of(&web).await, user_of(&late).await), ("nobody".into(), "alice".into()));

    let (south, mate) = (app.browser("south/alice").await, app.browser("north/alice").await);
    boss.delete("/sessions/admin/sessions?tenant=south").await.problem(403);
    assert_eq!(end(&boss, "all=true").await, 2, "all within their walls");
    assert_eq!((user_of(&mate).await, user_of(&boss).await), ("nobody".into(), "nobody".into()));
    assert_eq!(user_of(&south).await, "alice");
    let own = root.session_id().await;
    assert_eq!(end(&root, &format!("all=true&except={own}")).await, 2);
    assert_eq!((user_of(&south).await, user_of(&root).await), ("nobody".into(), "root".into()));
}
