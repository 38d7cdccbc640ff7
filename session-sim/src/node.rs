//! One node: the real engine and the HTTP rules, on a runtime and clocks of its own.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use session_core::{Session, Timestamp};
use session_engine::clock::Clock;
use session_engine::entropy::Entropy;
use session_engine::{Notice, Options, Parts};
use session_http::{Config, CookieOptions, Hooks, HttpOptions, HttpSessions};
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::client::Outcome;
use crate::oracle::ms;
use crate::plan::Ms;
use crate::wire::{Outbox, Wire};

/// The store's clock when a run begins.
pub(crate) const EPOCH: Timestamp = Timestamp::from_micros(1_900_000_000_000_000);

/// The store's time at a moment of the run.
pub(crate) fn stamp(at: Ms) -> Timestamp {
    EPOCH.plus(Duration::from_millis(at))
}

/// What has come out of a node.
pub(crate) enum Done {
    Started(Box<Result<HttpSessions, session_engine::Error>>),
    Stopped,
    Operation(usize, Box<Outcome>),
    Notice(Notice),
}

/// What a node gives to the world, in order.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<Vec<Done>>);

impl Inbox {
    pub(crate) fn put(&self, done: Done) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(done);
    }

    pub(crate) fn take(&self) -> Vec<Done> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A process. It ends when it is dropped, in the middle of its work.
pub(crate) struct Process {
    runtime: Runtime,
    begun: Instant,
    /// The run's time at `begun`, and how long the machine has slept since.
    base: Ms,
    /// The run's time that it has reached.
    reached: Ms,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) inbox: Arc<Inbox>,
    /// None until the node has started.
    pub(crate) http: Option<HttpSessions>,
}

impl Process {
    /// Starts a node; it reports when it has.
    pub(crate) fn start(at: Ms, seed: u64, options: &Options, wall: &Wall, app: &Claims) -> Self {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true);
        let runtime = seeded(&mut builder, seed)
            .build()
            .expect("a runtime without I/O asks nothing of the system");
        let (outbox, inbox) = <(Arc<Outbox>, Arc<Inbox>)>::default();
        outbox.pushes.store(options.push, std::sync::atomic::Ordering::Relaxed);
        let begun = {
            let _entered = runtime.enter();
            Instant::now()
        };
        wall.follow(begun, at);
        let entropy = Seeded(Mutex::new(fastrand::Rng::with_seed(seed)));
        let claims = app.clone();
        let engine = Parts::default().with_clock(wall.clone()).with_entropy(entropy).with_claims(
            move |session: Session| {
                let claims = claims.of(&session);
                async move { Ok::<_, std::io::Error>(claims) }
            },
        );
        let cookie = CookieOptions::development().with_remember(false);
        let config = Config::default()
            .with_engine(options.clone())
            .with_http(HttpOptions::default().with_cookie(cookie));
        let (store, report, woken) =
            (Wire(Arc::clone(&outbox)), Arc::clone(&inbox), Arc::clone(&outbox));
        runtime.spawn(async move {
            let mut hooks = Hooks::default();
            hooks.engine = engine;
            let started = HttpSessions::start_with(Arc::new(store), config, hooks).await;
            if let Ok(http) = &started {
                let (mut events, report) = (http.manager().events(), Arc::clone(&report));
                tokio::spawn(async move {
                    while let Some(notice) = events.next().await {
                        report.put(Done::Notice(notice));
                    }
                });
            }
            report.put(Done::Started(Box::new(started)));
            woken.woken.notify_one();
        });
        Self { runtime, begun, base: at, reached: at, outbox, inbox, http: None }
    }

    /// The run's time that the node has reached.
    pub(crate) const fn now(&self) -> Ms {
        self.reached
    }

    /// Lets the node work until this time, or until something has left it.
    pub(crate) fn run_until(&mut self, until: Ms) {
        let until = self.begun + Duration::from_millis(until.saturating_sub(self.base));
        let passed = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.outbox.woken.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            }
            self.begun.elapsed()
        });
        self.reached = self.base + ms(passed);
    }

    /// The node was not scheduled, and its monotonic clock went on.
    pub(crate) fn resume(&mut self, at: Ms) {
        let missed = at.saturating_sub(self.reached);
        self.runtime.block_on(tokio::time::advance(Duration::from_millis(missed)));
        self.reached += missed;
    }

    /// The machine has slept: no clock of the node went on but the wall clock, when it woke.
    pub(crate) fn wake(&mut self, at: Ms, wall: &Wall) {
        let slept = at.saturating_sub(self.reached);
        self.base += slept;
        self.reached += slept;
        wall.follow(self.begun, self.base);
    }

    /// Begins an operation, which reports when it is done.
    pub(crate) fn spawn(
        &self,
        number: usize,
        operation: impl Future<Output = Outcome> + Send + 'static,
    ) -> AbortHandle {
        let (inbox, woken) = (Arc::clone(&self.inbox), Arc::clone(&self.outbox));
        let task = self.runtime.spawn(async move {
            let outcome = operation.await;
            inbox.put(Done::Operation(number, Box::new(outcome)));
            woken.woken.notify_one();
        });
        task.abort_handle()
    }

    /// Stops the node in an orderly way.
    pub(crate) fn stop(&self) {
        let Some(http) = self.http.clone() else { return };
        let (inbox, woken) = (Arc::clone(&self.inbox), Arc::clone(&self.outbox));
        self.runtime.spawn(async move {
            http.shutdown().await;
            inbox.put(Done::Stopped);
            woken.woken.notify_one();
        });
    }
}

