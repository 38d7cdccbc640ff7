//! How a node is: for operators, for readiness probes, and for metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use session_core::Timestamp;
use session_core::store::StoreReport;
use tokio::time::Instant;

use crate::entropy::unique_name;
use crate::node::Node;
use crate::shared::Shared;

/// How a node and its workers are. Making it costs no call of the store.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// Whether requests should come to this node: it is not stopping, and has heard the log within
    /// [`Options::max_staleness`](crate::Options::max_staleness) or, where it may serve stale, within
    /// that limit.
    pub ready: bool,
    /// Whether the node's streams, or all of it, have been told to stop.
    pub stopping: bool,
    /// Whether the cache may answer right now.
    pub fresh: bool,
    /// Whether the store answers: false from its first call without an answer until none has been
    /// without one for 5 s. A read of the log that is given up before
    /// [`Options::store_timeout`](crate::Options::store_timeout) does not count while the log is heard.
    pub store_answers: bool,
    /// Until when the log has been heard, by the fleet's time.
    pub heard_at: Timestamp,
    /// How long ago that was, by the monotonic clock. In a healthy node at most
    /// [`Options::propagation_bound`](crate::Options::propagation_bound).
    pub log_lag: Duration,
    /// How far this node's wall clock is ahead of the store's, in seconds; below zero for behind. No
    /// decision goes by the wall clock.
    pub clock_skew: f64,
    /// How often this node's wall clock has jumped by more than a second since it started, or its machine
    /// has slept.
    pub clock_jumps: u64,
    /// Whether the store tells of other nodes' changes at once. If false, they are seen within the
    /// propagation bound.
    pub push_connected: bool,
    /// Whether a push is configured: the store supports it, and `push` is on in its options and the engine's.
    pub push_expected: bool,
    /// Sessions in the cache, those included that have to be read again.
    pub cached_sessions: usize,
    /// Sessions whose last accesses wait for their write-back.
    pub write_backs: usize,
    /// Sessions whose last accesses were given up because the store was away for too long, since the
    /// node started.
    pub dropped_write_backs: u64,
    /// Sessions that this node still has to end: begun for a caller who has gone, or replaced elsewhere.
    /// While there are 10,000, sign-ins answer [`Error::Unavailable`](crate::Error::Unavailable).
    pub take_backs: usize,
    /// What this node has done of the fleet's cleanup.
    pub cleanup: CleanupHealth,
    /// What the store said of itself when it was last asked: when the node started, after a cleanup, and
    /// every ten minutes. None where it could not say it.
    pub store: Option<StoreHealth>,
    /// The workers by name; as `store` what the store said is wrong with it, as `report` why it could not say
    /// it, and as `policies` that sign-ins meet one of a newer version.
    pub workers: BTreeMap<&'static str, WorkerHealth>,
}

/// What this node has done of the fleet's cleanup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CleanupHealth {
    /// Whether this node cleans up at all.
    pub enabled: bool,
    /// When this node last finished a cleanup in which nothing failed, by the fleet's time. None where it
    /// never has: another node of the fleet may have.
    pub last_run: Option<Timestamp>,
    /// How many sessions that one ended.
    pub ended: u64,
    /// Who cleans up.
    pub lease: CleanupLease,
}

/// Who holds the lease of the cleanup, as far as this node knows: it asks when its own turn comes, and a
/// lease lasts 30 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CleanupLease {
    /// No node, or this one has not asked lately.
    #[default]
    Unknown,
    /// This node.
    ThisNode,
    /// Another one.
    AnotherNode,
}

impl CleanupLease {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::ThisNode => "this_node",
            Self::AnotherNode => "another_node",
        }
    }
}

/// What the store has said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreHealth {
    /// When, by the fleet's time.
    pub at: Timestamp,
    /// What. It may name hosts and files.
    pub report: Arc<StoreReport>,
}

/// How one worker is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerHealth {
    /// How often it was restarted after a panic.
    pub restarts: u64,
    /// Why its last round failed, if it did.
    pub error: Option<String>,
}

