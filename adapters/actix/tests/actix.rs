//! What only actix-web decides: scopes, encoded paths, extractors without a session, guards, headers.

use std::sync::Arc;

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{HeaderMap, LOCATION};
use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, Error, HttpRequest, HttpResponse, Responder};
use serde_json::Value;
use session_actix::testing::as_user;
use session_actix::{
    AdminAccess, Caller, Claims, Config, CookieOptions, CurrentSession, Fresh, Hooks, MaybeSession,
    Rejection, Require, RequireSession, SessionAuth, SessionCookie, Sessions,
};
use session_conformance::Probe;
use session_engine::SignIn;
use session_store_memory::MemoryStore;

#[actix_web::test]
async fn routes_answer_wherever_they_are_mounted() {
    let sessions = node().await;
    for mount in ["", "/app", "/a%20b/{tenant}"] {
        let at = mount.replace("{tenant}", "n%2Forth");
        let routes = sessions.routes();
        let app = app(&sessions, move |app| {
            app.service(web::scope(&mount.replace("%20", " ")).service(routes));
        });
        let app = init_service(app).await;
        let get = async |path: &str| {
            let request = TestRequest::get().uri(&format!("{at}{path}"));
            let request = as_user(&sessions, "alice", request).await.unwrap();
            call_service(&app, request.to_request()).await
        };
        let list: Value = read_body_json(get("/sessions/me").await).await;
        assert_eq!(list["sessions"][0]["current"], true, "{at}: {list}");
        assert_eq!(text(get("/sessions").await.headers(), "location"), format!("{at}/sessions/"));
        assert_eq!(get("/sessions/").await.status(), 200, "{at}");
        assert_eq!(get("/sessions/nothing").await.status(), 404, "{at}");
        assert_eq!(get("/sessionsx").await.status(), 404, "{at}");
    }
}

#[actix_web::test]
async fn a_users_name_reaches_the_api_as_the_client_encoded_it() {
    let sessions = node().await;
    let routes = sessions.routes();
    let app = init_service(app(&sessions, |app| {
        app.service(web::scope("/app").service(routes));
    }))
    .await;
    for (name, encoded) in
        [("%2F", "%252F"), ("a/b", "a%2Fb"), ("+ %", "+%20%25"), ("é", "%C3%A9"), ("%41", "%2541")]
    {
        sign_in(&sessions, name).await;
        let uri = format!("/app/sessions/admin/users/{encoded}/sessions");
        let request = as_user(&sessions, "root", TestRequest::delete().uri(&uri)).await.unwrap();
        let ended: Value = read_body_json(call_service(&app, request.to_request()).await).await;
        assert_eq!(ended["revoked"], 1, "{name}: {ended}");
    }
    // The router decodes this as the replacement character.
    sign_in(&sessions, "\u{fffd}").await;
    let request = TestRequest::delete().uri("/app/sessions/admin/users/%FF/sessions");
    let request = as_user(&sessions, "root", request).await.unwrap();
    assert_eq!(call_service(&app, request.to_request()).await.status(), 400);
}

#[actix_web::test]
async fn the_guard_of_the_node_sees_every_header() {
    let hooks = Hooks::default().with_guard(|caller: Caller<'_>| {
        match caller.headers.get("x-api-key").map(|key| key.as_bytes()) {
            Some(b"secret") => AdminAccess::Deployment,
            _ => AdminAccess::Denied,
        }
    });
    let store = Arc::new(MemoryStore::new());
    let sessions = Sessions::start_with(store, Config::default(), hooks).await.unwrap();
    let app = init_service(app(&sessions, |_| {})).await;
    let uri = "/sessions/admin/policy";
    let request = TestRequest::get().uri(uri).insert_header(("x-api-key", "secret"));
    assert_eq!(call_service(&app, request.to_request()).await.status(), 200);
    let request = TestRequest::get().uri(uri);
    assert_eq!(call_service(&app, request.to_request()).await.status(), 401);
}

