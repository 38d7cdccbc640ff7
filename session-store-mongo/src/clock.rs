//! The server's clock, as this node knows it between two reads of the log.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use session_core::Timestamp;

/// What the server's clock was when it was heard last, which this node carries on by its monotonic
/// clock.
#[derive(Debug)]
pub(crate) struct KnownClock(Mutex<(Timestamp, Instant)>);

impl KnownClock {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self(Mutex::new((now, Instant::now())))
    }

    /// Notes the server's clock as of now.
    pub(crate) fn heard(&self, now: Timestamp) {
        *self.last() = (now, Instant::now());
    }

    pub(crate) fn now(&self) -> Timestamp {
        let (heard, since) = *self.last();
        heard.plus(since.elapsed())
    }

    fn last(&self) -> MutexGuard<'_, (Timestamp, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_goes_on_from_what_was_heard_last() {
        let at = |seconds| Timestamp::EPOCH.plus(Duration::from_secs(seconds));
        let clock = KnownClock::new(at(7));
        assert!((at(7)..at(67)).contains(&clock.now()));
        clock.heard(at(700));
        assert!((at(700)..at(760)).contains(&clock.now()));
    }
}
