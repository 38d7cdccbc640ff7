//! What a fleet costs, as a function of its settings: the model behind `docs/scale.md`.
//!
//! Every number comes from an option's default, from a constant of the engine, or from
//! [what was measured](measured). `tests/fleet.rs` runs the engine on simulated time and compares it
//! with [`Fleet::follower`] and [`Fleet::write_back`]. The tests of [`page`] compare the tables of the
//! page with these functions, so that a changed default fails them.

pub mod measured;
pub mod page;
pub mod relay;

use std::time::Duration;

use session_core::cleanup::Cleanup;
use session_core::pace::Pace;
use session_core::store::{LogPage, Touch};
use session_engine::Options;

use self::measured::Cost;

/// A deployment: its settings, and how it is used. Rates are per second.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The settings of every node.
    pub options: Options,
    /// How many nodes there are.
    pub nodes: f64,
    /// Sessions in the store.
    pub sessions: f64,
    /// Sessions in use, each of them all the time.
    pub active: f64,
    /// Requests of all users.
    pub requests: f64,
    /// How many nodes see the requests of one session: 1 where the load balancer sends a session to one
    /// node.
    pub homes: f64,
    /// Whether the store pushes.
    pub pushes: bool,
    /// Changes besides sign-ins, ends and renewals, each with one log entry that invalidates.
    pub other_changes: f64,
}

impl Fleet {
    /// The deployment of the page: 1,000 nodes, 100,000,000 sessions, 1,000,000 requests per second, and
    /// tokens that are renewed as in the presets for AAL2 and AAL3.
    pub fn of_the_page() -> Self {
        let renew_after = Options::aal2().renew_after;
        Self {
            options: Options::default().with_renew_after(renew_after),
            nodes: 1_000.0,
            sessions: 1e8,
            active: 6e6,
            requests: 1e6,
            homes: 1.0,
            pushes: false,
            other_changes: 0.0,
        }
    }

    /// Sign-ins; as many sessions end. Sessions live until their absolute timeout.
    pub fn sign_ins(&self) -> f64 {
        self.options.timeouts.absolute.map_or(0.0, |life| self.sessions / life.as_secs_f64())
    }

    /// Tokens that are renewed.
    pub fn renewals(&self) -> f64 {
        self.options.renew_after.map_or(0.0, |after| self.active / after.as_secs_f64())
    }

    /// Log entries that make a cached session wrong: ends, and two for each renewal.
    pub fn invalidations(&self) -> f64 {
        self.sign_ins() + 2.0 * self.renewals() + self.other_changes
    }

    /// All log entries.
    pub fn entries(&self) -> f64 {
        self.sign_ins() + self.invalidations()
    }

    /// What one node's follower does.
    pub fn follower(&self) -> Follower {
        // A node follows its own changes at once, those of others where the store pushes.
        let heard = if self.pushes { self.entries() } else { self.entries() / self.nodes };
        let reads = 1.0 / period(self.interval(), heard);
        let full = (self.entries() / reads / f64::from(LogPage::MAX_LIMIT)).floor();
        Follower { reads, statements: reads * (1.0 + full), entries: self.invalidations() }
    }

    /// The mean time between two reads of the log where no hint comes, in seconds.
    pub fn interval(&self) -> f64 {
        let reads = if self.pushes { READS_WITH_PUSH } else { READS_WITHOUT_PUSH };
        self.options.propagation_bound.as_secs_f64() / reads * MEAN_SHARE
    }

    /// What one node writes back.
    pub fn write_back(&self) -> WriteBack {
        let rule = &self.options.write_back;
        let delay = self.options.timeouts.idle.map_or(rule.max_delay, |idle| {
            // As the core does, so that no other node takes the session for idle.
            rule.max_delay.min(idle / 4)
        });
        // The accesses that one write-back covers.
        let covered = (delay.as_secs_f64() / self.gap()).floor() + 1.0;
        let sessions = self.requests / self.nodes / covered.min(f64::from(rule.every_hits));
        let flushes = 1.0 / rule.flush_interval.as_secs_f64();
        let full = (sessions / flushes / Touch::MAX_BATCH as f64).floor();
        // Arrivals are independent: a flush finds nothing with the probability e^-n.
        let some = 1.0 - (-sessions / flushes).exp();
        WriteBack { sessions, calls: flushes * (full + some) }
    }

    /// What one node reads because its cache does not have it, or no longer.
    pub fn loads(&self) -> Loads {
        let requests = self.requests / self.nodes;
        let seen = self.active * self.homes / self.nodes;
        let held = (self.options.cache_capacity as f64 / seen).min(1.0);
        // A session that has changed is read by its next request on each node that has it.
        let changes = (self.invalidations() - self.sign_ins()) / self.active;
        let changed = 1.0 - (-changes * self.gap()).exp();
        Loads {
            misses: requests * (1.0 - held),
            again: requests * held * changed,
            // A renewal reads the record before each of its two commits.
            renewed: 2.0 * self.renewals() / self.nodes,
        }
    }

