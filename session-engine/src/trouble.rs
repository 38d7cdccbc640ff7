//! Says once that something fails, and once that it works again, however many calls meet it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Whether something fails. It works again when a call succeeds and none has failed for a while: where
/// some calls fail and others do not, that is one trouble and not many.
#[derive(Debug)]
pub struct Trouble {
    is_on: AtomicBool,
    failing: Mutex<Option<Failing>>,
    quiet: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    last: Instant,
    calls: u64,
}

/// A trouble that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TroubleOver {
    /// From the first failure to the last.
    pub lasted: Duration,
    /// How many calls failed.
    pub calls: u64,
}

impl Trouble {
    /// No trouble. One is over when nothing has failed for `quiet`.
    pub const fn new(quiet: Duration) -> Self {
        Self { is_on: AtomicBool::new(false), failing: Mutex::new(None), quiet }
    }

    /// Notes a failure. True for the first one, which is to be told.
    pub fn begins(&self) -> bool {
        let mut failing = self.failing();
        self.is_on.store(true, Ordering::Release);
        let now = Instant::now();
        match failing.as_mut() {
            Some(failing) => {
                failing.last = now;
                failing.calls += 1;
                false
            }
            None => {
                *failing = Some(Failing { since: now, last: now, calls: 1 });
                true
            }
        }
    }

    /// Notes a success. Returns what is over, once. Without a trouble it costs one atomic read.
    pub fn ends(&self) -> Option<TroubleOver> {
        if !self.is_on() {
            return None;
        }
        let mut failing = self.failing();
        let over = failing.take_if(|failing| failing.last.elapsed() >= self.quiet)?;
        self.is_on.store(false, Ordering::Release);
        Some(TroubleOver { lasted: over.last - over.since, calls: over.calls })
    }

    /// Whether something fails.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    fn failing(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_trouble_is_told_once_and_is_over_once() {
        let trouble = Trouble::new(Duration::from_secs(5));
        assert_eq!(trouble.ends(), None);
        assert!(trouble.begins() && trouble.is_on());
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(4)).await;
            assert_eq!(trouble.ends(), None, "the last failure was a moment ago");
            assert!(!trouble.begins());
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(trouble.ends(), Some(TroubleOver { lasted: Duration::from_secs(12), calls: 4 }));
        assert!(!trouble.is_on());
        assert_eq!(trouble.ends(), None);
        assert!(trouble.begins(), "another one");
    }
}
