//! An HTTP/1.1 client that keeps its connection, as a browser does.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, COOKIE, HOST, RETRY_AFTER, SET_COOKIE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use session_benches::Failure;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// One connection to one node, opened again where it was lost.
pub(crate) struct Client {
    address: SocketAddr,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What of an answer is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The `Set-Cookie`, without its attributes.
    pub(crate) cookie: Option<String>,
    pub(crate) has_retry_after: bool,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) const fn new(address: SocketAddr) -> Self {
        Self { address, sender: None }
    }

    pub(crate) async fn get(&mut self, path: &str, cookie: &str) -> Option<Answer> {
        self.ask("GET", path, cookie, "").await
    }

    pub(crate) async fn post(&mut self, path: &str, cookie: &str) -> Option<Answer> {
        self.ask("POST", path, cookie, "").await
    }

    pub(crate) async fn delete(&mut self, path: &str, cookie: &str) -> Option<Answer> {
        self.ask("DELETE", path, cookie, "").await
    }

    /// Signs in by the demo's form; a user's password is the user's name.
    pub(crate) async fn sign_in(&mut self, user: &str) -> Option<Answer> {
        let user = user.replace('/', "%2F");
        self.ask("POST", "/login", "", &format!("user={user}&password={user}")).await
    }

    /// The answer, or none where the connection is refused or lost, or the node is silent.
    async fn ask(&mut self, method: &str, path: &str, cookie: &str, form: &str) -> Option<Answer> {
        let request = self.request(method, path, cookie, form);
        let answer = timeout(PATIENCE, self.send(request?)).await;
        match answer {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(_)) | Err(_) => {
                self.sender = None;
                None
            }
        }
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        cookie: &str,
        form: &str,
    ) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(HOST, self.address.to_string());
        request = request.header("sec-fetch-site", "same-origin");
        if !cookie.is_empty() {
            request = request.header(COOKIE, cookie);
        }
        if !form.is_empty() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        request.body(Full::new(Bytes::copy_from_slice(form.as_bytes()))).ok()
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let sender = self.connected().await?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let cookie = head.headers.get(SET_COOKIE).and_then(|cookie| cookie.to_str().ok());
        Ok(Answer {
            status: head.status,
            cookie: cookie.map(|cookie| cookie.split(';').next().unwrap_or_default().to_owned()),
            has_retry_after: head.headers.contains_key(RETRY_AFTER),
            body,
        })
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Failure> {
        let is_open = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !is_open {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().ok_or_else(|| "there is no connection".into())
    }
}

/// How long a user waits for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);
