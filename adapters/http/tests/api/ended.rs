//! How sessions ended: told to the holder of the token, and listed.

use std::time::Duration;

use http::{Method, Uri};
use serde_json::{Value, json};
use session_core::usage::Timeouts;
use session_core::{Actor, DeviceInfo, EndCause};
use session_engine::{Ending, WaitEnd};
use session_http::{Config, Head, NewSession};

use crate::node::{Client, start, user};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

async fn ending(client: &Client) -> (Option<std::sync::Arc<Ending>>, bool) {
    let (method, uri) = (Method::GET, Uri::from_static("/login"));
    let head = Head::new(&method, &uri, &client.headers);
    let request = client.request(head).await;
    assert!(request.maybe_session().unwrap().is_none());
    let private = request.private_headers();
    assert!(private.unless(false).is_empty(), "nothing is told yet");
    let ended = request.ended();
    (ended, !private.unless(false).is_empty())
}

#[tokio::test(start_paused = true)]
async fn the_holder_of_an_ended_token_is_told_why_and_no_other_client() {
    let config = Config::default();
    let policy = session_core::policy::PreventConcurrentLogin::LogoutFromAllDevices;
    let http = start(config.with_policy(policy)).await;
    let old = Client::signed_in(&http, "alice").await;
    tokio::time::sleep(Duration::from_secs(180)).await;
    let answer = Client::browser(&http).on(FIREFOX).sign_in(NewSession::of(user("alice"))).await;
    assert_eq!(answer.status, 200);
    let (told, is_private) = ending(&old).await;
    let told = told.unwrap();
    assert_eq!((told.cause, is_private), (EndCause::Evicted, true));
    assert_eq!(told.by, Actor::User(user("alice")));
    assert_eq!(told.from.as_ref().map(DeviceInfo::as_str), Some("Firefox 140 on Linux"));
    // Still anonymous, and no answer differs from that to garbage.
    let token = old.headers["cookie"].to_str().unwrap().to_owned();
    let mut guess = old.clone();
    guess.set("cookie", &format!("{}{}", &token[..token.len() - 32], "0".repeat(32)));
    let mut garbage = old.clone();
    garbage.set("cookie", "__Host-session=garbage");
    let refused = old.get("/me").await.problem(401, "unauthorized");
    for other in [&guess, &garbage] {
        assert_eq!(other.get("/me").await.problem(401, "unauthorized"), refused);
    }
    // A token of the right family is one of the session's; a guess is not.
    let mut stranger = old.clone();
    stranger.set("cookie", &format!("{}{}", &token[..token.len() - 56], "0".repeat(56)));
    for other in [&stranger, &garbage, &Client::browser(&http)] {
        assert_eq!(ending(other).await, (None, false));
    }
    http.shutdown().await;
}

/// Until no use of it can be on its way, an idle session has not ended. Its client is told so all the
/// same, and what it does next ends the session.
#[tokio::test(start_paused = true)]
async fn an_idle_session_ends_when_its_client_signs_in_again_or_out() {
    let idle = Duration::from_secs(600);
    let mut config = Config::default();
    config.engine.timeouts = Timeouts::none().with_idle(idle);
    let http = start(config).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::signed_in(&http, "alice").await);
    }
    for _ in 0..2 {
        let mut program = Client::browser(&http);
        let (signed_in, _) =
            program.auth().await.sign_in_app(NewSession::of(user("alice"))).await.unwrap();
        program.bear(&signed_in.token.expose());
        clients.push(program);
    }
    let mut ids = Vec::new();
    for client in &clients {
        ids.push(client.session_id().await.unwrap().parse().unwrap());
    }
    tokio::time::sleep(idle).await;
    for client in &clients {
        assert_eq!(ending(client).await.0.unwrap().cause, EndCause::Expired);
    }
    assert_eq!(clients[0].sign_in(NewSession::of(user("alice"))).await.status, 200);
    assert_eq!(clients[1].sign_in(NewSession::of(user("bob"))).await.status, 200);
    let _removed = clients[2].auth().await.sign_out().await.unwrap();
    let app = clients[3].auth().await;
    let _signed_in = app.sign_in_app(NewSession::of(user("alice"))).await.unwrap();
    let _ = clients[4].auth().await.sign_out().await.unwrap();
    let (replaced, signed_out) = (EndCause::Replaced, EndCause::SignedOut);
    let causes = [replaced, signed_out, signed_out, replaced, signed_out];
    for (id, cause) in ids.into_iter().zip(causes) {
        let ended = tokio::time::timeout(MOMENT, http.manager().session_ended(id)).await;
        assert_eq!(ended.unwrap(), WaitEnd::Ended(cause));
    }
    http.shutdown().await;
}

