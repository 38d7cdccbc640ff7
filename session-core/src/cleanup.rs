//! Which sessions the background worker may end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::field::InvalidField;
use crate::store::EndedBatch;
use crate::time;

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
    /// Sessions unused for this long are ended, in seconds, unless a session has an idle timeout of its
    /// own. Default 30 days.
    #[serde(with = "time::seconds")]
    pub inactive_for: Duration,
    /// The most sessions ended or records deleted in one call, 1 to [`EndedBatch::MAX_LIMIT`]. Default 500. A
    /// node takes fewer where a call would take longer than [`Pace::AIM`].
    ///
    /// [`Pace::AIM`]: crate::pace::Pace::AIM
    pub batch: u32,
    /// The least pause between two calls, in seconds. Default zero. After each call a node waits for a
    /// quarter of the time that it took ([`Pace::pause`]), or for this, whichever is longer.
    ///
    /// [`Pace::pause`]: crate::pace::Pace::pause
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
            pause: Duration::ZERO,
            log_retention: Duration::from_secs(24 * 3600),
        }
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
}

/// How far the store's clock and the one that a node has learned from it may be apart.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(5);
/// A session whose token was never presented ends after this time.
pub const UNCLAIMED_FOR: Duration = Duration::from_secs(24 * 3600);
