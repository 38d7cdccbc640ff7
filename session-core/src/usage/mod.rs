//! Whether a session may still be used, and when its last access is written back.

mod activity;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::activity::{AccessEffect, Activity, Unstored};
use crate::cleanup::{Cleanup, MAX_CLOCK_SKEW, UNCLAIMED_FOR};
use crate::field::InvalidField;
use crate::planted::{self, Defect};
use crate::session::Session;
use crate::time::{self, Timestamp};

/// How long a session may live.
///
/// The defaults are [`Timeouts::aal1`].
///
/// ```
/// use std::time::Duration;
/// use session_core::usage::Timeouts;
///
/// let timeouts = Timeouts::default().with_idle(Duration::from_secs(3600)).with_absolute(None);
/// assert_eq!(timeouts.idle, Some(Duration::from_secs(3600)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Timeouts {
    /// Refused after this long unused, in seconds; none switches it off, in a configuration file zero.
    /// Default 14 days.
    #[serde(with = "time::seconds_or_off")]
    pub idle: Option<Duration>,
    /// Refused this long after the sign-in or the last re-authentication, in use or not, in seconds; none
    /// switches it off, in a configuration file zero. Default 30 days.
    #[serde(with = "time::seconds_or_off")]
    pub absolute: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::aal1()
    }
}

impl Timeouts {
    /// NIST SP 800-63B-4, AAL1: 30 days in all. The standard asks for no idle timeout; this is 14
    /// days.
    pub const fn aal1() -> Self {
        Self::of(14 * DAY, 30 * DAY)
    }

    /// NIST SP 800-63B-4, AAL2: one hour idle, 24 hours in all.
    pub const fn aal2() -> Self {
        Self::of(3600, DAY)
    }

    /// NIST SP 800-63B-4, AAL3: 15 minutes idle, 12 hours in all.
    pub const fn aal3() -> Self {
        Self::of(15 * 60, DAY / 2)
    }

    /// No timeouts; only the cleanup rule ends unused sessions.
    pub const fn none() -> Self {
        Self { idle: None, absolute: None }
    }

    /// Sets [`Timeouts::idle`]; none switches it off.
    #[must_use]
    pub fn with_idle(mut self, idle: impl Into<Option<Duration>>) -> Self {
        self.idle = idle.into();
        self
    }

    /// Sets [`Timeouts::absolute`]; none switches it off.
    #[must_use]
    pub fn with_absolute(mut self, absolute: impl Into<Option<Duration>>) -> Self {
        self.absolute = absolute.into();
        self
    }

    const fn of(idle_seconds: u64, absolute_seconds: u64) -> Self {
        Self {
            idle: Some(Duration::from_secs(idle_seconds)),
            absolute: Some(Duration::from_secs(absolute_seconds)),
        }
    }

    /// The absolute expiry of a session whose user signed in, or re-authenticated, at this time.
    pub fn absolute_expiry(&self, signed_in: Timestamp) -> Option<Timestamp> {
        self.absolute.map(|timeout| signed_in.plus(timeout))
    }

    /// From when on a request is refused: the earlier of the two timeouts; none for never.
    pub fn expiry(
        &self,
        last_accessed: Timestamp,
        absolute: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let idle = self.idle.map(|timeout| last_accessed.plus(timeout));
        let absolute = absolute.filter(|_| !planted::is(Defect::NeverExpires));
        idle.into_iter().chain(absolute).min()
    }

    /// Whether a session is past one of its timeouts.
    pub fn expired(
        &self,
        last_accessed: Timestamp,
        absolute: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        self.expiry(last_accessed, absolute).is_some_and(|expiry| expiry <= now)
    }