#[actix_web::test]
async fn an_outage_is_not_taken_for_nobody() {
    let probe = Probe::over(MemoryStore::new());
    let sessions = Sessions::start(probe.clone(), Config::default()).await.unwrap();
    let elsewhere = Sessions::start(probe.clone(), Config::default()).await.unwrap();
    let app = init_service(app(&sessions, |_| {})).await;
    let request = as_user(&elsewhere, "alice", TestRequest::get().uri("/maybe")).await.unwrap();
    probe.away(true);
    let answer = call_service(&app, request.to_request()).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(text(answer.headers(), "content-type"), "application/problem+json");
    probe.away(false);
    let anonymous = call_service(&app, TestRequest::get().uri("/maybe").to_request()).await;
    assert_eq!(anonymous.status(), 200);
}

#[actix_web::test]
async fn extractors_and_guards_refuse_as_problems_or_with_the_way_to_sign_in() {
    let mut config = Config::default();
    config.http = config.http.with_sign_in_path("/login");
    let sessions = Sessions::start(MemoryStore::new(), config).await.unwrap();
    let app = init_service(app(&sessions, |_| {})).await;
    for path in ["/session", "/fresh", "/claims", "/guarded/x"] {
        let answer = call_service(&app, TestRequest::get().uri(path).to_request()).await;
        assert_eq!(answer.status(), 401, "{path}");
        let problem: Value = read_body_json(answer).await;
        assert_eq!(problem["type"], "urn:session-kit:unauthorized", "{path}");
        let page = TestRequest::get().uri(path).insert_header(("accept", "text/html"));
        let answer = call_service(&app, page.to_request()).await;
        assert_eq!(answer.status(), 303, "{path}");
        assert_eq!(text(answer.headers(), "location"), format!("/login?next={path}"));
        let user = as_user(&sessions, "alice", TestRequest::get().uri(path)).await.unwrap();
        assert_eq!(call_service(&app, user.to_request()).await.status(), 200, "{path}");
    }
    let user = TestRequest::get().uri("/never");
    let user = as_user(&sessions, "alice", user).await.unwrap().to_request();
    assert_eq!(call_service(&app, user).await.status(), 403);
}

#[actix_web::test]
async fn a_missing_middleware_is_named() {
    let app = init_service(App::new().route("/", web::get().to(session))).await;
    let answer = call_service(&app, TestRequest::get().to_request()).await;
    assert_eq!(answer.status(), 500);
    let problem: Value = read_body_json(answer).await;
    assert_eq!(problem["type"], "urn:session-kit:misconfigured");
}

#[actix_web::test]
async fn responses_to_a_user_are_private_unless_the_application_decides() {
    let sessions = node().await;
    let app = init_service(app(&sessions, |_| {})).await;
    let headers = async |path: &'static str, user: bool| {
        let request = TestRequest::get().uri(path);
        let request =
            if user { as_user(&sessions, "alice", request).await.unwrap() } else { request };
        let answer = call_service(&app, request.to_request()).await;
        let all = |name| {
            let values = answer.headers().get_all(name).map(|value| value.to_str().unwrap());
            values.collect::<Vec<_>>().join("; ")
        };
        [all("cache-control"), all("vary")]
    };
    assert_eq!(headers("/maybe", true).await, ["private, no-store", "cookie"]);
    assert_eq!(headers("/maybe", false).await, ["", ""]);
    assert_eq!(headers("/public", true).await, ["public", ""]);
    // A refusal is a response, too.
    assert_eq!(headers("/never", true).await, ["no-store", ""]);
}

#[actix_web::test]
async fn a_cookie_joins_those_of_the_response() {
    let sessions = node().await;
    let app = init_service(app(&sessions, |_| {})).await;
    let answer = call_service(&app, TestRequest::post().uri("/login").to_request()).await;
    assert_eq!(answer.status(), 303);
    let cookies: Vec<_> = answer.headers().get_all("set-cookie").collect();
    assert_eq!((cookies.len(), cookies[0].to_str().unwrap()), (2, "theme=dark"));
    assert!(cookies[1].is_sensitive());
    assert_eq!(text(answer.headers(), "cache-control"), "no-store");
    let answer = call_service(&app, TestRequest::post().uri("/logout").to_request()).await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers().contains_key("set-cookie")),
        (200, false)
    );
}

