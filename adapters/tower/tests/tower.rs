//! The layer around a bare tower service.

use std::convert::Infallible;
use std::net::SocketAddr;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use session_http::testing::headers_of;
use session_http::{Body, Config, HttpSessions, Peer, Rejection, RequestSession};
use session_store_memory::MemoryStore;
use session_tower::{SessionLayer, serve};
use tower::{Layer, ServiceExt, service_fn};

type Bare = Empty<bytes::Bytes>;

async fn node() -> HttpSessions {
    HttpSessions::start(MemoryStore::new(), Config::default()).await.unwrap()
}

/// Says where the connection comes from.
async fn peer(request: Request<Bare>) -> Result<Response<Body>, Infallible> {
    let peer = RequestSession::of(request.extensions()).map(RequestSession::peer);
    Ok(peer.map_or_else(Rejection::into_response, |peer| {
        Response::new(Body::from(format!("{peer:?}")))
    }))
}

fn request(path: &str) -> Request<Bare> {
    Request::get(path).body(Empty::new()).unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn the_peer_may_be_of_any_servers_own_type() {
    #[derive(Clone)]
    struct Foreign(SocketAddr);
    let address = SocketAddr::from(([203, 0, 113, 7], 4711));
    let layer = SessionLayer::new(node().await);
    let mut by_address = request("/");
    by_address.extensions_mut().insert(address);
    let mut unix = request("/");
    unix.extensions_mut().insert(Peer::Unix);
    let mut foreign = request("/");
    foreign.extensions_mut().insert(Foreign(address));
    let finds_foreign = layer
        .clone()
        .with_peer(|extensions| extensions.get().map(|Foreign(address)| (*address).into()));
    for (layer, request, expected) in [
        (&layer, by_address, "Some(Ip(203.0.113.7))"),
        (&layer, unix, "Some(Unix)"),
        (&layer, request("/"), "None"),
        (&finds_foreign, foreign, "Some(Ip(203.0.113.7))"),
    ] {
        let answer = layer.layer(service_fn(peer)).oneshot(request).await.unwrap();
        assert_eq!(text(answer).await, expected);
    }
}

#[tokio::test]
async fn responses_to_a_session_are_private_and_those_to_nobody_are_not() {
    let http = node().await;
    let service = SessionLayer::new(http.clone()).layer(service_fn(peer));
    let answer = service.clone().oneshot(request("/")).await.unwrap();
    assert!(!answer.headers().contains_key("cache-control"));
    let mut signed_in = request("/");
    signed_in.headers_mut().extend(headers_of(&http, "alice").await.unwrap());
    let answer = service.oneshot(signed_in).await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "private, no-store");
    assert_eq!(answer.headers()["vary"], "cookie");
}

#[tokio::test]
async fn the_pages_are_served_and_a_head_has_no_body() {
    let http = node().await;
    let pages = async |request| Ok::<_, Infallible>(serve(request).await);
    let service = SessionLayer::new(http.clone()).layer(service_fn(pages));
    let headers = headers_of(&http, "alice").await.unwrap();
    let mut page = request("/sessions/");
    page.headers_mut().extend(headers.clone());
    let mut head = page.clone();
    *head.method_mut() = Method::HEAD;
    let page = text(service.clone().oneshot(page).await.unwrap()).await;
    let head = service.clone().oneshot(head).await.unwrap();
    assert_eq!(head.headers()["content-length"], page.len().to_string());
    assert_eq!(text(head).await, "");
    let other = service.oneshot(request("/elsewhere")).await.unwrap();
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
}

/// Without the layer the answer says what is missing, and is no refusal.
#[tokio::test]
async fn a_missing_layer_is_named() {
    let answer = peer(request("/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text(answer).await.contains("the session layer is missing"));
    assert_eq!(serve(request("/sessions/")).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

/// An application that logs its requests with `{:?}` logs no token.
#[tokio::test]
async fn no_debug_of_a_request_shows_a_token() {
    let http = node().await;
    let shown = service_fn(|request: Request<Bare>| async move {
        Ok::<_, Infallible>(Response::new(Body::from(format!("{:?}", request.headers()))))
    });
    let request = Request::get("/").header("cookie", "a=b; __Host-session=secret");
    let request = request.header("authorization", "Bearer secret").body(Empty::new()).unwrap();
    let response = SessionLayer::new(http).layer(shown).oneshot(request).await.unwrap();
    let text = text(response).await;
    assert!(text.contains("cookie") && !text.contains("secret"), "{text}");
}
