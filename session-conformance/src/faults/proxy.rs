//! A TCP proxy that disturbs one connection at a time.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A TCP proxy in front of a server, for tests of what goes over which connection, and of answers
/// that get lost.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use session_conformance::faults::Proxy;
///
/// let proxy = Proxy::listen().await;
/// proxy.forward("127.0.0.1:6379");
/// let url = format!("redis://127.0.0.1:{}", proxy.port());
/// // A store that is connected by this URL loads the session `6eb6…`. Then the connection over
/// // which it asked answers no more, while others do.
/// proxy.silence(b"6eb6");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    server: watch::Sender<Option<String>>,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// The bytes whose answer gets lost.
    unanswered: Mutex<Option<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct Connection {
    /// All that the client has sent.
    sent: Mutex<Vec<u8>>,
    is_silent: AtomicBool,
    /// Whether it is closed instead of passing an answer on.
    is_doomed: AtomicBool,
}

impl Proxy {
    /// Starts to listen. Connections wait until [`Proxy::forward`] names the server.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<State>::default();
        tokio::spawn(run(listener, Arc::clone(&state)));
        Self { port, state }
    }

    /// The port that it listens on, on this host.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Forwards to this server, a host and a port, from now on.
    pub fn forward(&self, server: impl Into<String>) {
        self.state.server.send_replace(Some(server.into()));
    }

    /// Stops forwarding on the connections over which the client has sent these bytes, without
    /// closing them. Returns how many those are.
    pub fn silence(&self, bytes: &[u8]) -> usize {
        let connections = locked(&self.state.connections);
        let silenced = connections.iter().filter(|one| contains(&locked(&one.sent), bytes));
        silenced.map(|one| one.is_silent.store(true, Ordering::SeqCst)).count()
    }

    /// Once a client sends these bytes, closes its connection in place of the server's answer.
    /// Happens once.
    pub fn lose_the_answer_to(&self, bytes: &[u8]) {
        *locked(&self.state.unanswered) = Some(bytes.to_vec());
    }

    /// Whether a client has sent the bytes whose answer gets lost.
    pub fn has_lost_an_answer(&self) -> bool {
        locked(&self.state.unanswered).is_none()
    }
}

async fn run(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let connection = Arc::<Connection>::default();
        locked(&state.connections).push(Arc::clone(&connection));
        tokio::spawn(carry(client, Arc::clone(&state), connection));
    }
}

async fn carry(
    client: TcpStream,
    state: Arc<State>,
    connection: Arc<Connection>,
) -> io::Result<()> {
    let mut server = state.server.subscribe();
    let server = server.wait_for(Option::is_some).await.map_err(io::Error::other)?.clone();
    let (up, down) = TcpStream::connect(server.unwrap_or_default()).await?.into_split();
    let (from, to) = client.into_split();
    let sends = |bytes: &[u8]| {
        connection.sends(bytes, &state);
        Ok(())
    };
    let answers = |_: &[u8]| match connection.is_doomed.load(Ordering::SeqCst) {
        true => Err(io::ErrorKind::ConnectionAborted.into()),
        false => Ok(()),
    };
    tokio::try_join!(copy(from, down, &connection, sends), copy(up, to, &connection, answers))?;
    Ok(())
}

/// Ends with an error where the check fails.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    connection: &Connection,
    check: impl Fn(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut bytes).await?;
        if connection.is_silent.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        if count == 0 {
            return to.shutdown().await;
        }
        check(&bytes[..count])?;
        to.write_all(&bytes[..count]).await?;
    }
}

impl Connection {
    fn sends(&self, bytes: &[u8], state: &State) {
        let mut sent = locked(&self.sent);
        let before = sent.len();
        sent.extend_from_slice(bytes);
        let mut unanswered = locked(&state.unanswered);
        let is_new =
            |bytes: &mut Vec<u8>| contains(&sent[before.saturating_sub(bytes.len())..], bytes);
        if unanswered.take_if(is_new).is_some() {
            self.is_doomed.store(true, Ordering::SeqCst);
        }
    }
}

fn contains(all: &[u8], bytes: &[u8]) -> bool {
    all.windows(bytes.len()).any(|some| some == bytes)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
