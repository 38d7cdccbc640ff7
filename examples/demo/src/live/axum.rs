//! The live page on axum.

use std::pin::pin;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures_util::StreamExt;
use session_kit::axum::{CurrentSession, Live};

use super::{SCRIPT, SCRIPT_TYPE, answer, last_line};
use crate::Demo;

pub(crate) fn routes() -> Router<Demo> {
    Router::new()
        .route("/live", get(page))
        .route("/live.js", get(async || ([(CONTENT_TYPE, SCRIPT_TYPE)], SCRIPT)))
        .route("/live/socket", get(socket))
        .route("/live/feed", get(feed))
}

async fn page(State(demo): State<Demo>, _: CurrentSession) -> Html<String> {
    Html(demo.live_page())
}

async fn socket(State(demo): State<Demo>, live: Live, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(|socket| {
        live.serve(socket, async move |socket, live| tell_the_time(&demo, socket, live).await)
    })
}

async fn tell_the_time(demo: &Demo, socket: &mut WebSocket, live: &Live) {
    let mut times = pin!(demo.times());
    loop {
        let text = tokio::select! {
            Some(time) = times.next() => time,
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => answer(&text, live).await.to_owned(),
                Some(Ok(_)) => continue,
                _ => return,
            },
        };
        if socket.send(text.into()).await.is_err() {
            return;
        }
    }
}

async fn feed(State(demo): State<Demo>, live: Live) -> impl IntoResponse {
    Body::from_stream(live.while_signed_in(demo.lines(), last_line))
}
