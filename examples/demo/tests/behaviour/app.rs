//! The demo on a socket of its own, with a store that can go away and a clock to move.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use session_conformance::Probe;
use session_demo::{Adapter, Demo, Place, read_config};
use session_kit::Timestamp;
use session_kit::core::Store;
use session_kit::engine::clock::Clock;
use session_kit::http::{Config, CookieOptions, Hooks, HttpSessions};
use session_kit::testing::ManualClock;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::PATIENCE;
use crate::client::{Client, login_form};
use crate::stores::Kind;

/// What a behaviour is tested on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground {
    pub(crate) adapter: Adapter,
    pub(crate) store: Kind,
}

impl Ground {
    /// An adapter over sessions in memory.
    pub(crate) const fn memory(adapter: Adapter) -> Self {
        Self { adapter, store: Kind::Memory }
    }
}

/// A running demo. It stops when it is dropped.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) probe: Probe,
    pub(crate) clock: ManualClock,
    pub(crate) http: HttpSessions,
    adapter: Adapter,
    store: Arc<dyn Store>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
    _folder: TempDir,
}

impl App {
    pub(crate) async fn start(on: Ground) -> Self {
        Self::with(on, |_| {}).await
    }

    /// With other options than the demo's, which are the library's but for the page to sign in.
    pub(crate) async fn with(on: Ground, change: impl FnOnce(&mut Config)) -> Self {
        Self::begin(on, change, |hooks| hooks).await
    }

    /// With what an application supplies besides.
    pub(crate) async fn with_hooks(on: Ground, hooks: impl FnOnce(Hooks) -> Hooks) -> Self {
        Self::begin(on, |_| {}, hooks).await
    }

    async fn begin(
        on: Ground,
        change: impl FnOnce(&mut Config),
        hooks: impl FnOnce(Hooks) -> Hooks,
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = ManualClock::starting_at(system_time());
        let store = on.store.open(&place(&folder), &clock).await;
        Self::over(store, on.adapter, clock, folder, change, hooks).await
    }

    /// Another node on the same store, with a way to it of its own.
    pub(crate) async fn beside(&self, change: impl FnOnce(&mut Config)) -> Self {
        let (store, clock) = (Arc::clone(&self.store), self.clock.clone());
        let folder = TempDir::new().unwrap();
        Self::over(store, self.adapter, clock, folder, change, |hooks| hooks).await
    }

    async fn over(
        store: Arc<dyn Store>,
        adapter: Adapter,
        clock: ManualClock,
        folder: TempDir,
        change: impl FnOnce(&mut Config),
        hooks: impl FnOnce(Hooks) -> Hooks,
    ) -> Self {
        let probe = Probe::around(Arc::clone(&store));
        let stores = clock.clone();
        probe.set_clock(move || stores.now());
        let mut config = read_config(None).unwrap();
        config.http.cookie = CookieOptions::default();
        // A server that others test on may be busy.
        config.engine.store_timeout = PATIENCE;
        change(&mut config);
        let hooks = hooks(Hooks::default().with_clock(clock.clone()));
        let probed: Arc<dyn Store> = Arc::new(probe.clone());
        let demo = Demo::start(probed, &place(&folder), config, hooks).await.unwrap();
        let http = demo.http().clone();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            // A dropped application stops as well.
            let _ = stopped.await;
        };
        let serving = tokio::spawn(demo.serve(adapter, listener, stopped));
        let stop = Some(stop);
        Self { address, probe, clock, http, adapter, store, stop, serving, _folder: folder }
    }

    /// A browser that nobody has signed in with.
    pub(crate) const fn stranger(&self) -> Client {
        Client::new(self.address)
    }

    /// A browser of this user.
    pub(crate) async fn browser(&self, user: &str) -> Client {
        let mut browser = self.stranger();
        let answer = browser.post("/login", &login_form(user)).await;
        assert_eq!(answer.status, 303, "{user}: {}", answer.text());
        browser
    }

    /// Moves the clock of the node and of its store forward, and waits until the node has heard of it.
    pub(crate) async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.probe.hint();
        let heard = async || self.http.manager().now() >= self.clock.now();
        eventually("the node has heard the time", heard).await;
    }

    /// Asks the server to stop, and answers how long it took until it had.
    pub(crate) async fn stop(&mut self) -> Duration {
        let begun = Instant::now();
        drop(self.stop.take());
        let served = tokio::time::timeout(PATIENCE, &mut self.serving).await;
        served.expect("the server stops").unwrap().unwrap();
        begun.elapsed()
    }
}

/// The user whom the home page greets.
pub(crate) async fn user_of(browser: &Client) -> String {
    let answer = browser.get("/").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    match answer.text().split(r#"id="user">"#).nth(1) {
        Some(rest) => rest.split('<').next().unwrap().to_owned(),
        None => {
            assert!(answer.text().contains("Nobody is signed in"), "{}", answer.text());
            "nobody".to_owned()
        }
    }
}

/// Waits until this holds; write-backs and the log are read at intervals.
#[track_caller]
pub(crate) fn eventually<'c>(
    what: &'c str,
    condition: impl AsyncFn() -> bool + 'c,
) -> impl Future<Output = ()> + 'c {
    let caller = std::panic::Location::caller();
    async move {
        let begun = Instant::now();
        while !condition().await {
            assert!(begun.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?} ({caller})");
            tokio::task::yield_now().await;
        }
    }
}

/// Where the roles of users are kept, and the sessions if the store is a file.
fn place(folder: &TempDir) -> Place {
    Place::File(folder.path().join("demo.db"))
}

fn system_time() -> Timestamp {
    let elapsed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    // Whole milliseconds, as every store keeps them.
    Timestamp::EPOCH.plus(Duration::from_millis(u64::try_from(elapsed.as_millis()).unwrap()))
}
