//! A TCP proxy whose connections fall silent one at a time.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A TCP proxy in front of a server, for tests of what goes over which connection.
///
/// ```no_run
/// # async fn example() {
/// use session_conformance::faults::Proxy;
///
/// let proxy = Proxy::listen().await;
/// proxy.forward("127.0.0.1:6379");
/// let url = format!("redis://127.0.0.1:{}", proxy.port());
/// // Connect by this URL, and load the session `6eb6…`. Then the connection that was asked for it
/// // answers no more, while the others do.
/// proxy.silence(b"6eb6");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Proxy {
    port: u16,
    server: watch::Sender<Option<String>>,
    connections: Arc<Mutex<Vec<Arc<Carried>>>>,
}

/// What a connection has carried.
#[derive(Debug, Default)]
struct Carried {
    /// All that the client has sent.
    sent: Mutex<Vec<u8>>,
    is_silent: AtomicBool,
}

impl Proxy {
    /// Starts to listen. Connections wait until [`Proxy::forward`] names the server.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self { port, server: watch::Sender::new(None), connections: Arc::default() };
        tokio::spawn(proxy.clone().run(listener));
        proxy
    }

    /// The port that it listens on, on this host.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Forwards to this server, a host and a port, from now on.
    pub fn forward(&self, server: impl Into<String>) {
        self.server.send_replace(Some(server.into()));
    }

    /// Stops forwarding on the connections over which the client has sent these bytes, without
    /// closing them. Returns how many those are.
    pub fn silence(&self, bytes: &[u8]) -> usize {
        let has_sent = |connection: &&Arc<Carried>| {
            locked(&connection.sent).windows(bytes.len()).any(|sent| sent == bytes)
        };
        let connections = locked(&self.connections);
        let silenced = connections.iter().filter(has_sent);
        silenced.map(|connection| connection.is_silent.store(true, Ordering::SeqCst)).count()
    }

    async fn run(self, listener: TcpListener) {
        while let Ok((client, _)) = listener.accept().await {
            let carried = Arc::new(Carried::default());
            locked(&self.connections).push(Arc::clone(&carried));
            let server = self.server.subscribe();
            tokio::spawn(carry(client, server, carried));
        }
    }
}

async fn carry(
    client: TcpStream,
    mut server: watch::Receiver<Option<String>>,
    carried: Arc<Carried>,
) -> io::Result<()> {
    let server = server.wait_for(Option::is_some).await.map_err(io::Error::other)?.clone();
    let (up, down) = TcpStream::connect(server.unwrap_or_default()).await?.into_split();
    let (from, to) = client.into_split();
    let (sent, is_silent) = (&carried.sent, &carried.is_silent);
    let note = |bytes: &[u8]| locked(sent).extend_from_slice(bytes);
    tokio::try_join!(copy(from, down, is_silent, note), copy(up, to, is_silent, |_| {}))?;
    Ok(())
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    is_silent: &AtomicBool,
    note: impl Fn(&[u8]),
) -> io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut bytes).await?;
        if is_silent.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        if count == 0 {
            return to.shutdown().await;
        }
        note(&bytes[..count]);
        to.write_all(&bytes[..count]).await?;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
