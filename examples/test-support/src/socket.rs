//! A WebSocket.

use std::net::TcpStream;

use tungstenite::client::{IntoClientRequest, client};
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use crate::Client;

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket(WebSocket<TcpStream>);

impl Client {
    /// Opens a WebSocket, as a page of the server's own origin unless the client is on one of another.
    ///
    /// # Errors
    /// The status of a refusal.
    ///
    /// # Panics
    /// When the server answers neither.
    pub fn socket(&self, path: &str) -> Result<Socket, u16> {
        let mut request = format!("ws://{}{path}", self.addr()).into_client_request().unwrap();
        let own = format!("http://{}", self.addr());
        let origin = self.origin().unwrap_or(&own);
        for (name, value) in [("origin", origin), ("cookie", &self.cookie_header())] {
            if !value.is_empty() {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
        }
        match client(request, self.tcp()) {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }
}

impl Socket {
    /// Sends a text.
    ///
    /// # Panics
    /// When the socket is closed.
    pub fn say(&mut self, text: &str) {
        self.0.send(text.into()).unwrap();
    }

    /// The next text.
    ///
    /// # Panics
    /// When the socket is closed, or nothing comes for ten seconds.
    pub fn hear(&mut self) -> String {
        self.0.read().unwrap().into_text().unwrap().to_string()
    }

    /// With what code and reason the server closes it.
    ///
    /// # Panics
    /// When it sends something else, or nothing for ten seconds.
    pub fn closed(mut self) -> (u16, String) {
        match self.0.read() {
            Ok(Message::Close(Some(frame))) => {
                let closed = (frame.code.into(), frame.reason.to_string());
                // Answers the server, which waits for it.
                let _ = self.0.flush();
                closed
            }
            other => panic!("{other:?}"),
        }
    }
}
