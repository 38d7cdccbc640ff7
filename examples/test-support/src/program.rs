//! A program under test.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::client::Client;

/// A running program that takes its address as its first argument. It is killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    addr: SocketAddr,
    _port: File,
    _folder: tempfile::TempDir,
}

/// Below those that systems give to a socket that asks for any port: nobody else takes one of these by chance.
/// So are those 10,000 above, which a server of Redis Cluster takes besides.
const PORTS: Range<u16> = 10_000..20_000;

/// An address with a free port, and a lock that keeps it from the other tests for as long as it is held.
///
/// A port that the system chose could be given to another program before this one listens there, and a test would
/// talk to that.
///
/// # Panics
/// When every port is taken.
pub fn free_address() -> (SocketAddr, File) {
    let test = std::env::current_exe().unwrap();
    let locks = test.ancestors().nth(2).unwrap().join("test-ports");
    std::fs::create_dir_all(&locks).unwrap();
    let begin = RandomState::new().hash_one(()) % u64::from(PORTS.end - PORTS.start);
    let ports = PORTS.cycle().skip(usize::try_from(begin).unwrap()).take(PORTS.len());
    for port in ports {
        let lock = File::create(locks.join(port.to_string())).unwrap();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if lock.try_lock().is_ok() && TcpListener::bind(addr).is_ok() {
            return (addr, lock);
        }
    }
    panic!("no port of {PORTS:?} is free")
}

/// The path of an example that Cargo has built beside the running test.
///
/// # Panics
/// When it is missing: `cargo test --test NAME` builds no examples.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --examples`", path.display());
    path
}

impl Program {
    /// Starts it in a folder of its own, on a free port, and waits until it listens.
    ///
    /// # Panics
    /// When it does not listen within 20 seconds.
    pub fn start(path: impl AsRef<Path>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (addr, port) = free_address();
        let mut command = Command::new(path.as_ref());
        let child = command.arg(addr.to_string()).current_dir(folder.path()).spawn().unwrap();
        let mut program = Self { child, addr, _port: port, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(addr).is_err() {
            assert!(Instant::now() < deadline, "{} does not listen", path.as_ref().display());
            assert_eq!(program.child.try_wait().unwrap(), None, "the program left");
            std::thread::sleep(Duration::from_millis(20));
        }
        program
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A client without a cookie.
    pub const fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// Sends SIGINT.
    ///
    /// # Panics
    /// Where there is no program `kill`.
    pub fn interrupt(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// Sends SIGINT and waits for the end.
    ///
    /// # Panics
    /// When the program takes longer than two seconds, or ends with a failure.
    pub fn leaves_when_interrupted(&mut self) {
        let start = Instant::now();
        self.interrupt();
        while start.elapsed() < Duration::from_secs(2) {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the program goes on after SIGINT");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