    /// What holds for a session that was last accessed then, as far as a node knows: a use that
    /// another node has accepted may be on its way to the store for `in_flight`
    /// ([`WriteBack::in_flight`]).
    pub fn lifetime(
        &self,
        last_accessed: Timestamp,
        absolute: Option<Timestamp>,
        in_flight: Duration,
        now: Timestamp,
    ) -> Lifetime {
        let absolute = absolute.filter(|_| !planted::is(Defect::NeverExpires));
        if absolute.is_some_and(|expiry| expiry <= now) {
            return Lifetime::Over;
        }
        if !self.expired(last_accessed, None, now) {
            return Lifetime::Running;
        }
        let idle = self.idle.unwrap_or_default();
        let since = now.minus(idle.saturating_add(in_flight));
        if last_accessed < since { Lifetime::Unused { since } } else { Lifetime::Idle }
    }

    /// From when on [`Timeouts::lifetime`] ends the session if it is not used again; none for never.
    pub fn end(
        &self,
        last_accessed: Timestamp,
        absolute: Option<Timestamp>,
        in_flight: Duration,
    ) -> Option<Timestamp> {
        let unused = self.idle.map(|idle| last_accessed.plus(idle.saturating_add(in_flight)));
        unused.into_iter().chain(absolute).min()
    }
}

/// What a node does with a session by its timeouts. A request is accepted while it is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It may be used.
    Running,
    /// Its idle timeout is over by what the node knows. The node refuses it and does not end it: a
    /// use that another node has accepted may still be on its way to the store, and then it is
    /// running again.
    Idle,
    /// No use of it is on its way any more. It ends if the store, too, has no access at or after
    /// this time.
    Unused {
        /// For [`Selection::last_accessed_before`](crate::store::Selection::last_accessed_before).
        since: Timestamp,
    },
    /// Its absolute timeout is over: no use prolongs it.
    Over,
}

impl Session {
    /// The timeouts that hold for it.
    pub fn timeouts_or(&self, default: &Timeouts) -> Timeouts {
        self.timeouts.unwrap_or(*default)
    }

    /// The timeouts that requests go by. The cleanup's limit for unused sessions is an idle timeout for those
    /// that have none of their own: what the cleanup may end at any moment, no request may use.
    pub fn timeouts_with(&self, default: &Timeouts, cleanup: &Cleanup) -> Timeouts {
        let mut timeouts = self.timeouts_or(default);
        if self.timeouts.is_none_or(|own| own.idle.is_none()) {
            let idle =
                timeouts.idle.map_or(cleanup.inactive_for, |idle| idle.min(cleanup.inactive_for));
            timeouts.idle = Some(idle);
        }
        timeouts
    }

    /// When the session ends if it was last used at `last_accessed`: what stores go by
    /// ([`Session::deadline`]).
    ///
    /// The earliest of its expiry, of the cleanup's limit for unused sessions (an idle timeout of the
    /// session's own is in place of it) and, as long as it is not claimed, of [`UNCLAIMED_FOR`] after
    /// its sign-in.
    pub fn deadline_at(
        &self,
        default: &Timeouts,
        cleanup: &Cleanup,
        last_accessed: Timestamp,
        claimed: bool,
    ) -> Timestamp {
        let timeouts = self.timeouts_with(default, cleanup);
        let expiry = timeouts.expiry(last_accessed, self.absolute_expiry);
        let unclaimed = (!claimed).then(|| self.signed_in.plus(UNCLAIMED_FOR));
        expiry.into_iter().chain(unclaimed).min().unwrap_or(Timestamp::MAX)
    }
}

/// When last accessed and IP address go from a node's memory to the store.
///
/// ```
/// let write_back = session_core::usage::WriteBack::default().with_every_hits(20);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WriteBack {
    /// A session is due at this many unstored accesses. Default 10.
    pub every_hits: u32,
    /// A session is due this long after its first unstored access, in seconds. Default 30.
    #[serde(with = "time::seconds")]
    pub max_delay: Duration,
    /// Due sessions leave together within this time, in seconds. Default 0.25.
    #[serde(with = "time::seconds")]
    pub flush_interval: Duration,
}

