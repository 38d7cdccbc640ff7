//! The live page on poem.

use std::pin::pin;

use futures_util::{SinkExt, StreamExt};
use poem::web::websocket::{Message, WebSocket, WebSocketStream};
use poem::web::{Data, Html};
use poem::{Body, IntoResponse, Response, Route, get, handler};
use session_kit::poem::{CurrentSession, Live};

use super::{SCRIPT, SCRIPT_TYPE, answer, last_line};
use crate::Demo;

pub(crate) fn add_to(route: Route) -> Route {
    route
        .at("/live", get(page))
        .at("/live.js", get(script))
        .at("/live/socket", get(open_socket))
        .at("/live/feed", get(feed))
}

#[handler]
async fn page(Data(demo): Data<&Demo>, _session: CurrentSession) -> Html<String> {
    Html(demo.live_page())
}

#[handler]
fn script() -> Response {
    SCRIPT.with_content_type(SCRIPT_TYPE).into_response()
}

#[handler]
async fn open_socket(Data(demo): Data<&Demo>, live: Live, upgrade: WebSocket) -> impl IntoResponse {
    let demo = demo.clone();
    upgrade.on_upgrade(|socket| {
        live.serve(socket, async move |socket, live| tell_the_time(&demo, socket, live).await)
    })
}

async fn tell_the_time(demo: &Demo, socket: &mut WebSocketStream, live: &Live) {
    let mut times = pin!(demo.times());
    loop {
        let text = tokio::select! {
            Some(time) = times.next() => time,
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => answer(&text, live).await.to_owned(),
                Some(Ok(_)) => continue,
                _ => return,
            },
        };
        if socket.send(Message::Text(text)).await.is_err() {
            return;
        }
    }
}

#[handler]
async fn feed(Data(demo): Data<&Demo>, live: Live) -> Body {
    Body::from_bytes_stream(live.while_signed_in(demo.lines(), last_line))
}
