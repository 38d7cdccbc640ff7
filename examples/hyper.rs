//! A whole program on hyper and tower, without a framework: HTTP/1.1 and HTTP/2, a time limit for
//! headers, passwords, a policy, claims, guards, graceful shutdown.
//!
//! `cargo run --example hyper`, then open <http://127.0.0.1:3000> and sign in as `alice` with
//! `correct horse`, or as `root` with `battery staple`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::{conn::auto::Builder, graceful::GracefulShutdown};
use hyper_util::service::TowerToHyperService;
use session_kit::core::Session;
use session_kit::http::{
    AdminAccess, Body, Caller, Head, Problem, Rejection, RequireSession, local_path,
};
use session_kit::tower::{RequestSession, SessionLayer, serve};
use session_kit::{Config, Hooks, HttpSessions, PreventConcurrentLogin, sql::SqliteStore};
use tokio::sync::Semaphore;
use tower::ServiceBuilder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    LazyLock::force(&USERS);
    // Over HTTPS: `Config::default()`, whose cookie browsers keep over HTTPS only.
    let mut config =
        Config::development().with_policy(PreventConcurrentLogin::LogoutFromAllDevices);
    config.http.sign_in_path = Some("/login".to_owned());
    let hooks = Hooks::default()
        .with_guard(|caller: Caller<'_>| match caller.session {
            Some(session) if session.user().as_str() == "root" => AdminAccess::Deployment,
            _ => AdminAccess::Denied,
        })
        .with_claims(|session: Session| async move {
            let auditor = session.owner.user.as_str() == "root";
            Ok::<_, Infallible>(serde_json::json!({ "auditor": auditor }))
        });
    let store = Arc::new(SqliteStore::connect("example.db").await?);
    let sessions = HttpSessions::start_with(store, config, hooks).await?;

    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(addr).await?;
    let mut server = Builder::new(TokioExecutor::new());
    let timer = TokioTimer::new();
    server.http1().timer(timer.clone()).header_read_timeout(Duration::from_secs(10));
    server.http2().timer(timer).keep_alive_interval(Duration::from_secs(20));
    let connections = GracefulShutdown::new();
    let mut stop = std::pin::pin!(sessions.graceful(tokio::signal::ctrl_c()));
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // No file descriptor is free, or the client has gone: the listener goes on.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = ServiceBuilder::new()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer); // where the layer looks for the address
                request
            })
            .layer(SessionLayer::new(sessions.clone()))
            .service_fn(answer);
        let service = TowerToHyperService::new(service);
        let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
        tokio::spawn(connections.watch(connection));
    }
    // A client that never reads its response would be waited for without end.
    let _ = tokio::time::timeout(Duration::from_secs(1), connections.shutdown()).await;
    sessions.shutdown().await;
    Ok(())
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(route(request).await.unwrap_or_else(Rejection::into_response))
}

async fn route(request: Request<Incoming>) -> Result<Response<Body>, Rejection> {
    let session = RequestSession::of(request.extensions())?.clone();
    if session.http().below_prefix(request.uri().path()).is_some() {
        return Ok(serve(request).await); // the API and the pages
    }
    let (parts, body) = request.into_parts();
    let head = Head::new(&parts.method, &parts.uri, &parts.headers);
    match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/") => {
            Ok(Response::new(Body::from(format!("hello {}", session.session(head)?.user()))))
        }
        (&Method::GET, "/audit") => {
            let auditors = RequireSession::signed_in().fresh_within(Duration::from_secs(300));
            session.require(head, &auditors.claims(|claims| claims["auditor"] == true))?;
            Ok(Response::new(Body::from("who did what".to_owned())))
        }
        (&Method::GET, "/login") => Ok(login_page(StatusCode::OK)),
        (&Method::POST, "/login") => login(&session, head, body).await,
        _ => Err(Problem::not_found().into()),
    }
}

async fn login(
    session: &RequestSession,
    head: Head<'_>,
    body: Incoming,
) -> Result<Response<Body>, Rejection> {
    // Limits for its size and its time: hyper has none.
    let body = tokio::time::timeout(Duration::from_secs(10), Limited::new(body, 4096).collect());
    let Ok(Ok(body)) = body.await else { return Err(Problem::malformed("no such form").into()) };
    let body = body.to_bytes();
    let form: HashMap<_, _> = form_urlencoded::parse(&body).into_owned().collect();
    let [user, password] =
        ["user", "password"].map(|name| form.get(name).cloned().unwrap_or_default());
    if !password_is_right(user.clone(), password).await {
        return Ok(login_page(StatusCode::UNAUTHORIZED));
    }
    let (_, cookie) = session.auth(head).sign_in(&user).await?;
    let mut response = Response::new(Body::from(String::new()));
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(header::LOCATION, way_back(head.uri.query()));
    cookie.apply(response.headers_mut());
    Ok(response)
}

/// Where `next` leads, if it is a path of this origin.
fn way_back(query: Option<&str>) -> header::HeaderValue {
    let next = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find_map(|(name, next)| (name == "next").then_some(next));
    let path = next.as_deref().and_then(local_path);
    path.and_then(|path| path.parse().ok()).unwrap_or(header::HeaderValue::from_static("/"))
}

fn login_page(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::from(LOGIN_PAGE.to_owned()));
    *response.status_mut() = status;
    let html = header::HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
}

/// The users and the hashes of their passwords; yours are in a database.
static USERS: LazyLock<HashMap<&str, String>> = LazyLock::new(|| {
    let users = [("alice", "correct horse"), ("root", "battery staple"), (NOBODY, "")];
    let hash = |password: &str| Argon2::default().hash_password(password.as_bytes()).unwrap();
    users.into_iter().map(|(user, password)| (user, hash(password).to_string())).collect()
});

/// Its hash is verified for unknown names, so that the time taken does not tell which names exist.
const NOBODY: &str = "";

/// A verification takes 19 MiB and some 20 ms of a core: at most four run at once.
static VERIFICATIONS: Semaphore = Semaphore::const_new(4);

async fn password_is_right(user: String, password: String) -> bool {
    let Ok(_permit) = VERIFICATIONS.acquire().await else { return false };
    let verify = move || {
        let known = USERS.get(user.as_str()).filter(|_| user != NOBODY);
        let hash = PasswordHash::new(known.unwrap_or(&USERS[NOBODY])).unwrap();
        let right = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
        right && known.is_some()
    };
    tokio::task::spawn_blocking(verify).await.unwrap_or(false)
}

const LOGIN_PAGE: &str = "<!doctype html><title>Sign in</title><form method=post>\
    <input name=user><input name=password type=password><button>Sign in</button></form>";
