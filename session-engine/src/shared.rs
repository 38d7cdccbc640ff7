//! What all parts of a node share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use session_core::{FleetKey, Store, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};

use crate::cache::Cache;
use crate::claims::ClaimsProvider;
use crate::entropy::Entropy;
use crate::follower::Position;
use crate::health::HealthBoard;
use crate::load::Found;
use crate::meter::Checks;
use crate::notice::Notices;
use crate::options::Options;
use crate::paces::Paces;
use crate::queue::Queue;
use crate::reads::Reads;
use crate::take_back::Owed;
use crate::time::FleetTime;
use crate::trouble::Trouble;
use crate::watchers::Watchers;

pub(crate) struct Shared {
    /// Where the engine was started.
    pub(crate) runtime: Handle,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) options: Arc<Options>,
    pub(crate) time: FleetTime,
    /// The secret that all nodes share, for the check in every token.
    pub(crate) fleet_key: FleetKey,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) claims: Option<Arc<dyn ClaimsProvider>>,
    pub(crate) cache: Cache,
    pub(crate) reads: Reads<Found>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) paces: Paces,
    pub(crate) notices: Notices,
    pub(crate) watchers: Watchers,
    pub(crate) health: HealthBoard,
    /// What checks have answered, for the metrics.
    pub(crate) checks: Checks,
    /// Whether calls of the store get no answer.
    pub(crate) outage: Trouble,
    /// Whether the store answers with defects.
    pub(crate) defect: Trouble,
    /// Whether the claims provider fails.
    pub(crate) claims_fail: Trouble,
    /// Whether policies are of a newer version.
    pub(crate) newer_policies: Trouble,
    /// Where this node is in the log.
    pub(crate) position: tokio::sync::Mutex<Position>,
    /// Whether the last read of the log failed.
    pub(crate) unheard: AtomicBool,
    /// Whether the node has not heard the log for so long that it answers nothing.
    pub(crate) cut_off: watch::Sender<bool>,
    /// Limits the reads of sessions that requests wait for.
    pub(crate) loads_under_way: Semaphore,
    /// Limits the calls of the claims provider that come with these reads.
    pub(crate) claims_under_way: Semaphore,
    /// Limits the reads of sessions for open connections.
    pub(crate) waits_under_way: Semaphore,
    /// Asks the follower to read the log now.
    pub(crate) poke: Notify,
    /// Sessions that this node still has to end.
    pub(crate) owed: Owed,
    /// One lock per group of users: sign-ins of one user take turns within a node.
    pub(crate) turns: Vec<tokio::sync::Mutex<()>>,
    /// Stops the workers.
    pub(crate) stop: watch::Sender<bool>,
    /// Stops what waits for the end of a session.
    pub(crate) stop_waits: watch::Sender<bool>,
}

impl Shared {
    /// The fleet's time.
    pub(crate) fn now(&self) -> Timestamp {
        self.time.now()
    }
}
