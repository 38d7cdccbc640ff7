//! What is poem's own: nesting, raw paths, guards, errors and their headers.

use std::sync::Arc;

use poem::http::{Method, StatusCode};
use poem::{
    Endpoint, EndpointExt, Error, IntoResponse, Request, RequestBuilder, Response, Route, get,
    handler, post,
};
use serde_json::Value;
use session_conformance::Probe;
use session_http::testing::headers_of;
use session_poem::{
    AdminAccess, Caller, Config, CurrentSession, Fresh, Hooks, MaybeSession, Rejection, Require,
    RequireSession, SessionAuth, Sessions,
};
use session_store_memory::MemoryStore;

#[handler]
async fn user(session: CurrentSession) -> String {
    session.user().to_string()
}

#[handler]
fn maybe(MaybeSession(session): MaybeSession) -> String {
    session.map_or_else(|| "nobody".to_owned(), |session| session.user().to_string())
}

#[handler]
fn optional(session: Option<CurrentSession>) -> String {
    session.map_or_else(|| "nobody".to_owned(), |session| session.user().to_string())
}

#[handler]
async fn fresh(Fresh(session): Fresh<300>) -> String {
    session.user().to_string()
}

#[handler]
fn cached() -> impl IntoResponse {
    "cached".with_header("cache-control", "max-age=60")
}

#[handler]
fn teapot() -> Result<String, Error> {
    Err(Error::from_status(StatusCode::IM_A_TEAPOT))
}

#[handler]
async fn sign_out(auth: SessionAuth) -> Result<Response, Rejection> {
    Ok(auth.sign_out().await?.on("bye".with_header("cache-control", "public")))
}

fn app(sessions: &Sessions) -> impl Endpoint<Output = Response> + use<> {
    let admins = RequireSession::signed_in().claims(|claims| claims["admin"] == true);
    Route::new()
        .at("/name", get(user))
        .at("/maybe", get(maybe))
        .at("/optional", get(optional))
        .at("/fresh", get(fresh))
        .at("/cached", get(cached))
        .at("/teapot", get(teapot))
        .at("/sign-out", post(sign_out))
        .at("/guarded", get(maybe).with(Require(RequireSession::signed_in())))
        .nest("/admins", Route::new().at("/name", get(user)).with(Require(admins)))
        .with(sessions.routes())
        .with(sessions.middleware())
}

async fn start() -> Sessions {
    let hooks = Hooks::default().with_guard(|caller: Caller<'_>| match caller.session {
        Some(session) if session.user().as_str() == "root" => AdminAccess::Deployment,
        _ => AdminAccess::Denied,
    });
    let mut config = Config::default();
    config.http.sign_in_path = Some("/login".to_owned());
    Sessions::start_with(Arc::new(MemoryStore::new()), config, hooks).await.unwrap()
}

fn request(method: Method, uri: &str) -> RequestBuilder {
    Request::builder().method(method).uri_str(uri)
}

async fn signed_in(sessions: &Sessions, who: &str, request: RequestBuilder) -> Request {
    let headers = headers_of(sessions, who).await.unwrap();
    let request =
        headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    request.finish()
}

fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

async fn json(response: Response) -> Value {
    serde_json::from_slice(&response.into_body().into_bytes().await.unwrap()).unwrap()
}

#[tokio::test]
async fn routes_may_be_nested() {
    let sessions = start().await;
    let outside = app(&sessions);
    let inside = Route::new().nest("/app", Route::new().nest("/deep", app(&sessions)));
    for (app, base) in [(outside.boxed(), ""), (inside.boxed(), "/app/deep")] {
        let me =
            signed_in(&sessions, "alice", request(Method::GET, &format!("{base}/sessions/me")));
        let response = app.get_response(me.await).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(json(response).await["user"], "alice");

        let page = format!("{base}/sessions/");
        let response = app.get_response(request(Method::GET, &page).finish()).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER);

        for (path, status) in [("/sessions", 303), ("/sessions/other", 404), ("/sessionsx", 404)] {
            let response =
                app.get_response(request(Method::GET, &format!("{base}{path}")).finish());
            assert_eq!(response.await.status(), status, "{base}{path}");
        }
    }
}

#[tokio::test]
async fn a_path_arrives_as_the_client_sent_it() {
    let sessions = start().await;
    let app = Route::new().nest("/app", app(&sessions));
    for (name, path) in [("a/b", "a%2Fb"), ("%2F", "%252F"), ("ü *", "%C3%BC%20*")] {
        let _ = headers_of(&sessions, name).await.unwrap();
        let path = format!("/app/sessions/admin/users/{path}/sessions");
        let revoke = signed_in(&sessions, "root", request(Method::DELETE, &path)).await;
        let response = app.get_response(revoke).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(json(response).await, serde_json::json!({ "revoked": 1 }), "{path}");
    }
}

