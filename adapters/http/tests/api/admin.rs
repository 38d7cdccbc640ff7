//! Blocks, bulk endings, what is kept of a user, and who may do it.

use std::time::Duration;

use serde_json::{Value, json};
use session_core::Actor;
use session_core::policy::{Policy, PolicyScope, PreventConcurrentLogin};
use session_http::{Config, NewSession};

use crate::node::{Answer, Client, start, user};

async fn sign_in(client: &Client, name: &str) -> Answer {
    client.sign_in(NewSession::of(user(name))).await
}

#[tokio::test(start_paused = true)]
async fn a_blocked_user_is_out_and_is_told_why_and_until_when() {
    let http = start(Config::default()).await;
    let root = Client::signed_in(&http, "root").await;
    let alice = Client::signed_in(&http, "alice").await;
    let browser = Client::browser(&http);
    let clear = root.get("/admin/block?user=alice").await.ok();
    assert_eq!((&clear["blocked"], &clear["reason"]), (&json!(false), &Value::Null));
    let body = json!({ "reason": "fraud", "until": "2026-06-01T00:00:00Z" }).to_string();
    let set = root.ask("PUT", "/admin/block?user=alice", &body).await.ok();
    assert_eq!(set, json!({ "revoked": 1 }));
    assert_eq!(alice.session_id().await, None);
    let shown = root.get("/admin/block?user=alice").await.ok();
    assert_eq!((&shown["blocked"], &shown["reason"]), (&json!(true), &json!("fraud")));
    assert_eq!(shown["by"], "user:root");
    assert!(shown["until"].as_str().unwrap().starts_with("2026-06-01T00:00:00"), "{shown}");
    let problem = sign_in(&browser, "alice").await.problem(403, "blocked");
    assert_eq!((&problem["reason"], &problem["until"]), (&shown["reason"], &shown["until"]));
    // Others are not; the same name in a tenant is another user.
    for name in ["bob", "north/alice"] {
        assert_eq!(sign_in(&browser, name).await.status, 200, "{name}");
    }
    assert_eq!(root.delete("/admin/block?user=alice").await.status, 204);
    assert_eq!(sign_in(&browser, "alice").await.status, 200);
    // Both parts of the body are optional, and so is the body.
    for body in ["", "{}", r#"{"reason":null,"until":null}"#] {
        root.ask("PUT", "/admin/block?user=alice", body).await.ok();
        let problem = sign_in(&browser, "alice").await.problem(403, "blocked");
        assert_eq!((&problem["reason"], &problem["until"]), (&Value::Null, &Value::Null));
        assert_eq!(root.delete("/admin/block?user=alice").await.status, 204);
    }
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_block_of_the_deployment_ends_at_its_time() {
    let http = start(Config::default()).await;
    let root = Client::signed_in(&http, "root").await;
    let browser = Client::browser(&http);
    let until = http.manager().now().plus(Duration::from_secs(60)).to_string();
    let body = json!({ "until": until }).to_string();
    assert_eq!(root.ask("PUT", "/admin/block", &body).await.ok(), json!({ "revoked": 1 }));
    assert_eq!(root.session_id().await, None);
    for name in ["alice", "north/alice", "root"] {
        let problem = sign_in(&browser, name).await.problem(403, "blocked");
        assert_eq!(problem["until"], until, "{name}");
    }
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(sign_in(&browser, "alice").await.status, 200);
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_blocked_by_accident_or_beyond_the_walls() {
    let http = start(Config::default()).await;
    let root = Client::signed_in(&http, "root").await;
    let boss = Client::signed_in(&http, "north/boss").await;
    let porter = Client::signed_in(&http, "porter").await;
    let alice = Client::signed_in(&http, "south/alice").await;
    for method in ["GET", "PUT", "DELETE"] {
        for query in ["?tenant=", "?user=", "?tenat=north", "?tenant=north&tenant=south"] {
            let path = format!("/admin/block{query}");
            root.ask(method, &path, "").await.problem(400, "invalid");
        }
        for query in ["?tenant=south", "?tenant=", "?tenant=south&user=alice"] {
            let path = format!("/admin/block{query}");
            boss.ask(method, &path, "").await.problem(403, "forbidden");
        }
        porter.ask(method, "/admin/block", "").await.problem(403, "forbidden");
        alice.ask(method, "/admin/block?user=alice", "").await.problem(403, "forbidden");
    }
    for (body, field) in [
        (r#"{"reason":7}"#, "reason"),
        (r#"{"reason":""}"#, "reason"),
        (r#"{"until":"tomorrow"}"#, "until"),
        (r#"{"until":"2020-01-01T00:00:00Z"}"#, "until"),
        (r#"{"until":"9999-12-31T23:59:59-01:00"}"#, "until"),
        (r#"{"untill":null}"#, "untill"),
    ] {
        let problem = root.ask("PUT", "/admin/block", body).await.problem(400, "invalid");
        assert_eq!(problem["field"], field, "{body}");
    }
    for client in [&root, &boss, &porter, &alice] {
        assert!(client.session_id().await.is_some());
    }
    // Without a tenant, a tenant's admin means their own.
    assert_eq!(boss.ask("PUT", "/admin/block", "").await.ok(), json!({ "revoked": 1 }));
    assert_eq!(root.get("/admin/block?tenant=north").await.ok()["blocked"], true);
    assert!(alice.session_id().await.is_some());
    // The empty tenant is no place for a policy either.
    let problem = root.get("/admin/policy?tenant=").await.problem(400, "invalid");
    assert_eq!(problem["field"], "tenant");
    http.shutdown().await;
}

/// A parameter that a call does not know may have been meant to narrow it.
#[tokio::test(start_paused = true)]
async fn no_call_passes_over_a_parameter() {
    let http = start(Config::default()).await;
    let root = Client::signed_in(&http, "root").await;
    let other = Client::signed_in(&http, "root").await;
    let id = other.session_id().await.unwrap();
    let (mine, named) = (format!("/me/{id}"), format!("/admin/sessions/{id}"));
    for (method, path) in [
        ("GET", "/me"),
        ("GET", "/me/events"),
        ("GET", "/me/history"),
        ("POST", "/me/revoke-others"),
        ("POST", "/me/sign-out"),
        ("DELETE", &mine),
        ("PATCH", &mine),
        ("POST", "/ticket"),
        ("GET", "/health"),
        ("GET", "/admin/events"),
        ("GET", "/admin/history"),
        ("GET", "/admin/sessions"),
        ("DELETE", "/admin/sessions"),
        ("GET", &named),
        ("DELETE", &named),
        ("GET", "/admin/policy"),
        ("PUT", "/admin/policy"),
        ("DELETE", "/admin/policy"),
        ("GET", "/admin/block"),
        ("PUT", "/admin/block"),
        ("DELETE", "/admin/block"),
        ("GET", "/admin/users/export"),
        ("DELETE", "/admin/users/data"),
        ("GET", "/admin/users/alice/export"),
        ("DELETE", "/admin/users/alice/data"),
    ] {
        let problem = root.ask(method, &format!("{path}?kind=Web"), "").await;
        assert_eq!(problem.problem(400, "invalid")["field"], "kind", "{method} {path}");
    }
    assert!(root.session_id().await.is_some() && other.session_id().await.is_some());
    root.ask("PATCH", "/me/", "").await.problem(404, "not-found");
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_of_another_tenant_than_the_one_that_is_named_is_not_there() {
    let http = start(Config::default()).await;
    let root = Client::signed_in(&http, "root").await;
    let alice = Client::signed_in(&http, "north/alice").await;
    let path = format!("/admin/sessions/{}", alice.session_id().await.unwrap());
    for walls in ["?tenant=south", "?tenant="] {
        root.get(&format!("{path}{walls}")).await.problem(404, "not-found");
        root.delete(&format!("{path}{walls}")).await.problem(404, "not-found");
    }
    let boss = Client::signed_in(&http, "north/boss").await;
    boss.get(&format!("{path}?tenant=south")).await.problem(403, "forbidden");
    assert_eq!(root.get(&format!("{path}?tenant=north")).await.ok()["user"], "alice");
    assert_eq!(root.delete(&format!("{path}?tenant=north")).await.status, 204);
    assert!(alice.session_id().await.is_none());
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_bulk_ending_needs_a_filter_or_says_all() {
    let http = start(Config::default()).await;
    let root = Client::signed_in(&http, "root").await;
    for query in ["", "?except=00000000-0000-4000-8000-000000000000"] {
        let problem = root.delete(&format!("/admin/sessions{query}")).await;
        let problem = problem.problem(400, "invalid");
        let detail = problem["detail"].as_str().unwrap();
        for name in ["tenant", "user", "device", "client", "signed_in_before", "all=true"] {
            assert!(detail.contains(name), "{detail}");
        }
    }
    for (query, field) in [
        ("tenant=", "tenant"),
        ("tenant=&except=00000000-0000-4000-8000-000000000000", "tenant"),
        ("user=", "user"),
        ("device=", "device"),
        ("client=", "client"),
        ("signed_in_before=", "signed_in_before"),
        ("signed_in_before=yesterday", "signed_in_before"),
        ("all=", "all"),
        ("all=false", "all"),
        ("all=1", "all"),
        ("all=true&usr=alice", "usr"),
        ("user=alice&active_since=2020-01-01T00:00:00Z", "active_since"),
    ] {
        let problem = root.delete(&format!("/admin/sessions?{query}")).await;
        assert_eq!(problem.problem(400, "invalid")["field"], field, "{query}");
    }
    assert!(root.session_id().await.is_some());
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_bulk_ending_ends_what_all_filters_select() {
    let http = start(Config::default()).await;
    let root = Client::signed_in(&http, "root").await;
    let own = root.session_id().await.unwrap();
    let begin = async || {
        let mut clients = Vec::new();
        for (name, kind, client) in [
            ("alice", "Web", "shop"),
            ("north/alice", "Mobile", "shop"),
            ("north/bob", "Web", "bank"),
        ] {
            let new = NewSession::of(user(name))
                .with_device_kind(session_core::DeviceKind::new(kind).unwrap())
                .with_client_id(session_core::ClientId::new(client).unwrap());
            clients.push(Client::signed_in_as(&http, new).await);
        }
        clients
    };
    let left = async |clients: &[Client]| {
        let mut left = String::new();
        for client in clients {
            left.push(if client.session_id().await.is_some() { '+' } else { '-' });
        }
        left
    };
    let later = http.manager().now().plus(Duration::from_secs(3600)).to_string();
    for (query, revoked, rest) in [
        ("user=alice".to_owned(), 1, "-++"),
        ("tenant=&client=shop".to_owned(), 1, "-++"),
        (format!("tenant=&all=true&except={own}"), 1, "-++"),
        ("client=shop".to_owned(), 2, "--+"),
        ("tenant=north".to_owned(), 2, "+--"),
        ("client=shop&device=Mobile".to_owned(), 1, "+-+"),
        ("tenant=north&client=bank".to_owned(), 1, "++-"),
        ("user=alice&tenant=north".to_owned(), 1, "+-+"),
        (format!("tenant=north&user=bob&signed_in_before={later}"), 1, "++-"),
        ("user=bob&tenant=north&signed_in_before=2020-01-01T00:00:00Z".to_owned(), 0, "+++"),
        (format!("client=shop&except={own}"), 2, "--+"),
    ] {
        let clients = begin().await;
        let answer = root.delete(&format!("/admin/sessions?{query}")).await.ok();
        assert_eq!(answer, json!({ "revoked": revoked }), "{query}");
        assert_eq!(left(&clients).await, rest, "{query}");
        root.delete("/admin/sessions?client=shop").await.ok();
        root.delete("/admin/sessions?client=bank").await.ok();
    }
    // A tenant's admin reaches their own tenant only, with and without a tenant in the query.
    let boss = Client::signed_in(&http, "north/boss").await;
    let clients = begin().await;
    boss.delete("/admin/sessions?all=true&tenant=south").await.problem(403, "forbidden");
    assert_eq!(boss.delete("/admin/sessions?all=true").await.ok(), json!({ "revoked": 3 }));
    assert_eq!(left(&clients).await, "+--");
    let answer = root.delete(&format!("/admin/sessions?all=true&except={own}")).await.ok();
    assert_eq!(answer, json!({ "revoked": 1 }));
    let clients = begin().await;
    assert_eq!(root.delete("/admin/sessions?all=true").await.ok(), json!({ "revoked": 4 }));
    assert_eq!((left(&clients).await.as_str(), root.session_id().await), ("---", None));
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_bulk_ending_by_time_alone_ends_what_began_before_it() {
    let http = start(Config::default()).await;
    let (old, alice) =
        (Client::signed_in(&http, "root").await, Client::signed_in(&http, "north/alice").await);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let cutoff = http.manager().now();
    let (root, bob) =
        (Client::signed_in(&http, "root").await, Client::signed_in(&http, "bob").await);
    let answer = root.delete(&format!("/admin/sessions?signed_in_before={cutoff}")).await.ok();
    assert_eq!(answer, json!({ "revoked": 2 }));
    assert_eq!((old.session_id().await, alice.session_id().await), (None, None));
    assert!(root.session_id().await.is_some() && bob.session_id().await.is_some());
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_a_newer_version_is_not_overwritten() {
    let http = start(Config::default()).await;
    let root = Client::signed_in(&http, "root").await;
    let all = PreventConcurrentLogin::LogoutFromAllDevices;
    let known = root.ask("PUT", "/admin/policy", &json!(Policy::from(all)).to_string()).await;
    let tag = known.headers["etag"].clone();
    assert!(known.ok().get("newer").is_none(), "of this version");
    let newer = Policy { newer: true, ..all.into() };
    let set = Some(newer.clone());
    let set = http.manager().set_policy(PolicyScope::Deployment, set, Actor::Application);
    set.await.unwrap();
    let shown = root.get("/admin/policy").await;
    assert_ne!(shown.headers["etag"], tag);
    let shown = shown.ok();
    assert_eq!(shown["newer"], true);
    let stored = || http.manager().policy(&PolicyScope::Deployment);
    root.ask("PUT", "/admin/policy", &shown.to_string()).await.problem(409, "newer-version");
    assert_eq!(stored().await.unwrap(), Some(newer));
    // Of a tenant that inherits it, nothing is lost.
    let place = "/admin/policy?tenant=north";
    assert_eq!(root.get(place).await.ok()["newer"], true);
    assert!(root.ask("PUT", place, &shown.to_string()).await.ok().get("newer").is_none());
    assert_eq!(root.delete("/admin/policy").await.status, 204);
    assert_eq!(stored().await.unwrap(), None);
    root.ask("PUT", "/admin/policy", &shown.to_string()).await.ok();
    http.shutdown().await;
}

/// As the description of the API has it: a list of the same values is something else.
#[tokio::test(start_paused = true)]
async fn a_policy_is_an_object_and_so_is_each_limit() {
    let http = start(Config::default()).await;
    let root = Client::signed_in(&http, "root").await;
    let put = async |body: &str| root.ask("PUT", "/admin/policy", body).await;
    for body in ["[]", "null", r#"["Disabled"]"#, r#"["Disabled",[],false,null]"#] {
        assert!(put(body).await.problem(400, "invalid").get("field").is_none(), "{body}");
    }
    for (body, field) in [
        (r#"{"limits":[]}"#, "prevent_concurrent_login"),
        (r#"{"prevent_concurrent_login":"Sometimes"}"#, "prevent_concurrent_login"),
        (r#"{"prevent_concurrent_login":"Disabled","limits":[[2,"user","reject"]]}"#, "limits"),
        (r#"{"prevent_concurrent_login":"Disabled","limits":{}}"#, "limits"),
        (r#"{"prevent_concurrent_login":"Disabled","limit":[]}"#, "limit"),
    ] {
        assert_eq!(put(body).await.problem(400, "invalid")["field"], field, "{body}");
    }
    assert_eq!(root.get("/admin/policy").await.ok()["inherited"], true);
    http.shutdown().await;
}

/// What is not UTF-8 stands for nobody, and not for a user with another name.
#[tokio::test(start_paused = true)]
async fn parameters_that_are_not_utf_8_are_refused() {
    let http = start(Config::default()).await;
    let root = Client::signed_in(&http, "root").await;
    for (method, path) in [
        ("GET", "/admin/sessions?user=%ff"),
        ("PUT", "/admin/block?user=%ff"),
        ("DELETE", "/admin/sessions?user=%C3"),
    ] {
        root.ask(method, path, "").await.problem(400, "invalid");
    }
    assert_eq!(root.get("/admin/block?user=%EF%BF%BD").await.ok()["blocked"], false);
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_of_a_user_is_handed_out_and_deleted() {
    let http = start(Config::default()).await;
    let root = Client::signed_in(&http, "root").await;
    let boss = Client::signed_in(&http, "north/boss").await;
    let gone = Client::signed_in(&http, "north/alice").await;
    gone.ask("POST", "/me/sign-out", "").await;
    let alice = Client::signed_in(&http, "north/alice").await;
    let id = alice.session_id().await.unwrap();
    let namesake = Client::signed_in(&http, "alice").await;
    let policy = r#"{"prevent_concurrent_login":"LogoutFromAllDevices"}"#;
    root.ask("PUT", "/admin/policy?tenant=north&user=alice", policy).await.ok();
    let kept = root.get("/admin/users/alice/export?tenant=north").await.ok();
    assert_eq!((&kept["user"], &kept["tenant"]), (&json!("alice"), &json!("north")));
    assert_eq!(kept["sessions"][0]["id"], id);
    assert_eq!(kept["history"][0]["cause"], "signed_out");
    assert_eq!(kept["policy"]["prevent_concurrent_login"], "LogoutFromAllDevices");
    assert_eq!(kept["block"], Value::Null);
    // The secret part of a token, of either half.
    let token = alice.headers["cookie"].to_str().unwrap();
    let text = kept.to_string();
    assert!(!text.contains(&token[token.len() - 32..]) && !text.contains("digest"), "{text}");
    assert_eq!(boss.get("/admin/users/alice/export").await.ok(), kept, "their own tenant's");
    for (client, path) in [(&boss, "alice/export?tenant=south"), (&alice, "alice/export")] {
        client.get(&format!("/admin/users/{path}")).await.problem(403, "forbidden");
    }
    boss.delete("/admin/users/alice/data?tenant=").await.problem(403, "forbidden");
    for path in ["alice/data?user=bob", "alice/export?limit=1"] {
        let method = if path.contains("data") { "DELETE" } else { "GET" };
        root.ask(method, &format!("/admin/users/{path}"), "").await.problem(400, "invalid");
    }
    let erased = root.delete("/admin/users/alice/data?tenant=north").await.ok();
    assert_eq!(erased, json!({ "sessions": 1, "history": 2 }));
    assert_eq!(alice.session_id().await, None);
    assert!(namesake.session_id().await.is_some());
    let kept = root.get("/admin/users/alice/export?tenant=north").await.ok();
    assert_eq!((&kept["sessions"], &kept["history"]), (&json!([]), &json!([])));
    assert_eq!(kept["policy"], Value::Null);
    for (method, path) in [("POST", "export"), ("GET", "data"), ("GET", "sessions")] {
        let answer = root.ask(method, &format!("/admin/users/alice/{path}"), "").await;
        answer.problem(405, "method-not-allowed");
    }
    http.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_acts_as_an_admin_does_not_administer() {
    let http = start(Config::default()).await;
    let support = user("north/support");
    let new = NewSession::of(user("root")).with_impersonator(support);
    let acting = Client::signed_in_as(&http, new).await;
    let me = acting.get("/me").await.ok();
    assert_eq!(
        (&me["impersonator"], &me["sessions"][0]["impersonator"]),
        (&json!("support"), &json!("support"))
    );
    assert_eq!(
        (&me["impersonator_tenant"], &me["sessions"][0]["impersonator_tenant"]),
        (&json!("north"), &json!("north"))
    );
    let id = me["sessions"][0]["id"].as_str().unwrap();
    let own = format!("/admin/sessions/{id}");
    for (method, path) in [
        ("GET", "/admin/sessions"),
        ("GET", "/admin/events"),
        ("GET", "/admin/history"),
        ("GET", "/admin/policy"),
        ("PUT", "/admin/policy"),
        ("DELETE", "/admin/policy"),
        ("GET", "/admin/block"),
        ("PUT", "/admin/block"),
        ("DELETE", "/admin/block"),
        ("DELETE", "/admin/sessions?all=true"),
        ("GET", &own),
        ("DELETE", &own),
        ("DELETE", "/admin/users/alice/sessions"),
        ("GET", "/admin/users/alice/export"),
        ("GET", "/admin/users/export?user=alice"),
        ("DELETE", "/admin/users/alice/data"),
        ("DELETE", "/admin/users/data?user=alice"),
    ] {
        acting.ask(method, path, "").await.problem(403, "impersonated");
    }
    // Admins see who did what in the user's name.
    let root = Client::signed_in(&http, "root").await;
    let id = root.session_id().await.unwrap();
    assert_eq!(acting.delete(&format!("/me/{id}")).await.status, 204);
    let root = Client::signed_in(&http, "root").await;
    let admins = root.get("/admin/history").await.ok();
    assert_eq!(admins["sessions"][0]["by"], "user:support");
    assert_eq!(admins["sessions"][0]["by_tenant"], "north");
    assert_eq!(root.get("/me/history").await.ok()["sessions"][0]["by"], "administrator");
    http.shutdown().await;
}

/// Where the options ask for it, what an admin ends needs a recent proof of who they are.
#[tokio::test(start_paused = true)]
async fn an_admin_whose_session_is_not_fresh_ends_and_blocks_nothing() {
    let mut config = Config::default();
    config.http = config.http.with_reauthenticate_path("/login");
    let http = start(config).await;
    let root = Client::signed_in(&http, "root").await;
    tokio::time::sleep(Duration::from_secs(16 * 60)).await;
    for (method, path) in [
        ("PUT", "/admin/block"),
        ("DELETE", "/admin/block"),
        ("DELETE", "/admin/sessions?all=true"),
        ("DELETE", "/admin/users/alice/data"),
    ] {
        let problem = root.ask(method, path, "").await.problem(401, "reauthentication-required");
        assert_eq!(problem["reauthenticate"], "/login", "{method} {path}");
    }
    for path in ["/admin/block", "/admin/history", "/admin/users/alice/export"] {
        root.get(path).await.ok();
    }
    http.shutdown().await;
}
