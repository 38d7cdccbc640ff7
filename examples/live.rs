//! Connections that outlive their request: a chat over WebSockets, and the same as server-sent events.
//! Both end with their session, on whichever node it is ended.
//!
//! `cargo run --example live`, then open <http://127.0.0.1:3000> and sign in as `alice` or `bob`; the
//! password is the name. Sign out in another tab, or end the session at `/sessions/` in another browser.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Form, State};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Router, http::StatusCode};
use serde::Deserialize;
use session_kit::axum::prelude::*;
use tokio::sync::broadcast;
use tokio_stream::{StreamExt, wrappers::BroadcastStream};

/// What everybody in the room is told.
type Room = broadcast::Sender<String>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::development();
    config.http.sign_in_path = Some("/login".to_owned());
    config.http.max_streams_per_session = 4; // on each node
    let sessions = Sessions::start(SqliteStore::connect("example.db").await?, config).await?;
    let app = Router::new()
        .route("/", get(page))
        .route("/login", get(async || Html(LOGIN)).post(login))
        .route("/logout", post(async |auth: SessionAuth| auth.sign_out().await))
        .route("/chat", get(chat))
        .route("/listen", get(listen))
        .with_state(Room::new(100))
        .merge(sessions.routes())
        .layer(sessions.layer())
        .into_make_service_with_connect_info::<SocketAddr>();

    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(addr).await?;
    let node = sessions.clone();
    let stop = async move { node.graceful(tokio::signal::ctrl_c()).await }; // closes them with 1001
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    sessions.shutdown().await; // waits until they are closed
    Ok(())
}

/// `Live` refuses a page of another origin: no CORS protects a WebSocket.
async fn chat(live: Live, State(room): State<Room>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|socket| {
        live.serve(socket, async move |socket, live| talk(&room, socket, live).await)
    })
}

/// Is dropped where it waits when the session ends. The client gets code 4001 and the reason.
async fn talk(room: &Room, socket: &mut WebSocket, live: &Live) {
    let mut said = room.subscribe();
    loop {
        tokio::select! {
            Ok(line) = said.recv() => {
                if socket.send(line.into()).await.is_err() {
                    return;
                }
            }
            message = socket.recv() => {
                let Some(Ok(message)) = message else { return };
                let Message::Text(text) = message else { continue };
                // A message is the user's doing. The open connection alone does not keep the session
                // from its idle timeout.
                let Ok(session) = live.touch().await else { return };
                // Fails where nobody listens.
                let _ = room.send(format!("{}: {text}", session.user()));
            }
        }
    }
}

/// A stream ends with its session, too, and may say a last word.
async fn listen(live: Live, State(room): State<Room>) -> impl IntoResponse {
    let lines = BroadcastStream::new(room.subscribe()).filter_map(Result::ok);
    let events = lines.map(|line| Ok::<_, Infallible>(Event::default().data(line)));
    Sse::new(live.while_signed_in(events, |close| {
        Some(Ok(Event::default().event("ended").data(close.reason)))
    }))
}

async fn page(session: CurrentSession) -> Html<String> {
    Html(PAGE.replace("USER", session.user().as_str()))
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
}

async fn login(auth: SessionAuth, Form(login): Form<Login>) -> Result<Response, Rejection> {
    if !["alice", "bob"].contains(&login.user.as_str()) || login.password != login.user {
        return Ok((StatusCode::UNAUTHORIZED, Html(LOGIN)).into_response());
    }
    let (_, cookie) = auth.sign_in(login.user.as_str()).await?;
    Ok((cookie, Redirect::to("/")).into_response())
}

const LOGIN: &str = r#"<!doctype html><title>Sign in</title><form method="post">
<input name="user" placeholder="user" autofocus> <input name="password" type="password" placeholder="password">
<button>Sign in</button></form>"#;

const PAGE: &str = r#"<!doctype html><title>Chat</title><p>Signed in as USER. <a href="/sessions/">My devices</a></p>
<form id="say"><input name="text" autofocus autocomplete="off"> <button>Say</button></form><pre id="said"></pre>
<script>
const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/chat");
socket.onmessage = ({ data }) => (said.textContent += data + "\n");
socket.onclose = ({ code, reason }) => {
  said.textContent += `closed: ${code} ${reason}\n`;
  if (code === 4001) location.assign("/login");
};
say.onsubmit = (event) => {
  event.preventDefault();
  socket.send(say.text.value);
  say.reset();
};
</script>"#;
