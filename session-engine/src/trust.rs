//! Whether the cache may answer, and how long uses may be on their way.

use std::time::Duration;

use session_core::Timestamp;
use session_core::planted::{self, Defect};

use crate::options::WhenStale;
use crate::shared::Shared;

impl Shared {
    /// The fleet's time, if the cache may answer.
    pub(crate) fn fresh_now(&self) -> Option<Timestamp> {
        if planted::is(Defect::StaleTrusted) {
            return self.time.trusted(Duration::MAX);
        }
        if planted::is(Defect::StoppedTrusted) {
            return self.time.trusted(self.options.max_staleness);
        }
        self.time.followed(self.options.max_staleness)
    }

    /// Whether the cache may answer.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh_now().is_some()
    }

    /// How long it takes yet until no use is on its way that a node has accepted while the store was away,
    /// where none takes longer than `lag` once it is back.
    pub(crate) fn unsettled_for(&self, lag: Duration) -> Duration {
        if planted::is(Defect::OutageForgotten) {
            return Duration::ZERO;
        }
        lag.saturating_sub(self.time.since_break())
    }

    /// How long a use near the idle timeout may be on its way from another node. There is no end to it while
    /// the store is away, and shortly after that.
    pub(crate) fn in_flight(&self) -> Duration {
        self.settled_or_ever(self.options.in_flight())
    }

    /// As [`Shared::in_flight`], for any use.
    pub(crate) fn max_lag(&self) -> Duration {
        self.settled_or_ever(self.options.max_lag())
    }

    fn settled_or_ever(&self, lag: Duration) -> Duration {
        if self.unsettled_for(lag).is_zero() { lag } else { Duration::MAX }
    }

    /// Whether the cache may answer although the log is silent and the store is away.
    pub(crate) fn may_serve_stale(&self) -> bool {
        self.stale_limit().is_some_and(|limit| self.time.trusted(limit).is_some())
    }

    /// Whether the log has been silent for longer than the cache may answer in any case. A wall clock that
    /// jumps is no reason: the next read of the log is near.
    pub(crate) fn is_cut_off(&self) -> bool {
        let limit = self.stale_limit().unwrap_or_default().max(self.options.max_staleness);
        self.time.silence().is_none_or(|silence| silence > limit)
    }

    fn stale_limit(&self) -> Option<Duration> {
        match self.options.when_stale {
            WhenStale::FailClosed => None,
            WhenStale::ServeStale(limit) => Some(limit),
        }
    }
}