#[tokio::test]
async fn guards_stand_around_endpoints_and_routes() {
    let sessions = start().await;
    let app = app(&sessions);
    for (path, nobody, alice) in
        [("/guarded", 401, 200), ("/admins/name", 401, 403), ("/fresh", 401, 200)]
    {
        let response = app.get_response(request(Method::GET, path).finish()).await;
        assert_eq!(response.status(), nobody, "{path}");
        assert_eq!(header(&response, "content-type"), Some("application/problem+json"));
        let request = signed_in(&sessions, "alice", request(Method::GET, path)).await;
        assert_eq!(app.get_response(request).await.status(), alice, "{path}");
    }
}

#[tokio::test]
async fn a_browser_is_sent_to_sign_in_and_back() {
    let sessions = start().await;
    let app = app(&sessions);
    let page = request(Method::GET, "/name?x=1").header("accept", "text/html").finish();
    let response = app.get_response(page).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(header(&response, "location"), Some("/login?next=/name%3Fx%3D1"));
}

#[tokio::test]
async fn in_an_outage_nobody_is_taken_for_signed_out() {
    let probe = Probe::over(MemoryStore::new());
    let node = Sessions::start(probe.clone(), Config::default()).await.unwrap();
    let headers = headers_of(&node, "alice").await.unwrap();
    // Another node has not seen the session yet.
    let sessions = Sessions::start(probe.clone(), Config::default()).await.unwrap();
    let app = app(&sessions);
    probe.away(true);
    for (path, status) in [("/name", 503), ("/maybe", 503), ("/guarded", 503), ("/optional", 200)] {
        let request = headers
            .iter()
            .cloned()
            .fold(request(Method::GET, path), |request, (name, value)| request.header(name, value));
        let response = app.get_response(request.finish()).await;
        assert_eq!(response.status(), status, "{path}");
    }
    assert_eq!(app.get_response(request(Method::GET, "/maybe").finish()).await.status(), 200);
}

#[tokio::test]
async fn responses_to_sessions_are_private_errors_too() {
    let sessions = start().await;
    let app = app(&sessions);
    let private = Some("private, no-store");
    for (path, status, control) in [
        ("/name", 200, private),
        ("/teapot", 418, private),
        ("/nowhere", 404, private),
        ("/sign-out", 405, private),
        ("/cached", 200, Some("max-age=60")),
    ] {
        let alice = signed_in(&sessions, "alice", request(Method::GET, path)).await;
        let response = app.get_response(alice).await;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(header(&response, "cache-control"), control, "{path}");
        let nobody = app.get_response(request(Method::GET, path).finish()).await;
        assert_ne!(header(&nobody, "cache-control"), private, "{path}");
    }
}

#[tokio::test]
async fn a_cookie_replaces_the_cache_control() {
    let sessions = start().await;
    let app = app(&sessions);
    let alice = signed_in(&sessions, "alice", request(Method::POST, "/sign-out")).await;
    let response = app.get_response(alice).await;
    assert_eq!(header(&response, "cache-control"), Some("no-store"));
    assert_eq!(response.headers().get_all("cache-control").iter().count(), 1);
    assert!(header(&response, "set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(response.into_body().into_string().await.unwrap(), "bye");
}

#[tokio::test]
async fn without_the_middleware_it_is_misconfigured() {
    let sessions = start().await;
    let app = Route::new().at("/maybe", get(maybe)).with(sessions.routes());
    for path in ["/maybe", "/sessions/me"] {
        let response = app.get_response(request(Method::GET, path).finish()).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}

#[handler]
fn debug(request: &Request) -> String {
    format!("{:?}", request.headers())
}

/// An application that logs its requests with `{:?}` logs no token.
#[tokio::test]
async fn no_debug_of_a_request_shows_a_token() {
    let sessions = Sessions::start(MemoryStore::new(), Config::default()).await.unwrap();
    let app = Route::new().at("/", get(debug)).with(sessions.middleware());
    let request = Request::builder().header("cookie", "a=b; __Host-session=secret");
    let request = request.header("authorization", "Bearer secret").finish();
    let text = app.call(request).await.unwrap().into_body().into_string().await.unwrap();
    assert!(text.contains("cookie") && !text.contains("secret"), "{text}");
}
