//! A demo process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::ValueEnum;
use http::StatusCode;
use session_demo::Adapter;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::client::Client;

pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Process {
    pub(crate) async fn start(db: &Path) -> Self {
        Self::on(Adapter::default(), db).await
    }

    pub(crate) async fn on(adapter: Adapter, db: &Path) -> Self {
        let adapter = adapter.to_possible_value().unwrap();
        let db = db.to_str().unwrap();
        Self::with(&Self::program(), &["--adapter", adapter.get_name(), "--db", db]).await
    }

    /// A demo of this or another version, on a store that is named by its URL.
    pub(crate) async fn of(program: &Path, store: &str) -> Self {
        Self::with(program, &["--store", store]).await
    }

    /// The demo of this version.
    pub(crate) fn program() -> PathBuf {
        env!("CARGO_BIN_EXE_session-demo").into()
    }

    async fn with(program: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(["--addr", "127.0.0.1:0"])
            .args(arguments)
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
        Client::new(self.address)
    }

    pub(crate) async fn signed_in(&self, user: &str) -> Client {
        let mut client = self.client();
        assert_eq!(client.login(user).await, StatusCode::SEE_OTHER);
        client
    }
}