impl Node {
    pub(crate) fn health(&self) -> Health {
        let shared = self.shared();
        let stopping = self.is_stopping();
        let board = shared.health.board();
        Health {
            ready: !stopping && !shared.is_cut_off(),
            stopping,
            fresh: shared.is_fresh(),
            store_answers: !shared.outage.is_on(),
            heard_at: shared.time.heard_at(),
            log_lag: shared.time.silence().unwrap_or_default(),
            clock_skew: shared.time.skew_micros() as f64 / 1e6,
            clock_jumps: shared.time.jumps(),
            push_connected: shared.pushes(),
            push_expected: shared.expects_pushes(),
            cached_sessions: shared.cache.len(),
            write_backs: shared.queue.len(),
            dropped_write_backs: shared.queue.dropped(),
            take_backs: shared.owed.len(),
            cleanup: board.cleanup(shared.options.cleanup.enabled),
            store: board.store.clone(),
            workers: board.workers.clone(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct HealthBoard(Mutex<Board>);

#[derive(Debug, Default)]
struct Board {
    workers: BTreeMap<&'static str, WorkerHealth>,
    store: Option<StoreHealth>,
    /// What this node's log has said of the store's problems.
    told: String,
    speaker: Option<String>,
    last_run: Option<(Timestamp, u64)>,
    /// Whether this node holds the lease, and until when that is known.
    lease: Option<(bool, Instant)>,
}

impl HealthBoard {
    pub(crate) fn note(&self, worker: &'static str, error: Option<String>) {
        self.board().workers.entry(worker).or_default().error = error;
    }

    pub(crate) fn restarted(&self, worker: &'static str) {
        self.board().workers.entry(worker).or_default().restarts += 1;
    }

    pub(crate) fn reported(&self, store: Option<StoreHealth>) {
        self.board().store = store;
    }

    /// This node's name among those that may tell of the store's problems.
    pub(crate) fn speaker(&self, shared: &Shared) -> String {
        self.board().speaker.get_or_insert_with(|| unique_name(shared.entropy.as_ref())).clone()
    }

    pub(crate) fn cleaned_up(&self, at: Timestamp, ended: u64) {
        self.board().last_run = Some((at, ended));
    }

    /// Notes who holds the cleanup's lease, for as long as it lasts.
    pub(crate) fn leased(&self, is_own: bool, for_: Duration) {
        self.board().lease = Some((is_own, Instant::now() + for_));
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    fn cleanup(&self, enabled: bool) -> CleanupHealth {
        let lease = match self.lease.filter(|(_, until)| *until > Instant::now()) {
            Some((true, _)) => CleanupLease::ThisNode,
            Some((false, _)) => CleanupLease::AnotherNode,
            None => CleanupLease::Unknown,
        };
        let (last_run, ended) = self.last_run.unzip();
        CleanupHealth { enabled, last_run, ended: ended.unwrap_or_default(), lease }
    }
}

/// Asks the store for its report now and then, so that health and metrics have it without a call.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    loop {
        tokio::select! {
            biased;
            () = stopping.stopped() => return,
            () = tokio::time::sleep(REPORT_PERIOD) => {}
        }
        // A shutdown waits for no report.
        tokio::select! {
            biased;
            () = stopping.stopped() => return,
            () = ask_store(&shared) => {}
        }
    }
}

/// Asks the store for its report. What is new of its problems goes to the log, of one node of the fleet.
pub(crate) async fn ask_store(shared: &Shared) {
    if let Some(problems) = read_report(shared).await {
        let speaks = !problems.is_empty() && speaks_for_the_fleet(shared).await;
        tell(shared, problems, speaks);
    }
}

/// As [`ask_store`], for a node that starts: it tells what it finds, also where another node has told it before.
pub(crate) async fn ask_store_at_start(shared: &Shared) {
    if let Some(problems) = read_report(shared).await {
        if !problems.is_empty() {
            // The others need not repeat it.
            speaks_for_the_fleet(shared).await;
        }
        tell(shared, problems, true);
    }
}

/// What is wrong with the store; none where it could not say.
async fn read_report(shared: &Shared) -> Option<String> {
    match shared.store_call("report", shared.store.report()).await {
        Ok(report) => {
            let problems = report.problems.join("; ");
            let store = StoreHealth { at: shared.now(), report: Arc::new(report) };
            shared.health.reported(Some(store));
            shared.health.note("report", None);
            let error = (!problems.is_empty()).then(|| problems.clone());
            shared.health.note("store", error);
            Some(problems)
        }
        Err(error) => {
            shared.health.reported(None);
            shared.health.note("report", Some(error.to_string()));
            shared.health.note("store", None);
            None
        }
    }
}

/// Whether this node is the one that tells of the store's problems: it holds a lease for that, and renews it
/// with each report as long as there are some. Where the lease cannot be had for a fault, each node tells.
async fn speaks_for_the_fleet(shared: &Shared) -> bool {
    let speaker = shared.health.speaker(shared);
    let lease = shared.store.lease(LEASE, &speaker, LEASE_TTL);
    shared.store_call("lease", lease).await.unwrap_or(true)
}

fn tell(shared: &Shared, problems: String, speaks: bool) {
    let mut board = shared.health.board();
    if problems.is_empty() {
        if !std::mem::take(&mut board.told).is_empty() {
            tracing::info!("the store needs no more attention");
        }
    } else if speaks && problems != board.told {
        tracing::warn!(%problems, "the store needs attention");
        board.told = problems;
    }
}

const REPORT_PERIOD: Duration = Duration::from_secs(600);
const LEASE: &str = "problems";
/// The node that holds it may miss a report.
const LEASE_TTL: Duration = REPORT_PERIOD.saturating_mul(3);
