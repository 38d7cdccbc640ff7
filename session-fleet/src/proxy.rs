//! A TCP proxy between a node and its store that can be told to misbehave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use session_benches::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They pass.
    Pass,
    /// They pass this much later, in each direction.
    Delay(Duration),
    /// None passes in either direction, and no connection is closed.
    Stall,
    /// What the store answers does not pass; what the node asks does.
    CutAnswers,
    /// What the node asks does not pass; what the store sends does.
    CutRequests,
    /// Nothing of what the store sends passes on a connection that has asked it to `LISTEN`: pushes are lost, and
    /// no one is told.
    StallPush,
    /// Every connection is reset, and so is every new one.
    Reset,
}

/// A proxy; it runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
    disturbed: Arc<AtomicU64>,
}

/// What every connection has.
#[derive(Clone)]
struct Line {
    server: String,
    modes: watch::Receiver<Mode>,
    /// How often bytes were late, or a connection was reset.
    disturbed: Arc<AtomicU64>,
}

/// One direction of a connection.
struct Way<'c> {
    to: To,
    /// Whether the connection has asked the store to tell of changes.
    listens: &'c AtomicBool,
    modes: watch::Receiver<Mode>,
    disturbed: &'c AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Store,
    Node,
}

impl Proxy {
    /// Listens on a free port of the loopback interface, in front of `server`, such as `127.0.0.1:5432`.
    pub(crate) async fn start(server: String) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mode, modes) = watch::channel(Mode::Pass);
        let disturbed = Arc::default();
        let line = Line { server, modes, disturbed: Arc::clone(&disturbed) };
        tokio::spawn(accept(listener, line));
        Ok(Self { address, mode, disturbed })
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.disturbed.store(0, Ordering::Relaxed);
        self.mode.send_replace(mode);
    }

    /// How often bytes were late, held back, or lost with their connection since the mode was set.
    pub(crate) fn disturbed(&self) -> u64 {
        self.disturbed.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, mut line: Line) {
    loop {
        let node = tokio::select! {
            accepted = listener.accept() => accepted,
            // The proxy was dropped.
            _ = line.modes.wait_for(|_| false) => return,
        };
        let Ok((node, _)) = node else { continue };
        tokio::spawn(join(node, line.clone()));
    }
}

/// Passes bytes on in both directions, until one side closes or the mode resets connections.
async fn join(mut node: TcpStream, line: Line) {
    let Line { server, mut modes, disturbed } = line;
    let connected = tokio::select! {
        biased;
        _ = modes.wait_for(|mode| *mode == Mode::Reset) => None,
        connected = TcpStream::connect(server) => connected.ok(),
    };
    let Some(mut store) = connected else {
        disturbed.fetch_add(1, Ordering::Relaxed);
        return reset(&node);
    };
    let _ = (node.set_nodelay(true), store.set_nodelay(true));
    // Halves that own their stream would close it in order, which is no reset.
    let ((from_node, to_node), (from_store, to_store)) = (node.split(), store.split());
    let listens = AtomicBool::default();
    let way = |to| Way { to, listens: &listens, modes: modes.clone(), disturbed: &disturbed };
    let (up, down) = (way(To::Store), way(To::Node));
    let is_reset = tokio::select! {
        () = pump(from_node, to_store, up) => false,
        () = pump(from_store, to_node, down) => false,
        // Also where the proxy was dropped.
        _ = modes.wait_for(|mode| *mode == Mode::Reset) => true,
    };
    if is_reset {
        disturbed.fetch_add(1, Ordering::Relaxed);
        reset(&node);
        reset(&store);
    }
}

/// Has the stream reset when it is dropped; one on which that fails is closed already.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut way: Way<'_>) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        way.look_at(&bytes[..count]);
        let Some(mode) = way.opens().await else { return };
        if let Mode::Delay(delay) = mode {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

impl Way<'_> {
    fn look_at(&self, bytes: &[u8]) {
        if self.to == To::Store && bytes.windows(LISTEN.len()).any(|some| some == LISTEN) {
            self.listens.store(true, Ordering::Relaxed);
        }
    }

    /// The mode in which bytes pass, once they do; none where the proxy was dropped.
    async fn opens(&mut self) -> Option<Mode> {
        let (to, listens) = (self.to, self.listens);
        let passes = |mode: &Mode| match mode {
            Mode::Pass | Mode::Delay(_) => true,
            Mode::CutAnswers => to == To::Store,
            Mode::CutRequests => to == To::Node,
            Mode::StallPush => to == To::Store || !listens.load(Ordering::Relaxed),
            Mode::Stall | Mode::Reset => false,
        };
        let mode = *self.modes.borrow();
        if !passes(&mode) || matches!(mode, Mode::Delay(_)) {
            self.disturbed.fetch_add(1, Ordering::Relaxed);
        }
        self.modes.wait_for(passes).await.ok().map(|mode| *mode)
    }
}

