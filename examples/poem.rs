//! A whole program on poem: passwords, a policy, claims, guards, graceful shutdown.
//!
//! `cargo run --example poem`, then open <http://127.0.0.1:3000> and sign in as `alice` with
//! `correct horse`, or as `root` with `battery staple`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use poem::http::StatusCode;
use poem::listener::TcpListener;
use poem::web::{Form, Html, Json, Query, Redirect};
use poem::{EndpointExt, IntoResponse, Response, Route, Server, get, handler, post};
use serde::{Deserialize, Serialize};
use session_kit::core::Session;
use session_kit::poem::prelude::*;
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
    let app = Route::new()
        .at("/", get(home))
        .at("/role", get(role))
        .at("/audit", get(audit).with(Require(auditors)))
        .at("/login", get(login_page).post(login))
        .at("/logout", post(logout))
        .with(sessions.routes())
        .with(sessions.middleware());

    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    // Without `graceful`, the server would wait for open event streams; a client that never reads its
    // response is cut after a second.
    let stop = sessions.graceful(tokio::signal::ctrl_c());
    Server::new(TcpListener::bind(addr))
        .run_with_graceful_shutdown(app, stop, Some(Duration::from_secs(1)))
        .await?;
    sessions.shutdown().await;
    Ok(())
}

#[handler]
async fn home(session: CurrentSession) -> String {
    format!("hello {}", session.user())
}

#[handler]
async fn role(Claims(role): Claims<Role>) -> Json<Role> {
    Json(role)
}

#[handler]
async fn audit() -> &'static str {
    "who did what"
}

#[handler]
async fn login_page() -> Html<&'static str> {
    Html(LOGIN_PAGE)
}

/// The form posts back to where it was shown: `/login?next=…`.
#[handler]
async fn login(
    auth: SessionAuth,
    Query(next): Query<Next>,
    Form(form): Form<Login>,
) -> Result<Response, Rejection> {
    if !password_is_right(form.user.clone(), form.password).await {
        return Ok((StatusCode::UNAUTHORIZED, Html(LOGIN_PAGE)).into_response());
    }
    let (_, cookie) = auth.sign_in(&form.user).await?;
    Ok(cookie.on(Redirect::see_other(next.path())))
}

#[handler]
async fn logout(auth: SessionAuth) -> Result<Response, Rejection> {
    Ok(auth.sign_out().await?.on(Redirect::see_other("/login")))
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
}

/// The query of the sign-in page: the page that was refused.
#[derive(Deserialize)]
struct Next {
    next: Option<String>,
}

impl Next {
    /// Where it leads, if it is a path of this origin.
    fn path(&self) -> &str {
        self.next.as_deref().and_then(local_path).unwrap_or("/")
    }
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
