//! Sign in on <http://127.0.0.1:3000> as `alice` with the password `correct horse`.

use axum::extract::Form;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::{Router, routing::get};
use session_kit::axum::prelude::*;
use std::net::SocketAddr;

#[derive(serde::Deserialize)]
struct Login {
    user: String,
    password: String,
}

/// Yours asks a database of users with password hashes, as `examples/axum.rs` does.
fn password_is_right(user: &str, password: &str) -> bool {
    (user, password) == ("alice", "correct horse")
}

async fn login(auth: SessionAuth, Form(form): Form<Login>) -> Result<Response, Rejection> {
    if !password_is_right(&form.user, &form.password) {
        return Ok((StatusCode::UNAUTHORIZED, Html(LOGIN_PAGE)).into_response());
    }
    let (_, cookie) = auth.sign_in(&form.user).await?;
    Ok((cookie, Redirect::to("/")).into_response())
}

async fn hello(session: CurrentSession) -> String {
    format!("hello {}", session.user())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Over HTTPS: `Config::default()`, whose cookie browsers keep over HTTPS only.
    let mut config =
        Config::development().with_policy(PreventConcurrentLogin::LogoutFromAllDevices);
    config.http.sign_in_path = Some("/login".to_owned());
    let sessions = Sessions::start(SqliteStore::connect("sessions.db").await?, config).await?;

    let app = Router::new()
        .route("/", get(hello))
        .route("/login", get(Html(LOGIN_PAGE)).post(login))
        .merge(sessions.routes()) // the API and the pages, below /sessions/
        .layer(sessions.layer())
        .into_make_service_with_connect_info::<SocketAddr>();

    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(addr).await?;
    let node = sessions.clone();
    let stop = async move { node.graceful(tokio::signal::ctrl_c()).await }; // ends event streams
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    sessions.shutdown().await; // writes back what is not stored yet
    Ok(())
}

const LOGIN_PAGE: &str = "<!doctype html><title>Sign in</title><form method=post>\
    <input name=user><input name=password type=password><button>Sign in</button></form>";