/// PostgreSQL's command. It comes in one piece: connections to a local proxy are not encrypted.
const LISTEN: &[u8] = b"LISTEN ";

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    /// A server that answers each byte with the one after it, and tells which it got.
    async fn server() -> (String, tokio::sync::mpsc::UnboundedReceiver<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (got, gets) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let got = got.clone();
                tokio::spawn(async move {
                    while let Ok(byte) = stream.read_u8().await {
                        let _ = got.send(byte);
                        let _ = stream.write_u8(byte + 1).await;
                    }
                });
            }
        });
        (address, gets)
    }

    const WHILE: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn bytes_pass_late_or_not_at_all() {
        let (server, mut gets) = server().await;
        let proxy = Proxy::start(server).await.unwrap();
        let mut node = TcpStream::connect(proxy.address).await.unwrap();
        node.write_u8(1).await.unwrap();
        assert_eq!(node.read_u8().await.unwrap(), 2);

        proxy.set(Mode::Delay(WHILE));
        let begun = Instant::now();
        node.write_u8(3).await.unwrap();
        assert_eq!(node.read_u8().await.unwrap(), 4);
        assert!(begun.elapsed() >= WHILE * 2);
        assert_eq!(proxy.disturbed(), 2, "both ways");

        assert_eq!((gets.recv().await, gets.recv().await), (Some(1), Some(3)));
        proxy.set(Mode::Stall);
        node.write_u8(5).await.unwrap();
        assert!(timeout(WHILE, gets.recv()).await.is_err());
        assert_eq!(proxy.disturbed(), 1);

        proxy.set(Mode::CutAnswers);
        assert_eq!(gets.recv().await, Some(5));
        assert!(timeout(WHILE, node.read_u8()).await.is_err());
        proxy.set(Mode::CutRequests);
        assert_eq!(node.read_u8().await.unwrap(), 6);
        node.write_u8(7).await.unwrap();
        assert!(timeout(WHILE, gets.recv()).await.is_err());
        proxy.set(Mode::Pass);
        assert_eq!(node.read_u8().await.unwrap(), 8);
    }

    #[tokio::test]
    async fn only_a_connection_that_listens_hears_no_push() {
        let (server, _gets) = server().await;
        let proxy = Proxy::start(server).await.unwrap();
        let mut other = TcpStream::connect(proxy.address).await.unwrap();
        let mut listens = TcpStream::connect(proxy.address).await.unwrap();
        listens.write_all(b"LISTEN x").await.unwrap();
        let mut heard = [0; 8];
        listens.read_exact(&mut heard).await.unwrap();
        proxy.set(Mode::StallPush);
        for stream in [&mut other, &mut listens] {
            stream.write_u8(1).await.unwrap();
        }
        assert_eq!(other.read_u8().await.unwrap(), 2);
        assert!(timeout(WHILE, listens.read_u8()).await.is_err());
        proxy.set(Mode::Pass);
        assert_eq!(listens.read_u8().await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_reset_ends_every_connection_until_bytes_pass_again() {
        let (server, _gets) = server().await;
        let proxy = Proxy::start(server).await.unwrap();
        let mut before = TcpStream::connect(proxy.address).await.unwrap();
        before.write_u8(1).await.unwrap();
        assert_eq!(before.read_u8().await.unwrap(), 2);
        proxy.set(Mode::Reset);
        let error = before.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let mut during = TcpStream::connect(proxy.address).await.unwrap();
        assert!(during.read_u8().await.is_err());
        assert_eq!(proxy.disturbed(), 2);
        proxy.set(Mode::Pass);
        let mut after = TcpStream::connect(proxy.address).await.unwrap();
        after.write_u8(1).await.unwrap();
        assert_eq!(after.read_u8().await.unwrap(), 2);
    }
}
