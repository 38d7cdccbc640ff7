//! Time and randomness, injected: nothing else in this crate reads a clock or draws a number.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use session_core::{SessionId, Timestamp, Token};

/// The node's wall clock.
///
/// One clock serves time stamps, timeouts and staleness. A jump forward makes a node distrust
/// its cache and ask the store; a jump back of less than `max_staleness` may stretch that trust
/// by as much once. Waiting is tokio's and can be paused by a test.
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
/// The engine's workers wait on tokio's timers, which this clock does not move. A jump of more
/// than [`Options::max_staleness`](crate::Options::max_staleness) makes the node ask the store
/// until it has read the log again.
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

/// A source of random bytes, fit for secrets.
pub trait Entropy: Debug + Send + Sync + 'static {
    /// Fills the buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    /// # Panics
    /// When the operating system cannot give random bytes: no session may begin then.
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the operating system gives random bytes");
    }
}

/// A token for a new session.
pub(crate) fn new_token(id: SessionId, entropy: &dyn Entropy) -> Token {
    Token::new(id, random(entropy), random(entropy))
}

/// Random bytes as an array.
pub(crate) fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}
