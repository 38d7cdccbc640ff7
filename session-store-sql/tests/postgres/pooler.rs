//! A pooler in transaction mode between the store and its server.

use std::sync::Arc;

use async_trait::async_trait;
use session_conformance::sample::{PATIENCE, options};
use session_conformance::{Backend, Namespace, run_case};
use session_core::{Actor, Store};
use session_engine::{Access, Engine, SignIn};
use session_store_sql::{PostgresOptions, PostgresStore};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use crate::{Schema, owner, url};

/// Lends its only connection to one client after another, for a transaction at a time. As poolers that
/// know prepared statements, it keeps those of its clients apart.
struct Pooler {
    server: Arc<Mutex<Wire>>,
    /// What the server said of itself when the connection was made.
    greeting: Vec<u8>,
}

/// A connection, and what has been read of it beyond the last message.
struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

/// A type, and the content behind the length.
type Message = (u8, Vec<u8>);

impl Wire {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// None at the end of the connection. May be dropped without a loss.
    async fn message(&mut self) -> Option<Message> {
        loop {
            if let Some(length) = self.read.get(1..5) {
                let end = 1 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if self.read.len() >= end {
                    let rest = self.read.split_off(end);
                    let message = std::mem::replace(&mut self.read, rest);
                    return Some((message[0], message[5..].to_vec()));
                }
            }
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn send(&mut self, message: &Message) -> std::io::Result<()> {
        self.stream.write_all(&written(message)).await
    }
}

fn written((kind, content): &Message) -> Vec<u8> {
    let length = u32::try_from(4 + content.len()).unwrap();
    [&[*kind], &length.to_be_bytes()[..], content].concat()
}

impl Pooler {
    /// Answers its port.
    async fn start() -> u16 {
        let server: PgConnectOptions = url().parse().unwrap();
        let stream = TcpStream::connect((server.get_host(), server.get_port())).await.unwrap();
        let mut wire = Wire::new(stream);
        let parameters = format!(
            "user\0{}\0database\0{}\0client_encoding\0UTF8\0\0",
            server.get_username(),
            server.get_database().unwrap()
        );
        let length = u32::try_from(8 + parameters.len()).unwrap();
        let version = 196_608_u32.to_be_bytes();
        let begin = [&length.to_be_bytes()[..], &version, parameters.as_bytes()].concat();
        wire.stream.write_all(&begin).await.unwrap();
        let mut greeting = Vec::new();
        loop {
            let message = wire.message().await.expect("a server that trusts its clients");
            assert_ne!(message.0, b'E', "{}", String::from_utf8_lossy(&message.1));
            greeting.extend(written(&message));
            if message.0 == b'Z' {
                break;
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pooler = Arc::new(Self { server: Arc::new(Mutex::new(wire)), greeting });
        tokio::spawn(async move {
            for number in 0_u64.. {
                let client = listener.accept().await.unwrap().0;
                let pooler = Arc::clone(&pooler);
                tokio::spawn(async move { pooler.serve(client, number).await });
            }
        });
        port
    }

    async fn serve(&self, mut client: TcpStream, number: u64) -> Option<()> {
        let length = client.read_u32().await.ok()? as usize;
        let mut parameters = vec![0; length - 4];
        client.read_exact(&mut parameters).await.ok()?;
        client.write_all(&self.greeting).await.ok()?;
        let mut client = Wire::new(client);
        loop {
            let first = client.message().await?;
            if first.0 == b'X' {
                return None;
            }
            let mut lent = Lent { server: Arc::clone(&self.server).lock_owned().await, asked: 0 };
            let served = lent.transaction(&mut client, first, number).await;
            if served.is_none() {
                lent.clean().await;
                return None;
            }
        }
    }
}

/// The server's connection, while a client has it.
struct Lent {
    server: OwnedMutexGuard<Wire>,
    /// How often the server has still to say that it is ready.
    asked: u32,
}

impl Lent {
    /// Until the client's transaction has ended; none where the client has gone before.
    async fn transaction(&mut self, client: &mut Wire, first: Message, number: u64) -> Option<()> {
        self.forward(first, number).await;
        loop {
            tokio::select! {
                message = client.message() => match message? {
                    (b'X', _) => return None,
                    message => self.forward(message, number).await,
                },
                message = self.server.message() => {
                    let message = message.expect("the server is there");
                    let is_over = self.heard(&message) == Some(b'I');
                    client.send(&message).await.ok()?;
                    if is_over {
                        return Some(());
                    }
                }
            }
        }
    }

    async fn forward(&mut self, message: Message, number: u64) {
        self.asked += u32::from(matches!(message.0, b'S' | b'Q'));
        self.server.send(&renamed(message, number)).await.unwrap();
    }

    /// The state in which the server is ready, where it has answered everything.
    fn heard(&mut self, (kind, content): &Message) -> Option<u8> {
        if *kind != b'Z' {
            return None;
        }
        self.asked -= 1;
        (self.asked == 0).then(|| content[0])
    }

    /// Rolls back what a client has left.
    async fn clean(&mut self) {
        // After a failure the server reads nothing before the first of them.
        self.forward((b'S', Vec::new()), 0).await;
        self.forward((b'Q', b"ROLLBACK\0".to_vec()), 0).await;
        loop {
            let message = self.server.message().await.expect("the server is there");
            if self.heard(&message).is_some() {
                return;
            }
        }
    }
}

/// With names of prepared statements that no other client has.
fn renamed((kind, mut content): Message, number: u64) -> Message {
    let end_of_portal = || content.iter().position(|byte| *byte == 0).unwrap() + 1;
    let name = match kind {
        b'P' => Some(0),
        b'B' => Some(end_of_portal()),
        b'D' | b'C' if content[0] == b'S' => Some(1),
        _ => None,
    };
    if let Some(name) = name.filter(|name| content[*name] != 0) {
        content.splice(name..name, format!("{number}_").into_bytes());
    }
    (kind, content)
}

struct Pooled(u16);

struct Through {
    schema: Schema,
    port: u16,
}

impl Through {
    async fn store(&self) -> PostgresStore {
        let server: PgConnectOptions = url().parse().unwrap();
        let server = server.host("127.0.0.1").port(self.port).ssl_mode(PgSslMode::Disable);
        let pool = PgPoolOptions::new().max_connections(4).acquire_timeout(PATIENCE);
        let pool = pool.connect_with(server).await.unwrap();
        let options = PostgresOptions::default().with_schema(self.schema.0.clone());
        PostgresStore::with_pool(pool, options).await.unwrap()
    }
}

#[async_trait]
impl Backend for Pooled {
    async fn fresh(&self) -> Box<dyn Namespace> {
        Box::new(Through { schema: Schema::create().await, port: self.0 })
    }
}

#[async_trait]
impl Namespace for Through {
    async fn connect(&self) -> Arc<dyn Store> {
        Arc::new(self.store().await)
    }
}

/// All but pushes goes through it, also with calls that are given up, and the report says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_costs_the_pushes_only() {
    let port = Pooler::start().await;
    for cases in ["commit::", "log_pages::limits", "abandoned::"] {
        let report = run_case(Arc::new(Pooled(port)), cases).await;
        assert!(report.passed(), "{report}");
    }
    let through = Through { schema: Schema::create().await, port };
    let here = Engine::start(through.store().await, options()).await.unwrap();
    let there = Engine::start(through.store().await, options()).await.unwrap();
    let signed_in = here.sessions().sign_in(SignIn::new(owner())).await.unwrap();
    let token = signed_in.token.expose();
    let validate = || there.sessions().validate(token.as_bytes(), Access::default());
    assert!(validate().await.unwrap().session().is_some());
    let told = there.sessions().session_ended(signed_in.session.id());
    here.sessions().revoke_user(owner(), Actor::Application).await.unwrap();
    tokio::time::timeout(PATIENCE, told).await.expect("the log is read");
    assert!(validate().await.unwrap().session().is_none());
    let store = through.store().await;
    let begun = Instant::now();
    // It finds out beside the first calls.
    while !store.report().await.unwrap().problems.iter().any(|problem| problem.contains("pooler")) {
        assert!(begun.elapsed() < PATIENCE, "the report says nothing of it");
        tokio::task::yield_now().await;
    }
    here.shutdown().await;
    there.shutdown().await;
}
