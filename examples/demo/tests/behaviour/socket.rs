//! A WebSocket, as a page or a program opens one.

use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue, Response, header};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::PATIENCE;
use crate::client::{Answer, Client};

pub(crate) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Opens one as a page of the same origin does.
    pub(crate) async fn open(browser: &Client, path: &str) -> Self {
        let origin = format!("http://{}", browser.address);
        match Self::try_open(browser, path, &[("origin", origin.as_str())]).await {
            Ok(socket) => socket,
            Err(answer) => panic!("{}: {}", answer.status, answer.text()),
        }
    }

    /// Opens one with the browser's cookie and these headers, which may replace those of a handshake.
    pub(crate) async fn try_open(
        browser: &Client,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Answer> {
        let uri = format!("ws://{}{path}", browser.address);
        let mut request = uri.into_client_request().unwrap();
        let mut insert = |name: &str, value: &str| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        };
        if let Some(cookie) = &browser.cookie {
            insert(header::COOKIE.as_str(), cookie);
        }
        headers.iter().for_each(|(name, value)| insert(name, value));
        let stream = TcpStream::connect(browser.address).await.unwrap();
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(response)) => Err(answer(*response)),
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends a text, and waits until the server has answered with this one.
    pub(crate) async fn tell(&mut self, text: &str, answer: &str) {
        self.0.send(text.into()).await.unwrap();
        while self.next().await != Ok(answer.to_owned()) {}
    }

    /// Reads until the server closes it, and answers with what code and why.
    pub(crate) async fn closed(mut self) -> (u16, String) {
        loop {
            if let Err(closed) = self.next().await {
                return closed;
            }
        }
    }

    /// The next text, or how it was closed.
    pub(crate) async fn next(&mut self) -> Result<String, (u16, String)> {
        let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
        match next.expect("something comes").expect("it is closed with a word") {
            Ok(Message::Close(Some(frame))) => Err((frame.code.into(), frame.reason.to_string())),
            Ok(Message::Text(text)) => Ok(text.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

fn answer(response: Response<Option<Vec<u8>>>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.unwrap_or_default().into();
    Answer { status: head.status, headers: head.headers, body }
}
