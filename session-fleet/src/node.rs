//! A demo process.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use session_benches::Failure;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// What a node is started with.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Where its standard error goes, after what an earlier process wrote there.
    pub(crate) log: PathBuf,
}

/// A process that keeps its address when it is started again.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    start: Start,
    child: Mutex<Child>,
}

impl Node {
    pub(crate) async fn start(start: Start) -> Result<Self, Failure> {
        let (child, address) = spawn(&start, "127.0.0.1:0").await?;
        Ok(Self { address, start, child: Mutex::new(child) })
    }

    /// Ends it as `kill -9` does.
    pub(crate) async fn kill(&self) -> Result<(), Failure> {
        Ok(self.child.lock().await.kill().await?)
    }

    /// Starts it again on its address.
    pub(crate) async fn restart(&self) -> Result<(), Failure> {
        let (child, _) = spawn(&self.start, &self.address.to_string()).await?;
        *self.child.lock().await = child;
        Ok(())
    }

    /// Has it stand still (SIGSTOP), and waits until each of its threads does.
    pub(crate) async fn stop(&self) -> Result<(), Failure> {
        self.signal("STOP").await?;
        let begun = Instant::now();
        while !self.is_stopped().await? {
            if begun.elapsed() > PATIENCE {
                return Err(format!("the node on {} does not stop", self.address).into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Whether all its threads have the state `T` in Linux's `/proc`.
    async fn is_stopped(&self) -> Result<bool, Failure> {
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid().await?))? {
            let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
            // The name before it is in parentheses.
            if !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Has it go on (SIGCONT).
    pub(crate) async fn resume(&self) -> Result<(), Failure> {
        self.signal("CONT").await
    }

    async fn signal(&self, name: &str) -> Result<(), Failure> {
        let pid = self.pid().await?;
        let command = format!("kill -{name} {pid}");
        let status = Command::new("sh").args(["-c", &command]).status().await?;
        if status.success() { Ok(()) } else { Err(format!("{command}: {status}").into()) }
    }

    /// The resident memory in KiB, from Linux's `/proc`.
    pub(crate) async fn memory(&self) -> Result<u64, Failure> {
        let path = format!("/proc/{}/status", self.pid().await?);
        let status = std::fs::read_to_string(&path)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.ok_or_else(|| format!("{path} does not show its memory").into())
    }

    /// How often it, or a process before it, has panicked by what it wrote into its log.
    pub(crate) fn panics(&self) -> Result<usize, Failure> {
        let log = std::fs::read_to_string(&self.start.log)?;
        Ok(log.lines().filter(|line| line.contains(" panicked at ")).count())
    }

    async fn pid(&self) -> Result<u32, Failure> {
        let pid = self.child.lock().await.id();
        pid.ok_or_else(|| format!("the node on {} has ended", self.address).into())
    }
}

/// Starts a process, and waits until it says where it listens.
async fn spawn(start: &Start, address: &str) -> Result<(Child, SocketAddr), Failure> {
    let mut child = Command::new(&start.program)
        .args(["--addr", address])
        .args(&start.arguments)
        .envs(start.environment.iter().map(|(name, value)| (name, value)))
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::options().create(true).append(true).open(&start.log)?)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{}: {error}", start.program.display()))?;
    let out = child.stdout.take().ok_or("the node has no output")?;
    let mut lines = BufReader::new(out).lines();
    let line = timeout(PATIENCE, lines.next_line()).await;
    let line = line.ok().and_then(|line| line.ok().flatten()).unwrap_or_default();
    let listens =
        line.split("http://").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
    let listens = listens.ok_or_else(|| {
        let log = std::fs::read_to_string(&start.log).unwrap_or_default();
        format!("the node does not say where it listens: {line}\n{log}")
    })?;
    Ok((child, listens))
}

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);
