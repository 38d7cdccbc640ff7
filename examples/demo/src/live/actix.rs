//! The live page on actix-web.

use std::pin::pin;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{self, Data, Html};
use actix_web::{Error, HttpRequest, HttpResponse, Responder, rt};
use actix_ws::{Message, MessageStream, Session};
use futures_util::StreamExt;
use session_kit::actix::{CurrentSession, Live};

use super::{SCRIPT, SCRIPT_TYPE, answer, last_line};
use crate::Demo;
use crate::actix::get;

pub(crate) fn routes(app: &mut web::ServiceConfig) {
    app.service(web::resource("/live").route(get().to(page)))
        .service(web::resource("/live.js").route(get().to(script)))
        .service(web::resource("/live/socket").route(get().to(socket)))
        .service(web::resource("/live/feed").route(get().to(feed)));
}

async fn page(demo: Data<Demo>, _: CurrentSession) -> Html {
    Html::new(demo.live_page())
}

async fn script() -> impl Responder {
    SCRIPT.customize().insert_header((CONTENT_TYPE, SCRIPT_TYPE))
}

async fn socket(
    demo: Data<Demo>,
    live: Live,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Error> {
    let (response, socket, messages) = actix_ws::handle(&request, body)?;
    rt::spawn(live.serve(socket, messages, async move |socket, messages, live| {
        tell_the_time(&demo, socket, messages, live).await;
    }));
    Ok(response)
}

async fn tell_the_time(
    demo: &Demo,
    socket: &mut Session,
    messages: &mut MessageStream,
    live: &Live,
) {
    let mut times = pin!(demo.times());
    loop {
        let text = tokio::select! {
            Some(time) = times.next() => time,
            message = messages.recv() => match message {
                Some(Ok(Message::Text(text))) => answer(&text, live).await.to_owned(),
                // The others answer by themselves.
                Some(Ok(Message::Ping(ping))) => {
                    let _ = socket.pong(&ping).await;
                    continue;
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        if socket.text(text).await.is_err() {
            return;
        }
    }
}

async fn feed(demo: Data<Demo>, live: Live) -> HttpResponse {
    HttpResponse::Ok().streaming(live.while_signed_in(demo.lines(), last_line))
}