    /// Between two requests of one session on one node, in seconds.
    fn gap(&self) -> f64 {
        self.active * self.homes / self.requests
    }

    /// How the cleanup keeps up.
    pub fn cleanup(&self, cost: &Cost) -> CleanupCost {
        let Cleanup { period, log_retention, .. } = self.options.cleanup;
        CleanupCost {
            runs: self.nodes.min(period.as_secs_f64() / LEASE.as_secs_f64()),
            trimmed: self.cleaned(cost.trim, cost.lease),
            kept: self.entries() * log_retention.as_secs_f64(),
            most: self.entries() * (log_retention + period).as_secs_f64(),
            sweep: self.sign_ins() * period.as_secs_f64() / self.cleaned(cost.sweep, cost.lease),
        }
    }

    /// Records per second of a run whose calls for 500 take this long. A call is as large as it may be without
    /// taking too long, and followed by a pause and a renewal of the lease.
    fn cleaned(&self, of_500: f64, lease: f64) -> f64 {
        let Cleanup { batch, pause, .. } = self.options.cleanup;
        let record = of_500 / 500.0;
        let size = (Pace::AIM.as_secs_f64() / record).min(f64::from(batch));
        let call = Duration::from_secs_f64(size * record);
        let call = call + Pace::pause(call).max(pause);
        size / (call.as_secs_f64() + lease)
    }

    /// Bytes of the ends that one node remembers, once it has heard of as many as it may.
    pub fn ends_bytes(&self) -> f64 {
        self.options.negative_capacity as f64 * measured::REMEMBERED_END
    }

    /// Bytes of the ended sessions that a store keeps, each as one that lives.
    pub fn history_bytes(&self, cost: &Cost) -> f64 {
        self.sign_ins() * cost.history * cost.session
    }

    /// Bytes of one node's cache.
    pub fn cache_bytes(&self) -> f64 {
        let seen = self.sessions.min(self.active * self.homes / self.nodes);
        seen.min(self.options.cache_capacity as f64) * measured::CACHED_SESSION
    }
}

/// What one node's follower does per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Follower {
    /// Reads to the end of the log.
    pub reads: f64,
    /// Calls of `log_since`: a read takes one for each page of 1,000.
    pub statements: f64,
    /// Entries that come back.
    pub entries: f64,
}

/// What one node writes back per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WriteBack {
    /// Sessions.
    pub sessions: f64,
    /// Calls of `touch`.
    pub calls: f64,
}

/// What one node reads per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loads {
    /// Sessions that are not in the cache.
    pub misses: f64,
    /// Sessions that were invalidated.
    pub again: f64,
    /// Records that a renewal reads.
    pub renewed: f64,
}

impl Loads {
    /// All of them.
    pub const fn all(self) -> f64 {
        self.misses + self.again + self.renewed
    }
}

/// How the cleanup keeps up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanupCost {
    /// Runs of the whole fleet in a period, at most.
    pub runs: f64,
    /// Log entries that one run trims per second.
    pub trimmed: f64,
    /// Log entries that are younger than the retention.
    pub kept: f64,
    /// Log entries where the cleanup runs once in its period, just before it does.
    pub most: f64,
    /// Seconds that a run takes to end what has expired within one period.
    pub sweep: f64,
}

/// The mean time between two reads of a follower, in seconds. Hints come at random, `hints` of them per
/// second; one that comes during the pause after a read is followed when the pause is over.
fn period(interval: f64, hints: f64) -> f64 {
    let pause = LEAST_PAUSE.as_secs_f64();
    if hints == 0.0 {
        return interval;
    }
    let none_in_pause = (-hints * pause).exp();
    let wait = (1.0 - (-hints * (interval - pause)).exp()) / hints;
    pause + none_in_pause * wait
}

/// `session-engine/src/follower.rs`: reads in a propagation bound.
const READS_WITH_PUSH: f64 = 2.0;
const READS_WITHOUT_PUSH: f64 = 4.0;
/// The same: an interval is 0.9 to 1 times its share of the bound, at random.
const MEAN_SHARE: f64 = 0.95;
/// The same: the pause between two reads that hints ask for.
pub const LEAST_PAUSE: Duration = Duration::from_millis(5);
/// `session-engine/src/sweeper.rs`: how long a run of the cleanup keeps others away after its end.
pub const LEASE: Duration = Duration::from_secs(30);
