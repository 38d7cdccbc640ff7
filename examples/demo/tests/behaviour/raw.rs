//! A client that sends any bytes, in any order and at any pace.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::PATIENCE;
use crate::client::Client;

pub(crate) struct Raw {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self { stream, seen: Vec::new() }
    }

    /// Sends what the server may or may not want to read to its end.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A server that has refused need not read on.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Reads on until this has come, and answers all that has.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        while !self.text().contains(text) {
            assert!(self.read().await, "{text:?} does not come: {:?}", self.text());
        }
        self.text()
    }

    /// Reads until the server closes the connection, and answers all that came.
    pub(crate) async fn finish(mut self) -> String {
        while self.read().await {}
        self.text()
    }

    async fn read(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.seen)).await;
        let read = read.unwrap_or_else(|_| panic!("nothing after {:?}", self.text()));
        // A connection that is reset has ended, too.
        read.is_ok_and(|length| length > 0)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}

/// The head of a request with the browser's cookie and a proof of origin, but for its last line.
pub(crate) fn head(browser: &Client, method: &str, path: &str) -> String {
    let cookie = browser.cookie.as_deref().unwrap_or_default();
    let address = browser.address;
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nSec-Fetch-Site: same-origin\r\nCookie: {cookie}\r\n"
    )
}

/// The status of the first answer.
pub(crate) fn status(answers: &str) -> u16 {
    answers.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default()
}
