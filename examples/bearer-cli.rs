//! A command line and its service: the token is in the answer, and goes out as
//! `Authorization: Bearer`.
//!
//! `cargo run --example bearer-cli` serves on 127.0.0.1:3000. In another terminal:
//! `cargo run --example bearer-cli -- login alice`, then `whoami`, `renew` and `logout`. The user's
//! password is read from a line of standard input; it is the user's name. The token is kept in the file
//! `bearer-cli.token`, which only its owner may read. `SERVICE=host:port` names another service.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;

use axum::body::Bytes;
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use session_kit::axum::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["login", user] => login(user).await,
        ["whoami"] => show(&call("GET", "/whoami", Some(&token()?), None).await?),
        ["renew"] => keep(&call("POST", "/renew", Some(&token()?), None).await?),
        ["logout"] => logout().await,
        [] => serve("127.0.0.1:3000").await,
        [addr] if addr.parse::<SocketAddr>().is_ok() => serve(addr).await,
        _ => Err("one of: login USER, whoami, renew, logout; or nothing, to serve".into()),
    }
}

// The service.

async fn serve(addr: &str) -> Result<(), Box<dyn Error>> {
    let mut config =
        Config::development().with_policy(PreventConcurrentLogin::LogoutFromSameTypeDevices);
    // An app in a web view, and the pages of a sister host, may call this service, too.
    for origin in ["capacitor://localhost", "https://shop.example.com"] {
        config.http.allowed_origins.push(origin.parse()?);
    }
    let sessions = Sessions::start(SqliteStore::connect("example.db").await?, config).await?;
    let app = Router::new()
        .route("/token", post(sign_in))
        .route("/whoami", get(whoami))
        .route("/renew", post(renew))
        .route("/logout", post(sign_out))
        .merge(sessions.routes())
        .layer(sessions.layer())
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind(addr).await?;
    let node = sessions.clone();
    let stop = async move { node.graceful(tokio::signal::ctrl_c()).await };
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    sessions.shutdown().await;
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct Credentials {
    user: String,
    password: String,
}

#[derive(Serialize, Deserialize)]
struct Token {
    token: String,
}

async fn sign_in(
    auth: SessionAuth,
    Json(credentials): Json<Credentials>,
) -> Result<(SessionCookie, Json<Token>), Rejection> {
    // Yours are hashed: see the example `axum`.
    if !["alice", "bob"].contains(&&*credentials.user) || credentials.password != credentials.user {
        return Err(Problem::unauthorized().with_detail("unknown user or wrong password").into());
    }
    // Its only header says that nobody may store the answer: there is no cookie in it.
    let (signed_in, no_cookie) = auth.sign_in_app(&credentials.user).await?;
    Ok((no_cookie, Json(Token { token: signed_in.token.expose() })))
}

async fn whoami(session: CurrentSession) -> String {
    format!("{} on {}", session.user(), session.device_kind())
}

async fn renew(auth: SessionAuth) -> Result<(SessionCookie, Json<Option<Token>>), Rejection> {
    let (token, no_cookie) = auth.rotate_token(RotateReason::Renewal).await?;
    Ok((no_cookie, Json(token.map(|token| Token { token: token.expose() }))))
}

async fn sign_out(auth: SessionAuth) -> Result<SessionCookie, Rejection> {
    auth.sign_out().await
}

// The command line.

const TOKEN_FILE: &str = "bearer-cli.token";

async fn login(user: &str) -> Result<(), Box<dyn Error>> {
    if std::io::stdin().is_terminal() {
        eprint!("password: ");
    }
    let mut password = String::new();
    std::io::stdin().read_line(&mut password)?;
    let credentials =
        Credentials { user: user.to_owned(), password: password.trim_end().to_owned() };
    keep(&call("POST", "/token", None, Some(serde_json::to_string(&credentials)?)).await?)
}

async fn logout() -> Result<(), Box<dyn Error>> {
    call("POST", "/logout", Some(&token()?), None).await?;
    std::fs::remove_file(TOKEN_FILE)?;
    Ok(())
}

fn token() -> Result<String, Box<dyn Error>> {
    std::fs::read_to_string(TOKEN_FILE).map_err(|_| "not signed in: login USER".into())
}

/// Keeps the token of an answer, for its owner's eyes only. None means that another process has just
/// renewed it, and kept it here.
fn keep(answer: &str) -> Result<(), Box<dyn Error>> {
    let Some(Token { token }) = serde_json::from_str(answer)? else { return Ok(()) };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let new = Path::new(TOKEN_FILE).with_extension("new");
    let _ = std::fs::remove_file(&new);
    options.open(&new)?.write_all(token.as_bytes())?;
    std::fs::rename(new, TOKEN_FILE)?;
    Ok(())
}

fn show(text: &str) -> Result<(), Box<dyn Error>> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// Calls the service. With a real one: over HTTPS, and nothing else.
async fn call(
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<String>,
) -> Result<String, Box<dyn Error>> {
    let service = std::env::var("SERVICE").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let stream = tokio::net::TcpStream::connect(&service).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", &service)
        .header("user-agent", concat!("bearer-cli/", env!("CARGO_PKG_VERSION")))
        .header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = Full::<Bytes>::from(body.unwrap_or_default());
    let answer = sender.send_request(request.body(body)?).await?;
    let status = answer.status();
    let text = String::from_utf8(answer.into_body().collect().await?.to_bytes().into())?;
    if status.is_success() { Ok(text) } else { Err(format!("{status}: {text}").into()) }
}