impl Default for WriteBack {
    fn default() -> Self {
        Self {
            every_hits: 10,
            max_delay: Duration::from_secs(30),
            flush_interval: Duration::from_millis(250),
        }
    }
}

impl WriteBack {
    /// Sets [`WriteBack::every_hits`].
    #[must_use]
    pub const fn with_every_hits(mut self, every_hits: u32) -> Self {
        self.every_hits = every_hits;
        self
    }

    /// Sets [`WriteBack::max_delay`].
    #[must_use]
    pub const fn with_max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = max_delay;
        self
    }

    /// Sets [`WriteBack::flush_interval`].
    #[must_use]
    pub const fn with_flush_interval(mut self, flush_interval: Duration) -> Self {
        self.flush_interval = flush_interval;
        self
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`InvalidField`] naming the option and its limit.
    pub fn validate(&self) -> Result<(), InvalidField> {
        if self.every_hits == 0 {
            return Err(InvalidField::out_of_range("write_back.every_hits", 1, u32::MAX.into()));
        }
        if self.flush_interval.is_zero() {
            return Err(InvalidField::malformed("write_back.flush_interval", "longer than zero"));
        }
        Ok(())
    }

    /// How long a session's first unstored access may wait.
    fn delay(&self, timeouts: &Timeouts) -> Duration {
        let idle = timeouts.idle.filter(|_| !planted::is(Defect::NoQuarterIdleRule));
        idle.map_or(self.max_delay, |idle| self.max_delay.min(idle / 4))
    }

    /// How long after its acceptance a use that is due at once may arrive in the store, by the clock
    /// of any node: the flush that is under way and the next one end within the time limit of a
    /// call each.
    ///
    /// Every use near the idle timeout is due at once, or leaves together with one that was due
    /// earlier ([`Activity::access`]). So this long after its idle timeout a session is unused.
    pub fn in_flight(&self, store_timeout: Duration) -> Duration {
        self.flush_interval + 2 * store_timeout + MAX_CLOCK_SKEW
    }

    /// How long after its acceptance any use may arrive in the store, by the clock of any node.
    pub fn max_lag(&self, store_timeout: Duration) -> Duration {
        self.max_delay + self.in_flight(store_timeout)
    }
}

const DAY: u64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn timeouts_hold_at_their_exact_end() {
        let timeouts = Timeouts { idle: Some(Duration::from_secs(10)), absolute: None };
        assert!(!timeouts.expired(at(0), None, at(9)));
        assert!(timeouts.expired(at(0), None, at(10)));
        assert!(timeouts.expired(at(8), Some(at(9)), at(9)));
        assert!(!Timeouts::none().expired(at(0), None, at(u32::MAX.into())));
    }

    #[test]
    fn a_session_is_refused_at_its_idle_timeout_and_ends_when_no_use_is_on_its_way() {
        let timeouts = Timeouts { idle: Some(Duration::from_secs(10)), absolute: None };
        let in_flight = Duration::from_secs(5);
        let at_second = |now| timeouts.lifetime(at(100), Some(at(200)), in_flight, at(now));
        assert_eq!(at_second(109), Lifetime::Running);
        assert_eq!(at_second(110), Lifetime::Idle);
        assert_eq!(at_second(115), Lifetime::Idle);
        assert_eq!(at_second(116), Lifetime::Unused { since: at(101) });
        assert_eq!(at_second(200), Lifetime::Over);
        assert_eq!(timeouts.end(at(100), Some(at(200)), in_flight), Some(at(115)));
        assert_eq!(timeouts.end(at(190), Some(at(200)), in_flight), Some(at(200)));
        let never = Timeouts::none();
        assert_eq!(never.lifetime(at(0), None, in_flight, Timestamp::MAX), Lifetime::Running);
        assert_eq!(never.end(at(0), None, in_flight), None);
    }
}
