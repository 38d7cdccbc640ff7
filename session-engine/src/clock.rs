//! Time, injected: nothing else in this crate reads a wall clock.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use session_core::Timestamp;

/// The node's wall clock.
///
/// No stamp and no timeout goes by it: the node learns the store's clock with every read of the log
/// and goes on from there by a monotonic clock (tokio's, which a test can pause). The wall clock is a
/// second witness: where it jumps, the node reads the log before it answers from its cache again, and a
/// difference from the store's clock is told in
/// [`SessionManager::health`](crate::SessionManager::health).
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let elapsed = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Timestamp::EPOCH.plus(elapsed)
    }
}

/// Tokio's clock from a fixed start: under `tokio::time::pause` the whole engine is on one
/// simulated time.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: Timestamp,
    begun: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that shows `start` now.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, begun: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.start.plus(self.begun.elapsed())
    }
}

/// A clock that stands still until it is moved, for tests of applications. Clones share one time.
///
/// Give it to the node and to its store; the node learns the new time with the next read of the log,
/// which it makes before the next answer if the clock has jumped by more than
/// [`Options::max_staleness`](crate::Options::max_staleness).
///
/// ```
/// use std::time::Duration;
/// use session_core::Timestamp;
/// use session_engine::clock::{Clock, ManualClock};
///
/// let clock = ManualClock::starting_at(Timestamp::EPOCH);
/// let engines = clock.clone();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(engines.now(), Timestamp::from_micros(60_000_000));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows this time.
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(start.as_micros())))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let later = |micros| Some(Timestamp::from_micros(micros).plus(by).as_micros());
        // The closure never refuses.
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later);
    }

    /// Sets the clock, forward or back.
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}
