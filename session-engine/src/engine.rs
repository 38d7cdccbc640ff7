//! Starts and stops everything with one handle.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use session_core::planted::{self, Defect};
use session_core::store::{Cursor, Entries, Needs, Touch};
use session_core::{FleetKey, Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cache::Cache;
use crate::claims::ClaimsProvider;
use crate::clock::{Clock, SystemClock};
use crate::entropy::{Entropy, SystemEntropy, random};
use crate::error::Error;
use crate::follower::Position;
use crate::health::{Health, HealthBoard};
use crate::manager::SessionManager;
use crate::meter::Checks;
use crate::notice::Notices;
use crate::options::Options;
use crate::paces::Paces;
use crate::queue::Queue;
use crate::reads::Reads;
use crate::shared::Shared;
use crate::take_back::Owed;
use crate::time::FleetTime;
use crate::trouble::Trouble;
use crate::watchers::Watchers;
use crate::{follower, health, meter, sweeper, take_back, write_back};

/// A running node: owns the workers, hands out [`SessionManager`]s.
///
/// Dropping it stops the streams at once and the workers in the background; [`Engine::shutdown`]
/// also waits until the last accesses are written back.
#[derive(Debug)]
pub struct Engine {
    manager: SessionManager,
    workers: Vec<JoinHandle<()>>,
}

/// What an engine is made of besides its store and options.
///
/// ```
/// use session_core::Timestamp;
/// use session_engine::Parts;
/// use session_engine::clock::ManualClock;
///
/// let clock = ManualClock::starting_at(Timestamp::EPOCH);
/// let parts = Parts::default().with_clock(clock.clone());
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Parts {
    /// The wall clock. Default the operating system's.
    pub clock: Arc<dyn Clock>,
    /// The source of ids and tokens. Default the operating system's.
    pub entropy: Arc<dyn Entropy>,
    /// Supplies the application's claims. Without it, claims are null.
    pub claims: Option<Arc<dyn ClaimsProvider>>,
}

impl Parts {
    /// Sets [`Parts::clock`].
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Sets [`Parts::entropy`].
    #[must_use]
    pub fn with_entropy(self, entropy: impl Entropy) -> Self {
        Self { entropy: Arc::new(entropy), ..self }
    }

    /// Sets [`Parts::claims`].
    #[must_use]
    pub fn with_claims(self, claims: impl ClaimsProvider) -> Self {
        Self { claims: Some(Arc::new(claims)), ..self }
    }
}

impl Default for Parts {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy), claims: None }
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("clock", &self.clock)
            .field("entropy", &self.entropy)
            .field("has_claims", &self.claims.is_some())
            .finish()
    }
}

impl Engine {
    /// Starts a node on a store, on the current tokio runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an option out of bounds, [`Error::Unavailable`] when the store's
    /// log cannot be read.
    pub async fn start(store: impl Store, options: Options) -> Result<Self, Error> {
        Self::start_with(Arc::new(store), options, Parts::default()).await
    }

