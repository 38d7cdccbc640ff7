//! A demo process, and a client for it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Process {
    pub(crate) async fn start(db: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_session-demo"))
            .args(["--addr", "127.0.0.1:0", "--db"])
            .arg(db)
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("the demo says where it listens");
        let address = line.split("http://").nth(1).unwrap().split(',').next().unwrap();
        Self { address: address.parse().unwrap(), child }
    }

    /// `kill -9`.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// `kill -TERM`, and waits for the end.
    pub(crate) async fn stop(mut self) {
        let command = format!("kill -TERM {}", self.child.id().unwrap());
        assert!(Command::new("sh").args(["-c", &command]).status().await.unwrap().success());
        assert!(self.child.wait().await.unwrap().success());
    }

    pub(crate) fn client(&self) -> Client {
        Client { address: self.address, cookie: None }
    }

    pub(crate) async fn signed_in(&self, user: &str) -> Client {
        let mut client = self.client();
        assert_eq!(client.login(user).await, StatusCode::SEE_OTHER);
        client
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) cookie: Option<String>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) cookie: Option<String>,
    pub(crate) body: Bytes,
}

impl Client {
    /// The same browser, at another process.
    pub(crate) fn at(&self, process: &Process) -> Self {
        Self { address: process.address, cookie: self.cookie.clone() }
    }

    pub(crate) async fn login(&mut self, user: &str) -> StatusCode {
        let body = format!("user={user}&password={user}");
        let answer = self.try_send("POST", "/login", body).await.unwrap();
        self.cookie = answer.cookie.or(self.cookie.take());
        answer.status
    }

    pub(crate) async fn whoami(&self) -> StatusCode {
        self.send("GET", "/whoami", "").await.status
    }

    pub(crate) async fn session_id(&self) -> String {
        let body: Value =
            serde_json::from_slice(&self.send("GET", "/whoami", "").await.body).unwrap();
        body["session_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.send("GET", path, "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.try_send(method, path, body.to_owned()).await.unwrap()
    }

    /// Over a connection of its own, as many browsers would.
    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        body: String,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TokioIo::new(TcpStream::connect(self.address).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("sec-fetch-site", "same-origin");
        if method == "POST" {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        let (parts, body) = response.into_parts();
        let cookie = parts.headers.get(SET_COOKIE).map(|cookie| cookie.to_str());
        let cookie = cookie.transpose()?.and_then(|cookie| cookie.split(';').next());
        let cookie = cookie.map(str::to_owned);
        Ok(Answer { status: parts.status, cookie, body: body.collect().await?.to_bytes() })
    }
}
