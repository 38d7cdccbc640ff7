//! Sign in on <http://127.0.0.1:3000> as `alice` with the password `correct horse`.

use poem::http::StatusCode;
use poem::listener::TcpListener;
use poem::web::{Form, Html, Redirect};
use poem::{EndpointExt, IntoResponse, Response, Route, Server, get, handler};
use session_kit::poem::prelude::*;
use std::time::Duration;

#[derive(serde::Deserialize)]
struct Login {
    user: String,
    password: String,
}

/// Yours asks a database of users with password hashes, as `examples/poem.rs` does.
fn password_is_right(user: &str, password: &str) -> bool {
    (user, password) == ("alice", "correct horse")
}

#[handler]
async fn login(auth: SessionAuth, Form(form): Form<Login>) -> Result<Response, Rejection> {
    if !password_is_right(&form.user, &form.password) {
        return Ok((StatusCode::UNAUTHORIZED, Html(LOGIN_PAGE)).into_response());
    }
    let (_, cookie) = auth.sign_in(&form.user).await?;
    Ok(cookie.on(Redirect::see_other("/")))
}

#[handler]
async fn login_page() -> Html<&'static str> {
    Html(LOGIN_PAGE)
}

#[handler]
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

    let app = Route::new()
        .at("/", get(hello))
        .at("/login", get(login_page).post(login))
        .with(sessions.routes()) // the API and the pages, below /sessions/
        .with(sessions.middleware());

    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let stop = sessions.graceful(tokio::signal::ctrl_c()); // ends event streams
    Server::new(TcpListener::bind(addr))
        .run_with_graceful_shutdown(app, stop, Some(Duration::from_secs(1)))
        .await?;
    sessions.shutdown().await; // writes back what is not stored yet
    Ok(())
}

const LOGIN_PAGE: &str = "<!doctype html><title>Sign in</title><form method=post>\
    <input name=user><input name=password type=password><button>Sign in</button></form>";
