//! A whole program on axum: passwords, a policy, claims, guards, graceful shutdown.
//!
//! `cargo run --example axum`, then open <http://127.0.0.1:3000> and sign in as `alice` with
//! `correct horse`, or as `root` with `battery staple`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use axum::extract::{Form, RawQuery};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use session_kit::axum::prelude::*;
use session_kit::core::Session;
use tokio::sync::Semaphore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    LazyLock::force(&USERS);

    // A phone and a laptop may be signed in side by side, two laptops may not. The cookie of
    // `development()` goes over plain HTTP: over HTTPS use `Config::default()`.
    let mut config =
        Config::development().with_policy(PreventConcurrentLogin::LogoutFromSameTypeDevices);
    config.http.sign_in_path = Some("/login".to_owned());

    // Only root sees /sessions/admin. Claims are asked for when a node first sees a session, and again after `claims_changed`.
    let hooks = Hooks::default()
        .with_guard(|caller: Caller<'_>| match caller.session {
            Some(session) if session.user().as_str() == "root" => AdminAccess::Deployment,
            _ => AdminAccess::Denied,
        })
        .with_claims(|session: Session| async move {
            serde_json::to_value(Role::of(&session.owner.user))
        });
    let store = SqliteStore::connect("example.db").await?;
    let sessions = Sessions::start_with(Arc::new(store), config, hooks).await?;

    let auditors = RequireSession::signed_in()
        .fresh_within(Duration::from_secs(300))
        .claims(|claims| claims["auditor"] == true);
    let app = Router::new()
        .route("/audit", get("who did what"))
        .route_layer(Require(auditors)) // guards the routes above it
        .route("/", get(home))
        .route("/role", get(role))
        .route("/login", get(Html(LOGIN_PAGE)).post(login))
        .route("/logout", post(logout))
        .merge(sessions.routes())
        .layer(sessions.layer())
        .into_make_service_with_connect_info::<SocketAddr>();

    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(addr).await?;
    let node = sessions.clone();
    // Without `graceful`, an open event stream would keep the server from stopping.
    let stop = async move { node.graceful(tokio::signal::ctrl_c()).await };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    sessions.shutdown().await;
    Ok(())
}

async fn home(session: CurrentSession) -> String {
    format!("hello {}", session.user())
}

async fn role(Claims(role): Claims<Role>) -> Json<Role> {
    Json(role)
}

/// The form posts back to where it was shown: `/login?next=…`.
async fn login(
    auth: SessionAuth,
    RawQuery(query): RawQuery,
    Form(form): Form<Login>,
) -> Result<Response, Rejection> {
    if !password_is_right(form.user.clone(), form.password).await {
        return Ok((StatusCode::UNAUTHORIZED, Html(LOGIN_PAGE)).into_response());
    }
    let (_, cookie) = auth.sign_in(&form.user).await?;
    Ok((cookie, Redirect::to(&way_back(query.as_deref()))).into_response())
}

/// Where `next` leads, if it is a path of this origin.
fn way_back(query: Option<&str>) -> String {
    let next = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find_map(|(name, next)| (name == "next").then_some(next));
    next.as_deref().and_then(local_path).unwrap_or("/").to_owned()
}

async fn logout(auth: SessionAuth) -> Result<(SessionCookie, Redirect), Rejection> {
    Ok((auth.sign_out().await?, Redirect::to("/login")))
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
}

#[derive(Serialize, Deserialize)]
struct Role {
    auditor: bool,
}

impl Role {
    fn of(user: &UserId) -> Self {
        Self { auditor: user.as_str() == "root" }
    }
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
