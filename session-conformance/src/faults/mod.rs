//! A store whose server dies, stops and comes back.
//!
//! Not among the cases, because they need a server that may be killed: call them with a
//! [`Server`] of your own, or with a [`Program`] that controls one. [`a_kill_loses_nothing`] is for
//! stores that a process opens by itself, and needs no server.

mod crash;
mod proxy;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use session_core::Actor;
use session_engine::{Access, Engine, Error, SignIn};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

pub use self::crash::a_kill_loses_nothing;
pub use self::proxy::Proxy;
use crate::Namespace;
use crate::sample::{PATIENCE, engine, load, user};

/// A server that a test may disturb. Each call returns when it is done.
#[async_trait]
pub trait Server: Send + Sync + 'static {
    /// Kills it at once, as `kill -9` does.
    async fn kill(&self);
    /// Starts it again with its data.
    async fn restart(&self);
    /// Stops it in its tracks (SIGSTOP).
    async fn pause(&self);
    /// Lets it go on (SIGCONT).
    async fn resume(&self);
}

/// A server that a program controls: it is called with its arguments, then `kill`, `restart`,
/// `pause` or `resume`, then the server's name.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The server's name.
    pub server: String,
}

impl Program {
    async fn run(&self, action: &'static str) {
        let Self { command, server } = self.clone();
        let run = move || {
            let mut run = std::process::Command::new(&command[0]);
            run.args(&command[1..]).arg(action).arg(server).status().unwrap()
        };
        let status = tokio::task::spawn_blocking(run).await.unwrap();
        assert!(status.success(), "{action}: {status}");
    }
}

#[async_trait]
impl Server for Program {
    async fn kill(&self) {
        self.run("kill").await;
    }

    async fn restart(&self) {
        self.run("restart").await;
    }

    async fn pause(&self) {
        self.run("pause").await;
    }

    async fn resume(&self) {
        self.run("resume").await;
    }
}

/// Kills the server in the middle of a thousand sign-ins and as many revocations on two nodes:
/// every failure is `Unavailable` and in time, every acknowledged change is there, and the nodes go
/// on by themselves.
///
/// # Panics
/// When any of it does not hold.
pub async fn a_death_loses_nothing(namespace: Arc<dyn Namespace>, server: Arc<dyn Server>) {
    let mut options = namespace.options();
    options.store_timeout = TIMEOUT;
    let nodes = [
        Arc::new(engine(namespace.connect().await, options.clone()).await),
        Arc::new(engine(namespace.connect().await, options.clone()).await),
    ];
    let progress = Arc::new(Progress::default());
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (node, progress) = (Arc::clone(&nodes[worker % 2]), Arc::clone(&progress));
        workers.spawn(async move { work(worker, &node, &progress).await });
    }
    progress.acknowledged_some.notified().await;
    server.kill().await;
    progress.failed.notified().await;
    server.restart().await;
    progress.is_there();
    let done = workers.join_all().await.into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(done.len(), WORKERS * SHARE);
    let store = namespace.connect().await;
    for (id, revoked) in done {
        let found = load(store.as_ref(), id).await;
        assert_eq!(found.is_none(), revoked, "{id} is not as it was acknowledged");
    }
    println!(
        "a death: {} changes acknowledged, {} failed as unavailable and were tried again",
        progress.acknowledged.load(Ordering::SeqCst),
        progress.failures.load(Ordering::SeqCst)
    );
    for node in nodes {
        Arc::into_inner(node).expect("the workers are done").shutdown().await;
    }
    assert_eq!(namespace.complaints().await, [""; 0]);
}

#[derive(Default)]
struct Progress {
    acknowledged: AtomicUsize,
    acknowledged_some: Notify,
    failures: AtomicUsize,
    failed: Notify,
    /// When the server was last seen at work since it was restarted.
    seen: Mutex<Option<Instant>>,
}

impl Progress {
    fn of_a_running_server() -> Self {
        let progress = Self::default();
        progress.is_there();
        progress
    }

    fn is_there(&self) {
        *self.seen() = Some(Instant::now());
    }

    /// Counts a call that went through, and tells when enough have for the server to be killed.
    fn acknowledge(&self) {
        if self.acknowledged.fetch_add(1, Ordering::SeqCst) == WORKERS * SHARE / 2 {
            self.acknowledged_some.notify_one();
        }
        let mut seen = self.seen();
        *seen = seen.map(|_| Instant::now());
    }