/// Tokio draws by a seed where it draws at all. Only its unstable builder has one.
#[cfg(tokio_unstable)]
fn seeded(builder: &mut Builder, seed: u64) -> &mut Builder {
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()))
}

#[cfg(not(tokio_unstable))]
fn seeded(builder: &mut Builder, _seed: u64) -> &mut Builder {
    builder
}

/// A node's wall clock, which may be wrong. Clones are the same clock.
#[derive(Clone, Default)]
pub(crate) struct Wall(Arc<Mutex<WallState>>);

#[derive(Default)]
struct WallState {
    /// The monotonic clock, and the run's time at its beginning.
    follows: Option<(Instant, Ms)>,
    skew_seconds: i64,
    still: Option<Timestamp>,
}

impl Wall {
    fn follow(&self, begun: Instant, base: Ms) {
        self.state().follows = Some((begun, base));
    }

    pub(crate) fn skew(&self, seconds: i64) {
        self.state().skew_seconds = seconds;
    }

    /// Stands still from this moment of the run on; with none it goes on.
    pub(crate) fn stand_still(&self, at: Option<Ms>) {
        let mut state = self.state();
        state.still = at.map(|at| skewed(stamp(at), state.skew_seconds));
    }

    fn state(&self) -> std::sync::MutexGuard<'_, WallState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn skewed(at: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_micros(at.as_micros().saturating_add(seconds * 1_000_000))
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let state = self.state();
        let Some((begun, base)) = state.follows else { return EPOCH };
        let now = stamp(base).plus(begun.elapsed());
        state.still.unwrap_or_else(|| skewed(now, state.skew_seconds))
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wall").finish_non_exhaustive()
    }
}

/// Random bytes that a seed repeats.
struct Seeded(Mutex<fastrand::Rng>);

impl Entropy for Seeded {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(buffer);
    }
}

impl fmt::Debug for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seeded").finish_non_exhaustive()
    }
}

/// What the application knows of its users: how often each user's roles have changed.
#[derive(Clone, Default)]
pub(crate) struct Claims(Arc<Mutex<std::collections::BTreeMap<session_core::UserKey, u64>>>);

impl Claims {
    pub(crate) fn change(&self, owner: &session_core::UserKey) -> u64 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let version = known.entry(owner.clone()).or_default();
        *version += 1;
        *version
    }

    fn of(&self, session: &Session) -> serde_json::Value {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::json!(known.get(&session.owner).copied().unwrap_or_default())
    }
}
