//! Which sessions the background worker may end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checker::{Timeouts, WriteBack};
use crate::field::InvalidField;
use crate::store::EndedBatch;
use crate::time::{self, Timestamp};

/// How the background worker cleans up.
///
/// ```
/// use std::time::Duration;
/// use session_core::cleanup::Cleanup;
///
/// let cleanup = Cleanup::default().with_inactive_for(Duration::from_secs(90 * 24 * 3600));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Cleanup {
    /// Whether it runs at all. Default true.
    pub enabled: bool,
    /// Time between two runs, in seconds. Default one hour.
    #[serde(with = "time::seconds")]
    pub period: Duration,
    /// Sessions unused for this long are ended, in seconds. Default 30 days.
    #[serde(with = "time::seconds")]
    pub inactive_for: Duration,
    /// The most sessions ended in one statement, 1 to [`EndedBatch::MAX_LIMIT`]. Default 500.
    pub batch: u32,
    /// Pause between two batches, in seconds. Default 0.05.
    #[serde(with = "time::seconds")]
    pub pause: Duration,
    /// How long log entries are kept, in seconds. Default one day. A node that has not read the
    /// log for longer than this drops its cache.
    #[serde(with = "time::seconds")]
    pub log_retention: Duration,
}

impl Default for Cleanup {
    fn default() -> Self {
        Self {
            enabled: true,
            period: Duration::from_secs(3600),
            inactive_for: Duration::from_secs(30 * 24 * 3600),
            batch: 500,
            pause: Duration::from_millis(50),
            log_retention: Duration::from_secs(24 * 3600),
        }
    }
}

/// Which sessions a sweep ends; the store checks it again in the statement that ends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepRule {
    /// Those last accessed before this.
    pub inactive_before: Timestamp,
    /// Those whose absolute expiry is at or before this.
    pub expired_by: Timestamp,
}

impl SweepRule {
    /// Whether the rule ends a session.
    pub fn covers(&self, last_accessed: Timestamp, absolute_expiry: Option<Timestamp>) -> bool {
        last_accessed < self.inactive_before
            || absolute_expiry.is_some_and(|expiry| expiry <= self.expired_by)
    }
}

impl Cleanup {
    /// Sets [`Cleanup::enabled`].
    #[must_use]
    pub const fn with_enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Sets [`Cleanup::period`].
    #[must_use]
    pub const fn with_period(mut self, period: Duration) -> Self {
        self.period = period;
        self
    }

    /// Sets [`Cleanup::inactive_for`].
    #[must_use]
    pub const fn with_inactive_for(mut self, inactive_for: Duration) -> Self {
        self.inactive_for = inactive_for;
        self
    }

    /// Sets [`Cleanup::batch`].
    #[must_use]
    pub const fn with_batch(mut self, batch: u32) -> Self {
        self.batch = batch;
        self
    }

    /// Sets [`Cleanup::pause`].
    #[must_use]
    pub const fn with_pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Sets [`Cleanup::log_retention`].
    #[must_use]
    pub const fn with_log_retention(mut self, log_retention: Duration) -> Self {
        self.log_retention = log_retention;
        self
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`InvalidField`] naming the option and its limit.
    pub fn validate(&self) -> Result<(), InvalidField> {
        if !(1..=EndedBatch::MAX_LIMIT).contains(&self.batch) {
            let most = EndedBatch::MAX_LIMIT.into();
            return Err(InvalidField::out_of_range("cleanup.batch", 1, most));
        }
        if self.period.is_zero() {
            return Err(InvalidField::malformed("cleanup.period", "longer than zero"));
        }
        Ok(())
    }

    /// The rule of a run at `now`.
    ///
    /// Accesses that some node has not written back yet count as activity: the rule leaves out
    /// whatever is within the longest write-back lag and a clock difference of
    /// [`MAX_CLOCK_SKEW`] of the line.
    pub fn rule(&self, timeouts: &Timeouts, write_back: &WriteBack, now: Timestamp) -> SweepRule {
        let unused = timeouts.idle.map_or(self.inactive_for, |idle| idle.min(self.inactive_for));
        let by = now.minus(MAX_CLOCK_SKEW);
        SweepRule { inactive_before: by.minus(unused + write_back.max_lag()), expired_by: by }
    }
}

/// How far apart the clocks of two nodes may be.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(5);
