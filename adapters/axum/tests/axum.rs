//! What is axum's own: nesting, guards around routes, and connections over a Unix socket.

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::get;
use http::{Request, Response, StatusCode};
use session_axum::testing::as_user;
use session_axum::{
    ClientIpOptions, ClientPeer, Config, CurrentSession, HttpOptions, Require, RequireSession,
    Sessions,
};
use session_http::Peer;
use session_store_memory::MemoryStore;
use tower::ServiceExt;

async fn hello(session: CurrentSession) -> String {
    session.user().to_string()
}

async fn sessions(http: HttpOptions) -> Sessions {
    let config = Config::default().with_http(http.with_sign_in_path("/login"));
    Sessions::start(MemoryStore::new(), config).await.unwrap()
}

async fn answer(app: &Router, request: Request<Body>) -> Response<Body> {
    app.clone().oneshot(request).await.unwrap()
}

/// The layer is outside of the nest, or inside of it.
#[tokio::test]
async fn nested_routes_know_where_they_are() {
    let sessions = sessions(HttpOptions::default()).await;
    let inner = Router::new().route("/hello", get(hello)).merge(sessions.routes());
    let outside = Router::new().nest("/app", inner.clone()).layer(sessions.layer());
    let inside = Router::new().nest("/app", inner.layer(sessions.layer()));
    for app in [outside, inside] {
        let request = as_user(&sessions, "alice", Request::get("/app/sessions/me")).await.unwrap();
        let response = answer(&app, request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let redirect =
            answer(&app, Request::get("/app/sessions").body(Body::empty()).unwrap()).await;
        assert_eq!(redirect.headers()["location"], "/app/sessions/");
        let page = Request::get("/app/hello?a=1").header("accept", "text/html");
        let refused = answer(&app, page.body(Body::empty()).unwrap()).await;
        assert_eq!(refused.headers()["location"], "/login?next=/app/hello%3Fa%3D1");
    }
}

#[tokio::test]
async fn a_guard_stands_before_its_routes_only() {
    let sessions = sessions(HttpOptions::default()).await;
    let guard = RequireSession::signed_in().claims(|claims| claims["admin"] == true);
    let app = Router::new()
        .route("/admin", get(|| async { "admin" }))
        .route_layer(Require(guard))
        .route("/", get(|| async { "open" }))
        .layer(sessions.layer());
    for (path, user, status) in
        [("/", None, 200), ("/admin", None, 401), ("/admin", Some("alice"), 403)]
    {
        let mut request = Request::get(path);
        if let Some(user) = user {
            request = as_user(&sessions, user, request).await.unwrap();
        }
        let response = answer(&app, request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), status, "{path} {user:?}");
    }
}

#[tokio::test]
async fn a_proxy_on_a_unix_socket_tells_the_clients_address() {
    let client_ip = ClientIpOptions::default().with_trusted_proxies(["unix".parse().unwrap()]);
    let sessions = sessions(HttpOptions::default().with_client_ip(client_ip)).await;
    let addresses =
        |session: CurrentSession| async move { format!("{:?}", session.ip_addresses()) };
    let app = Router::new().route("/", get(addresses)).layer(sessions.layer());
    let request = Request::get("/")
        .header("x-forwarded-for", "203.0.113.9")
        .extension(ConnectInfo(ClientPeer(Peer::Unix)));
    let request = as_user(&sessions, "alice", request).await.unwrap();
    let response = answer(&app, request.body(Body::empty()).unwrap()).await;
    let body = axum::body::to_bytes(response.into_body(), 99).await.unwrap();
    assert_eq!(body, "[203.0.113.9]");
}

/// Without the layer the answer says what is missing, and is no refusal.
#[tokio::test]
async fn a_missing_layer_is_named() {
    let app = Router::new().route("/", get(hello));
    let response = answer(&app, Request::get("/").body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
}