    fn fail(&self, error: &Error) {
        assert!(error.is_unavailable(), "{error:?}");
        let silence = self.seen().map_or(Duration::ZERO, |seen| seen.elapsed());
        assert!(silence < PATIENCE, "it does not go on by itself: {error:?}");
        self.failures.fetch_add(1, Ordering::SeqCst);
        self.failed.notify_one();
    }

    fn seen(&self) -> MutexGuard<'_, Option<Instant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn work(
    worker: usize,
    node: &Engine,
    progress: &Progress,
) -> Vec<(session_core::SessionId, bool)> {
    let mut done = Vec::new();
    for n in 0..SHARE {
        let owner = user(&format!("user {worker} {n}"));
        let signed_in = until_it_works(progress, || async {
            node.sessions().sign_in(SignIn::new(owner.clone())).await
        })
        .await;
        let id = signed_in.session.id();
        // Every second session stays.
        let revoked = n % 2 == 0;
        if revoked {
            until_it_works(progress, || async {
                node.sessions().revoke_user(owner.clone(), Actor::Application).await
            })
            .await;
        } else {
            until_it_works(progress, || async {
                node.sessions().claims_changed(&owner, Actor::Application).await
            })
            .await;
        }
        done.push((id, revoked));
    }
    done
}

async fn until_it_works<T, F: Future<Output = Result<T, Error>>>(
    progress: &Progress,
    mut call: impl FnMut() -> F,
) -> T {
    loop {
        let begun = Instant::now();
        match call().await {
            Ok(value) => {
                progress.acknowledge();
                return value;
            }
            Err(error) => {
                progress.fail(&error);
                // A call tries three times.
                assert!(begun.elapsed() < TIMEOUT * 3 + DELAY, "{:?}", begun.elapsed());
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Stops the server in its tracks: a change is `Unavailable` in time, the cache is trusted for as
/// long as the options say and no longer, nobody is told to be signed out, and everything goes
/// on by itself.
///
/// # Panics
/// When any of it does not hold.
pub async fn a_pause_is_an_outage(namespace: Arc<dyn Namespace>, server: Arc<dyn Server>) {
    let mut options = namespace.options();
    options.store_timeout = Duration::from_millis(500);
    options.propagation_bound = Duration::from_millis(500);
    options.max_staleness = Duration::from_secs(2);
    let node = engine(namespace.connect().await, options.clone()).await;
    // The time-outs are short, so what comes before the outage is tried again.
    let progress = Progress::of_a_running_server();
    let sign_in = || async { node.sessions().sign_in(SignIn::new(user("alice"))).await };
    let signed_in = until_it_works(&progress, sign_in).await;
    let token = signed_in.token.expose();
    let validate = || node.sessions().validate(token.as_bytes(), Access::default());
    assert!(until_it_works(&progress, validate).await.session().is_some());
    server.pause().await;
    let paused = Instant::now();
    let error = node.sessions().sign_in(SignIn::new(user("bob"))).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    assert!(paused.elapsed() < options.store_timeout * 3 + DELAY, "{:?}", paused.elapsed());
    let refused = loop {
        match validate().await {
            Ok(verdict) => assert!(verdict.session().is_some(), "an outage signs nobody out"),
            Err(error) => break error,
        }
        let limit = options.max_staleness + DELAY;
        assert!(paused.elapsed() < limit, "the cache is trusted for too long");
        tokio::task::yield_now().await;
    };
    assert!(refused.is_unavailable(), "{refused:?}");
    server.resume().await;
    let progress = Progress::of_a_running_server();
    let verdict = until_it_works(&progress, validate).await;
    assert!(verdict.session().is_some(), "an outage signs nobody out");
    node.shutdown().await;
}

const WORKERS: usize = 8;
const SHARE: usize = 125;
const TIMEOUT: Duration = Duration::from_secs(5);
/// How late a busy machine may be. Less than the default `max_staleness`.
const DELAY: Duration = Duration::from_secs(20);

/// Starts a TCP proxy in front of `server` and returns its port. On `silence`, open connections
/// stop forwarding without closing. Later ones work.
pub async fn falls_silent(server: String, silence: watch::Receiver<()>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(&server).await.unwrap();
            let mut silence = silence.clone();
            silence.mark_unchanged();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = silence.changed() => std::future::pending().await,
                }
            });
        }
    });
    port
}
