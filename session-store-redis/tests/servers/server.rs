//! Servers of a test's own.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use session_conformance::sample::PATIENCE;
use session_store_redis::{RedisOptions, RedisStore};
use session_test_support::free_address;

use crate::namespace::url;

/// A server that dies with the test.
pub(crate) struct Server {
    pub(crate) port: u16,
    process: Child,
    _port: File,
}

impl Server {
    pub(crate) fn start(program: &str, replica_of: Option<u16>) -> Self {
        let replica_of = replica_of.map(|master| master.to_string());
        let replica_of = replica_of.iter().flat_map(|port| ["--replicaof", "127.0.0.1", port]);
        Self::with(program, &replica_of.collect::<Vec<_>>())
    }

    /// A cluster of one server, which is reached at this port where it is not its own.
    pub(crate) async fn cluster(program: &str, port: Option<u16>) -> Self {
        let folder = std::env::temp_dir();
        let file = format!("kit-nodes-{:x}.conf", getrandom::u64().unwrap());
        let folder = folder.to_str().unwrap();
        let port = port.map(|port| port.to_string());
        let mut arguments =
            vec!["--cluster-enabled", "yes", "--cluster-config-file", &file, "--dir", folder];
        arguments.extend(port.iter().flat_map(|port| ["--cluster-announce-port", port]));
        let server = Self::with(program, &arguments);
        let client = redis::Client::open(server.url()).unwrap();
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "the cluster does not come up");
            tokio::task::yield_now().await;
            let Ok(mut admin) = client.get_multiplexed_async_connection().await else { continue };
            let mut slots = redis::cmd("CLUSTER");
            slots.arg("ADDSLOTSRANGE").arg(0).arg(16_383);
            let _ = slots.query_async::<()>(&mut admin).await;
            let mut info = redis::cmd("CLUSTER");
            let info: String = info.arg("INFO").query_async(&mut admin).await.unwrap();
            if info.contains("cluster_state:ok") {
                let _ = std::fs::remove_file(Path::new(folder).join(file));
                return server;
            }
        }
    }

    fn with(program: &str, arguments: &[&str]) -> Self {
        let (address, lock) = free_address();
        let port = address.port();
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
        // A replica that takes its first copy from memory leaves no file behind.
        command.args(["--repl-diskless-load", "swapdb"]);
        command.args(arguments);
        let process = command.stdout(Stdio::null()).spawn().expect("redis-server is installed");
        Self { port, process, _port: lock }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn cluster_url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.port)
    }

    /// Connects once the server is there, and its replicas where the options wait for some.
    pub(crate) async fn store(&self, options: &RedisOptions) -> RedisStore {
        let begun = Instant::now();
        loop {
            match RedisStore::connect_with(&self.url(), options.clone()).await {
                Ok(store) => return store,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn die(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program that the tests' own server runs, or the one on the path where that is elsewhere.
pub(crate) async fn program() -> String {
    let client = redis::Client::open(url()).unwrap();
    let mut server = client.get_multiplexed_async_connection().await.unwrap();
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut server).await.unwrap();
    let program = info.lines().find_map(|line| line.strip_prefix("executable:")).unwrap_or("");
    let program = if Path::new(program).exists() { program } else { "redis-server" };
    program.to_owned()
}
