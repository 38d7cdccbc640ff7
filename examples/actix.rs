//! A whole program on actix-web: passwords, a policy, claims, guards, graceful shutdown.
//!
//! `cargo run --example actix`, then open <http://127.0.0.1:3000> and sign in as `alice` with
//! `correct horse`, or as `root` with `battery staple`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{self, Either, Form, Html, Json, Query, Redirect};
use actix_web::{App, HttpServer, Responder, rt};
use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use serde::{Deserialize, Serialize};
use session_kit::actix::prelude::*;
use session_kit::core::Session;
use tokio::sync::Semaphore;

#[actix_web::main]
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
    // Each worker makes an application of its own; the node is one and was started above.
    let node = sessions.clone();
    let app = move || {
        App::new()
            .route("/", web::get().to(home))
            .route("/role", web::get().to(role))
            .route("/login", web::get().to(login_page))
            .route("/login", web::post().to(login))
            .route("/logout", web::post().to(logout))
            .service(
                web::resource("/audit")
                    .wrap(Require(auditors.clone()))
                    .get(async || "who did what"),
            )
            .service(node.routes())
            .wrap(node.middleware())
    };

    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    // The server's own handling of signals would wait for open event streams.
    let server = HttpServer::new(app)
        .disable_signals()
        .h1_allow_half_closed(false) // an event stream ends when its client goes
        .shutdown_timeout(1) // seconds, then a client that never reads is cut
        .bind(addr)?
        .run();
    let (node, handle) = (sessions.clone(), server.handle());
    rt::spawn(async move {
        node.graceful(rt::signal::ctrl_c()).await; // ends event streams
        handle.stop(true).await;
    });
    server.await?;
    sessions.shutdown().await;
    Ok(())
}

async fn home(session: CurrentSession) -> String {
    format!("hello {}", session.user())
}

async fn role(Claims(role): Claims<Role>) -> Json<Role> {
    Json(role)
}

async fn login_page() -> Html {
    Html::new(LOGIN_PAGE)
}

/// The form posts back to where it was shown: `/login?next=…`.
async fn login(
    auth: SessionAuth,
    next: Query<Next>,
    Form(form): Form<Login>,
) -> Result<impl Responder, Rejection> {
    if !password_is_right(form.user.clone(), form.password).await {
        let page = Html::new(LOGIN_PAGE).customize().with_status(StatusCode::UNAUTHORIZED);
        return Ok(Either::Left(page));
    }
    let (_, cookie) = auth.sign_in(&form.user).await?;
    Ok(Either::Right(cookie.on(Redirect::to(next.path().to_owned()).see_other())))
}

async fn logout(auth: SessionAuth) -> Result<impl Responder, Rejection> {
    Ok(auth.sign_out().await?.on(Redirect::to("/login").see_other()))
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
