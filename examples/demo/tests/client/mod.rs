//! An HTTP client for tests: it keeps its cookie and, unless told otherwise, proves its origin.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use http::request::Builder;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use session_test_support::{Described, Description};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::AbortHandle;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A browser, or what passes for one. Every request has a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) cookie: Option<String>,
    /// Where it connects from, if that is not for the system to say.
    pub(crate) from: Option<IpAddr>,
    /// HTTP/2 with prior knowledge, or HTTP/1.1.
    pub(crate) version: Version,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer whose body is still to come. Dropping it closes the connection.
pub(crate) struct Open {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    seen: String,
    connection: AbortHandle,
}

/// A request in the making.
#[must_use = "it has to be sent"]
pub(crate) struct Ask<'c> {
    client: &'c Client,
    request: Builder,
    body: Bytes,
}

impl Client {
    pub(crate) const fn new(address: SocketAddr) -> Self {
        Self { address, cookie: None, from: None, version: Version::HTTP_11 }
    }

    /// The same browser, at another server.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// A request with the cookie, the host and a proof of origin.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Ask<'_> {
        let mut request = Request::builder().method(method);
        request = if self.version == Version::HTTP_2 {
            request.uri(format!("http://{}{path}", self.address)).version(Version::HTTP_2)
        } else {
            request.uri(path).header(HOST, self.address.to_string())
        };
        request = request.header("sec-fetch-site", "same-origin");
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        Ask { client: self, request, body: Bytes::new() }
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.try_send(method, path, body.to_owned()).await.unwrap()
    }

    /// A form if it is a POST, JSON otherwise.
    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        body: String,
    ) -> Result<Answer, Error> {
        let ask = self.ask(method, path);
        match method {
            "POST" => ask.form(body),
            "PUT" => ask.json(body),
            _ => ask,
        }
        .try_send()
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "").await
    }

    /// Sends a form and keeps the cookie that comes back.
    pub(crate) async fn post(&mut self, path: &str, form: &str) -> Answer {
        let answer = self.send("POST", path, form).await;
        self.keep(&answer);
        answer
    }

    /// Takes over the cookie of an answer.
    pub(crate) fn keep(&mut self, answer: &Answer) {
        let Some(cookie) = answer.cookie() else { return };
        assert_eq!(answer.headers[CACHE_CONTROL], "no-store", "nobody else may keep it");
        self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
    }

    /// Signs in by the demo's form; a user's password is the user's name.
    pub(crate) async fn login(&mut self, user: &str) -> StatusCode {
        self.post("/login", &login_form(user)).await.status
    }

    pub(crate) async fn whoami(&self) -> StatusCode {
        self.get("/whoami").await.status
    }

    pub(crate) async fn session_id(&self) -> String {
        self.get("/whoami").await.json()["session_id"].as_str().unwrap().to_owned()
    }

    async fn connect(&self) -> Result<TcpStream, Error> {
        let socket = TcpSocket::new_v4()?;
        if let Some(from) = self.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        Ok(socket.connect(self.address).await?)
    }
}

/// The demo's login form.
pub(crate) fn login_form(user: &str) -> String {
    let user = user.replace('/', "%2F");
    format!("user={user}&password={user}")
}

impl Ask<'_> {
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.request = self.request.header(name, value.as_ref());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.request.headers_mut().unwrap().remove(name);
        self
    }

    pub(crate) fn form(self, body: impl Into<Bytes>) -> Self {
        self.header(CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded").body(body)
    }

    pub(crate) fn json(self, body: impl Into<Bytes>) -> Self {
        self.header(CONTENT_TYPE.as_str(), "application/json").body(body)
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Whether the headers and the path can be sent at all.
    pub(crate) fn is_valid(&self) -> bool {
        self.request.headers_ref().is_some()
    }

    pub(crate) async fn send(self) -> Answer {
        self.try_send().await.unwrap()
    }

    pub(crate) async fn try_send(self) -> Result<Answer, Error> {
        let asked = self.request.method_ref().zip(self.request.uri_ref());
        let asked = asked.map(|(method, uri)| (method.clone(), uri.path().to_owned()));
        let (response, _connection) = self.respond().await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        let answer = Answer { status: head.status, headers: head.headers, body };
        if let Some((method, path)) = asked {
            answer.check(method.as_str(), &path);
        }
        Ok(answer)
    }

    /// Sends it and leaves the body of the answer to come.
    pub(crate) async fn open(self) -> Open {
        let response = tokio::time::timeout(super::PATIENCE, self.respond()).await;
        let (response, connection) = response.expect("an answer begins").unwrap();
        let (head, body) = response.into_parts();
        let (status, headers) = (head.status, head.headers);
        Open { status, headers, body, seen: String::new(), connection }
    }

    async fn respond(self) -> Result<(Response<Incoming>, AbortHandle), Error> {
        let stream = TokioIo::new(self.client.connect().await?);
        let request = self.request.body(Full::new(self.body))?;
        if self.client.version == Version::HTTP_2 {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            let connection = tokio::spawn(connection).abort_handle();
            Ok((sender.send_request(request).await?, connection))
        } else {
            let (mut sender, connection) = http1::handshake(stream).await?;
            let connection = tokio::spawn(connection).abort_handle();
            Ok((sender.send_request(request).await?, connection))
        }
    }
}

/// What the API's description says.
static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| {
    let current = session_kit::http::api::openapi("/sessions").to_json().unwrap();
    Description::parse(&current)
});

impl Answer {
    /// Compares it with the API's description.
    fn check(&self, method: &str, path: &str) {
        let described = Described {
            method,
            path,
            status: self.status.as_u16(),
            content_type: self.header(CONTENT_TYPE.as_str()).unwrap_or_default(),
            body: &self.body,
        };
        DESCRIPTION.check(described).unwrap();
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The `Set-Cookie` of the answer.
    pub(crate) fn cookie(&self) -> Option<&str> {
        self.headers.get(SET_COOKIE).map(|cookie| cookie.to_str().unwrap())
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The status, and that a problem is told as one.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(self.cookie(), None, "a refusal writes no cookie");
        let challenge = self.header("www-authenticate").is_some_and(|it| it.starts_with("Bearer "));
        assert_eq!(challenge, status == 401, "{:?}", self.headers);
        let problem = self.json();
        assert_eq!(problem["status"], status);
        problem
    }
}

impl Open {
    /// Reads on until this has come, and answers all that has.
    pub(crate) async fn until(&mut self, text: &str) -> &str {
        let reading = async {
            while !self.seen.contains(text) {
                assert!(self.read().await, "{text:?} does not come: {:?}", self.seen);
            }
        };
        let came = tokio::time::timeout(super::PATIENCE, reading).await.is_ok();
        assert!(came, "{text:?} does not come: {:?}", self.seen);
        &self.seen
    }

    /// Reads to the orderly end of the body, and answers all of it.
    pub(crate) async fn finish(mut self) -> String {
        let reading = async { while self.read().await {} };
        let ended = tokio::time::timeout(super::PATIENCE, reading).await.is_ok();
        assert!(ended, "no end after {:?}", self.seen);
        std::mem::take(&mut self.seen)
    }

    async fn read(&mut self) -> bool {
        let Some(frame) = self.body.frame().await else { return false };
        if let Ok(data) = frame.expect("the body is not cut off").into_data() {
            self.seen.push_str(std::str::from_utf8(&data).unwrap());
        }
        true
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