    /// Starts a node with its own clock, randomness or claims.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn start_with(
        store: Arc<dyn Store>,
        mut options: Options,
        parts: Parts,
    ) -> Result<Self, Error> {
        if planted::is(Defect::MaxDelayDoubled) {
            options.write_back.max_delay *= 2;
        }
        options.validate()?;
        store.configure(&Needs {
            history: options.history_keep(store.as_ref()),
            max_staleness: options.max_staleness,
        });
        let proposed = FleetKey::from_bytes(random(parts.entropy.as_ref()));
        let fleet_key = tokio::time::timeout(options.store_timeout, store.fleet_key(&proposed))
            .await
            .map_err(|_| StoreError::timed_out("fleet_key", options.store_timeout))??;
        let shared = Arc::new(shared(store, options, parts, fleet_key));
        let begun = shared.time.moment();
        let log =
            shared.store_call("log_since", shared.store.log_since(None, Entries::All, 1)).await?;
        shared.time.learn(begun, log.clock);
        shared.time.heard(begun, shared.next_read());
        health::ask_store_at_start(&shared).await;
        *shared.position.lock().await = Position::new(log.next, shared.log_patience());
        let workers = vec![
            supervise("follower", &shared, follower::run),
            supervise("write-back", &shared, write_back::run),
            supervise("cleanup", &shared, sweeper::run),
            supervise("take-back", &shared, take_back::run),
            supervise("report", &shared, health::run),
            #[cfg(feature = "metrics")]
            supervise("metrics", &shared, meter::run),
        ];
        Ok(Self { manager: SessionManager::new(shared), workers })
    }

    /// The node's face towards requests and admin tools.
    pub const fn sessions(&self) -> &SessionManager {
        &self.manager
    }

    /// How the node is: see [`SessionManager::health`].
    pub fn health(&self) -> Health {
        self.manager.health()
    }

    /// Stops the streams and the workers, and waits until what is unstored is written back.
    ///
    /// A server that waits for open responses before it calls this has to call
    /// [`SessionManager::stop_streams`] first: a response that follows a stream ends with it.
    ///
    /// A store that hangs is waited for twice [`Options::store_timeout`]: for the call that is under way, and
    /// for the last one; and twice as long where sessions have to be ended.
    pub async fn shutdown(mut self) {
        // It goes on where the caller goes away.
        let _ = self.close().await;
    }

    /// Stops everything. What is unstored is written once the workers have ended: what they had taken and
    /// could not write, they have put back by then.
    fn close(&mut self) -> JoinHandle<()> {
        self.manager.stop_streams();
        let (node, workers) = (self.manager.node().clone(), std::mem::take(&mut self.workers));
        let runtime = node.shared().runtime.clone();
        node.shared().stop.send_replace(true);
        runtime.spawn(async move {
            for worker in workers {
                // A supervisor ends only by returning.
                let _ = worker.await;
            }
            // What a sign-in of the last moment has left ends beside it: neither waits for the other.
            tokio::join!(write_back::last_flush(node.shared()), take_back::last(&node));
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.workers.is_empty() {
            drop(self.close());
        }
    }
}

fn shared(store: Arc<dyn Store>, options: Options, parts: Parts, fleet_key: FleetKey) -> Shared {
    // What a small cache lets go of in one flush interval finds room.
    let capacity = options.cache_capacity.saturating_mul(2).max(Touch::MAX_BATCH);
    let queue = Arc::new(Queue::new(capacity));
    Shared {
        runtime: Handle::current(),
        store,
        time: FleetTime::new(parts.clock, options.most_silence()),
        fleet_key,
        entropy: parts.entropy,
        claims: parts.claims,
        cache: Cache::new(&options, Arc::clone(&queue)),
        reads: Reads::default(),
        queue,
        paces: Paces::default(),
        notices: Notices::new(),
        watchers: Watchers::default(),
        health: HealthBoard::default(),
        checks: Checks::default(),
        outage: Trouble::new(QUIET),
        defect: Trouble::new(DEFECT_QUIET),
        claims_fail: Trouble::new(QUIET),
        newer_policies: Trouble::new(DEFECT_QUIET),
        // The first read of the log sets it.
        position: Mutex::new(Position::new(Cursor(Vec::new()), options.store_timeout)),
        unheard: AtomicBool::new(false),
        cut_off: watch::Sender::new(false),
        loads_under_way: Semaphore::new(options.max_loads),
        claims_under_way: Semaphore::new(options.max_loads.saturating_mul(CLAIMS_PER_LOAD)),
        waits_under_way: Semaphore::new(WAITS_UNDER_WAY),
        poke: Notify::new(),
        owed: Owed::default(),
        turns: std::iter::repeat_with(Mutex::default).take(TURNS).collect(),
        stop: watch::Sender::new(false),
        stop_waits: watch::Sender::new(false),
        options: Arc::new(options),
    }
}

/// Keeps a worker running: a panic is logged, counted and followed by a new start, unless the node stops.
fn supervise<F>(
    name: &'static str,
    shared: &Arc<Shared>,
    worker: impl Fn(Arc<Shared>) -> F + Send + 'static,
) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        shared.health.note(name, None);
        let mut last: Option<Instant> = None;
        while let Err(error) = tokio::spawn(worker(Arc::clone(&shared))).await {
            // One that panics again and again is told once.
            if last.replace(Instant::now()).is_none_or(|last| last.elapsed() > DEFECT_QUIET) {
                tracing::error!(worker = name, %error, "a worker panicked and is started again");
            }
            shared.health.restarted(name);
            meter::restarted(name);
            if *shared.stop.borrow() {
                break;
            }
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    })
}

/// An outage is over when no call has failed for so long.
const QUIET: Duration = Duration::from_secs(5);
/// As [`QUIET`], for a defect: a single record that cannot be read is asked for now and then, and so is a
/// policy of a newer version.
const DEFECT_QUIET: Duration = Duration::from_secs(300);
/// Calls of the claims provider, for each read of a session that may be under way: one that is slow for some
/// sessions holds up the others less.
const CLAIMS_PER_LOAD: usize = 4;
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// Reads of sessions for open connections, at a time.
const WAITS_UNDER_WAY: usize = 4;
/// Groups of users whose sign-ins take turns.
const TURNS: usize = 256;