#[actix_web::test]
async fn a_stream_has_no_length_and_its_head_none_either() {
    let sessions = node().await;
    let app = init_service(app(&sessions, |_| {})).await;
    let size = async |request: TestRequest, path: &str| {
        let request = as_user(&sessions, "alice", request.uri(path)).await.unwrap();
        let answer = call_service(&app, request.to_request()).await;
        assert_eq!(answer.status(), 200);
        answer.response().body().size()
    };
    assert_eq!(size(TestRequest::get(), "/sessions/me/events").await, BodySize::Stream);
    let head = TestRequest::default().method(actix_web::http::Method::HEAD);
    assert_eq!(size(head, "/sessions/me/events").await, BodySize::Stream);
    let head = TestRequest::default().method(actix_web::http::Method::HEAD);
    let page = size(TestRequest::get(), "/sessions/").await;
    assert_eq!(size(head, "/sessions/").await, page);
}

/// A node on which `root` administers.
async fn node() -> Sessions {
    let hooks = Hooks::default().with_guard(|caller: Caller<'_>| match caller.session {
        Some(session) if session.user().as_str() == "root" => AdminAccess::Deployment,
        _ => AdminAccess::Denied,
    });
    let mut config = Config::default();
    config.http = config.http.with_cookie(CookieOptions::development());
    Sessions::start_with(Arc::new(MemoryStore::new()), config, hooks).await.unwrap()
}

async fn sign_in(sessions: &Sessions, user: &str) {
    let user = session_core::UserKey::new(session_core::UserId::new(user).unwrap());
    sessions.manager().sign_in(SignIn::new(user)).await.unwrap();
}

fn app<T: FnOnce(&mut ServiceConfig)>(
    sessions: &Sessions,
    more: T,
) -> App<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = ServiceResponse,
        Error = Error,
        InitError = (),
    > + use<T>,
> {
    let guarded = web::scope("/guarded")
        .route("/x", web::get().to(|| async { "x" }))
        .wrap(Require(RequireSession::signed_in()));
    let never = RequireSession::signed_in().claims(|_| false);
    App::new()
        .configure(more)
        .route("/session", web::get().to(session))
        .route("/fresh", web::get().to(async |Fresh(_): Fresh<300>| "fresh"))
        .route("/claims", web::get().to(async |Claims(_): Claims<Value>| "claims"))
        .route("/maybe", web::get().to(async |MaybeSession(_): MaybeSession| "maybe"))
        .route("/public", web::get().to(public))
        .route("/login", web::post().to(login))
        .route("/logout", web::post().to(logout))
        .service(guarded)
        .service(web::resource("/never").get(|| async { "never" }).wrap(Require(never)))
        .service(sessions.routes())
        .wrap(sessions.middleware())
}

async fn session(session: CurrentSession) -> String {
    session.user().to_string()
}

async fn public() -> impl Responder {
    HttpResponse::Ok().insert_header(("cache-control", "public")).finish()
}

async fn login(auth: SessionAuth) -> Result<impl Responder, Rejection> {
    let (_, cookie) = auth.sign_in("alice").await?;
    let mut answer = HttpResponse::SeeOther();
    answer.insert_header((LOCATION, "/")).insert_header(("cache-control", "public"));
    answer.append_header(("set-cookie", "theme=dark"));
    Ok(cookie.on(answer))
}

async fn logout(auth: SessionAuth) -> Result<SessionCookie, Rejection> {
    auth.sign_out().await
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// An application that logs its requests with `{:?}` logs no token.
#[actix_web::test]
async fn no_debug_of_a_request_shows_a_token() {
    let sessions = node().await;
    let debug = |request: HttpRequest| async move { format!("{:?}", request.headers()) };
    let app = init_service(app(&sessions, move |app| {
        app.route("/", web::get().to(debug));
    }))
    .await;
    let request = TestRequest::get().insert_header(("cookie", "a=b; __Host-session=secret"));
    let request = request.insert_header(("authorization", "Bearer secret")).to_request();
    let body = actix_web::test::call_and_read_body(&app, request).await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains("cookie") && !text.contains("secret"), "{text}");
}