const MOMENT: Duration = Duration::from_secs(1);

fn with_both(one: &Client, other: &Client) -> Client {
    let cookie = |client: &Client| client.headers["cookie"].to_str().unwrap().to_owned();
    let mut both = one.clone();
    both.set("cookie", &format!("{}; {}", cookie(one), cookie(other)));
    both
}

/// Also where it carries the cookie of another session of its user's.
#[tokio::test(start_paused = true)]
async fn a_request_with_two_cookies_is_a_use_of_its_session() {
    let idle = Duration::from_secs(600);
    let mut config = Config::default();
    config.engine.timeouts = Timeouts::none().with_idle(idle);
    let http = start(config).await;
    let older = Client::signed_in(&http, "alice").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let newer = Client::signed_in(&http, "alice").await;
    let id = newer.session_id().await;
    let both = with_both(&older, &newer);
    for _ in 0..3 {
        tokio::time::sleep(idle * 2 / 3).await;
        assert_eq!(both.session_id().await, id);
    }
    assert_eq!(older.session_id().await, None, "it was not used");
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_sessions_that_have_ended_the_latest_end_is_told() {
    let http = start(Config::default()).await;
    let clients =
        [Client::signed_in(&http, "alice").await, Client::signed_in(&http, "alice").await];
    let mut ids = Vec::new();
    for client in &clients {
        let id = client.session_id().await.unwrap().parse().unwrap();
        let owner = user("alice");
        assert!(http.manager().revoke(id, &owner, Actor::Application).await.unwrap());
        ids.push(id);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let [first, last] = &clients;
    for both in [with_both(first, last), with_both(last, first)] {
        assert_eq!(ending(&both).await.0.unwrap().id, ids[1]);
    }
    http.shutdown().await;
}

/// An app may hold sessions of several users, each with a token of its own.
#[tokio::test(start_paused = true)]
async fn an_app_that_signs_a_user_in_leaves_another_users_session() {
    let http = start(Config::default()).await;
    let mut program = Client::browser(&http);
    let (signed_in, _) = program.auth().await.sign_in_app("bob").await.unwrap();
    program.bear(&signed_in.token.expose());
    let _ = program.auth().await.sign_in_app("alice").await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(program.get("/me").await.ok()["user"], "bob");
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_history_says_from_which_device_a_user_was_blocked() {
    let http = start(Config::default()).await;
    let _alice = Client::signed_in(&http, "alice").await;
    let mut root = Client::browser(&http).on(FIREFOX);
    let answer = root.sign_in(NewSession::of(user("root"))).await;
    root.keep(&answer);
    root.ask("PUT", "/admin/block?user=alice", "").await.ok();
    let ended = root.get("/admin/history?user=alice").await.ok()["sessions"][0].clone();
    assert_eq!((&ended["cause"], &ended["by"]), (&json!("blocked"), &json!("user:root")));
    assert_eq!(ended["from"], "Firefox 140 on Linux");
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_signed_out_is_told_nothing() {
    let http = start(Config::default()).await;
    let alice = Client::signed_in(&http, "alice").await;
    assert_eq!(alice.ask("POST", "/me/sign-out", "").await.status, 204);
    assert_eq!(ending(&alice).await, (None, false));
    http.shutdown().await;
}

fn of<'p>(page: &'p Value, name: &str) -> Vec<&'p str> {
    let sessions = page["sessions"].as_array().unwrap();
    sessions.iter().map(|session| session[name].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_user_sees_their_own_ended_sessions() {
    let http = start(Config::default()).await;
    let here = Client::signed_in(&http, "alice").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let other = Client::signed_in(&http, "alice").await;
        ids.insert(0, other.session_id().await.unwrap());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(here.delete(&format!("/me/{}", ids[0])).await.status, 204);
    }
    let bob = Client::signed_in(&http, "bob").await;
    let me = here.get("/me/history").await.ok();
    assert_eq!(
        (of(&me, "id"), &me["next_cursor"]),
        (ids.iter().map(String::as_str).collect(), &Value::Null)
    );
    let ended = &me["sessions"][0];
    assert_eq!((&ended["cause"], &ended["by"]), (&json!("revoked"), &json!("user:alice")));
    assert_eq!((&ended["user"], &ended["current"]), (&json!("alice"), &json!(false)));
    assert!(ended.as_object().unwrap().contains_key("from"), "{ended}");
    assert_eq!(bob.get("/me/history").await.ok()["sessions"], json!([]));
    // Page by page.
    let first = here.get("/me/history?limit=2").await.ok();
    assert_eq!(of(&first, "id"), ids[..2]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = here.get(&format!("/me/history?limit=2&cursor={cursor}")).await.ok();
    assert_eq!((of(&second, "id"), &second["next_cursor"]), (vec![ids[2].as_str()], &Value::Null));
    let since = ended["ended"].as_str().unwrap();
    let late = here.get(&format!("/me/history?since={since}&cause=revoked")).await.ok();
    assert_eq!(of(&late, "id"), [&ids[0]]);
    assert_eq!(here.get("/me/history?cause=evicted").await.ok()["sessions"], json!([]));
    for (query, field) in [
        ("cause=", "cause"),
        ("cause=bored", "cause"),
        ("since=now", "since"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
        ("user=bob", "user"),
    ] {
        let problem = here.get(&format!("/me/history?{query}")).await.problem(400, "invalid");
        assert_eq!(problem["field"], field, "{query}");
    }
    Client::browser(&http).get("/me/history").await.problem(401, "unauthorized");
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_admin_sees_ended_sessions_within_their_walls() {
    let http = start(Config::default()).await;
    for name in ["north/alice", "south/alice", "alice"] {
        let client = Client::signed_in(&http, name).await;
        assert_eq!(client.ask("POST", "/me/sign-out", "").await.status, 204);
    }
    let [root, boss, porter] = ["root", "north/boss", "porter"];
    let [root, boss, porter] = [
        Client::signed_in(&http, root).await,
        Client::signed_in(&http, boss).await,
        Client::signed_in(&http, porter).await,
    ];
    let count = async |client: &Client, query: &str| {
        let page = client.get(&format!("/admin/history?{query}")).await.ok();
        page["sessions"].as_array().unwrap().len()
    };
    for (query, expected) in [
        ("", 3),
        ("tenant=north", 1),
        ("tenant=", 1),
        ("user=alice", 3),
        ("user=bob", 0),
        ("device=Web", 3),
        ("device=Mobile", 0),
        ("client=shop", 0),
        ("cause=signed_out&limit=2", 2),
        ("cause=blocked", 0),
        ("since=2020-01-01T00:00:00Z", 3),
        ("refresh=1", 3),
    ] {
        assert_eq!(count(&root, query).await, expected, "{query}");
    }
    assert_eq!((count(&boss, "").await, count(&porter, "").await), (1, 1));
    boss.get("/admin/history?tenant=south").await.problem(403, "forbidden");
    porter.get("/admin/history?tenant=north").await.problem(403, "forbidden");
    Client::signed_in(&http, "alice").await.get("/admin/history").await.problem(403, "forbidden");
    http.shutdown().await;
}

/// The same user id in another tenant is another user, also where it is an admin's.
#[tokio::test(start_paused = true)]
async fn a_user_is_not_told_that_they_did_what_their_namesake_of_another_tenant_did() {
    let http = start(Config::default()).await;
    let admin = Client::signed_in(&http, "root").await;
    let other = Client::signed_in(&http, "north/root").await;
    let id = Client::signed_in(&http, "north/root").await.session_id().await.unwrap();
    let block = r#"{"reason":"audit","until":null}"#;
    let place = "/admin/block?tenant=north&user=root";
    assert_eq!(admin.delete(&format!("/admin/sessions/{id}")).await.status, 204);
    let mine = &other.get("/me/history").await.ok()["sessions"][0];
    assert_eq!((&mine["by"], &mine["by_tenant"]), (&json!("administrator"), &Value::Null));
    assert_eq!(admin.ask("PUT", place, block).await.status, 200);
    let kept = admin.get("/admin/users/export?tenant=north&user=root").await.ok();
    let block = &kept["block"];
    assert_eq!((&block["by"], &block["by_tenant"]), (&json!("administrator"), &Value::Null));
    // Its own acts are told as its own, with the tenant for admins.
    assert_eq!(admin.delete(place).await.status, 204);
    let boss = Client::signed_in(&http, "north/boss").await;
    assert_eq!(boss.ask("POST", "/me/sign-out", "").await.status, 204);
    let told = &admin.get("/admin/history?tenant=north&user=boss").await.ok()["sessions"][0];
    assert_eq!((&told["by"], &told["by_tenant"]), (&json!("user:boss"), &json!("north")));
    let told = &Client::signed_in(&http, "north/boss").await.get("/me/history").await.ok();
    assert_eq!(told["sessions"][0]["by"], "user:boss");
    http.shutdown().await;
}
