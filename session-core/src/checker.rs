//! Whether a session may still be used, and when its last access is written back.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::field::InvalidField;
use crate::time::{self, Timestamp};

/// How long a session may live.
///
/// The defaults are those of NIST SP 800-63B for AAL1 (reauthentication at least every 30 days),
/// with an idle timeout of 14 days. See [`Timeouts::aal2`] and [`Timeouts::aal3`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Timeouts {
    /// Refused after this long unused, in seconds; none switches it off. Default 14 days.
    #[serde(with = "time::optional_seconds")]
    pub idle: Option<Duration>,
    /// Refused after this long in all, in seconds, fixed at sign-in; none switches it off.
    /// Default 30 days.
    #[serde(with = "time::optional_seconds")]
    pub absolute: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::of(14 * DAY, 30 * DAY)
    }
}

impl Timeouts {
    /// NIST SP 800-63B, AAL2: one hour idle, 24 hours in all.
    pub const fn aal2() -> Self {
        Self::of(3600, DAY)
    }

    /// NIST SP 800-63B, AAL3: 15 minutes idle, 12 hours in all.
    pub const fn aal3() -> Self {
        Self::of(15 * 60, DAY / 2)
    }

    /// No timeouts; only the cleanup rule ends unused sessions.
    pub const fn none() -> Self {
        Self { idle: None, absolute: None }
    }

    const fn of(idle_seconds: u64, absolute_seconds: u64) -> Self {
        Self {
            idle: Some(Duration::from_secs(idle_seconds)),
            absolute: Some(Duration::from_secs(absolute_seconds)),
        }
    }

    /// The absolute expiry of a session that begins now.
    pub fn absolute_expiry(&self, signed_in: Timestamp) -> Option<Timestamp> {
        self.absolute.map(|timeout| signed_in.plus(timeout))
    }

    /// When an unused session ends: the earlier of its two timeouts.
    pub fn deadline(
        &self,
        last_accessed: Timestamp,
        absolute: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let idle = self.idle.map(|timeout| last_accessed.plus(timeout));
        idle.into_iter().chain(absolute).min()
    }

    /// Whether a session is past one of its timeouts.
    pub fn expired(
        &self,
        last_accessed: Timestamp,
        absolute: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        self.deadline(last_accessed, absolute).is_some_and(|deadline| deadline <= now)
    }
}

/// When last accessed and IP address go from a node's memory to the store.
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
        timeouts.idle.map_or(self.max_delay, |idle| self.max_delay.min(idle / 4))
    }

    /// How far the store's last accessed may lie behind a node's.
    pub fn max_lag(&self) -> Duration {
        self.max_delay + self.flush_interval
    }
}

/// A node's knowledge of one session's use: the state that accesses change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    last_accessed: Timestamp,
    stored: Timestamp,
    unstored_hits: u32,
    first_unstored: Timestamp,
    newest_ip: Option<IpAddr>,
    new_ips: Vec<IpAddr>,
}

/// What an access asks the shell to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessEffect {
    /// Nothing: the write-back that is planned covers it.
    None,
    /// This is the first unstored access; write back at this time at the latest.
    Plan(Timestamp),
    /// Write back with the next flush.
    Due,
}

/// What a write-back takes to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unstored {
    /// The newest access.
    pub last_accessed: Timestamp,
    /// Addresses that are new since the last write-back, newest last.
    pub new_ips: Vec<IpAddr>,
    since: Timestamp,
    hits: u32,
}

impl Activity {
    /// The state of a session as the store has it.
    pub const fn stored(last_accessed: Timestamp, newest_ip: Option<IpAddr>) -> Self {
        Self {
            last_accessed,
            stored: last_accessed,
            unstored_hits: 0,
            first_unstored: last_accessed,
            newest_ip,
            new_ips: Vec::new(),
        }
    }

    /// When a request last used the session, on this node.
    pub const fn last_accessed(&self) -> Timestamp {
        self.last_accessed
    }

    /// The newest address, on this node.
    pub const fn newest_ip(&self) -> Option<IpAddr> {
        self.newest_ip
    }

    /// Whether a write-back has something to take.
    pub const fn is_unstored(&self) -> bool {
        self.unstored_hits > 0
    }

    /// When the planned write-back is due, where there is one.
    pub fn planned(&self, rule: &WriteBack, timeouts: &Timeouts) -> Option<Timestamp> {
        self.is_unstored().then(|| self.first_unstored.plus(rule.delay(timeouts)))
    }

    /// Counts one access.
    ///
    /// Besides the two bounds of [`WriteBack`], a first unstored access is due at once when what
    /// the store knows is older than half the idle timeout, and none waits longer than a quarter
    /// of it: so no other node can take a session for idle that is in use here. A clock that
    /// went back does not move last accessed back.
    pub fn access(
        &mut self,
        rule: &WriteBack,
        timeouts: &Timeouts,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> AccessEffect {
        self.last_accessed = self.last_accessed.max(now);
        self.note_ip(ip);
        if self.unstored_hits == 0 {
            self.first_unstored = now;
        }
        self.unstored_hits = self.unstored_hits.saturating_add(1);
        let urgent = timeouts.idle.is_some_and(|idle| now.since(self.stored) >= idle / 2);
        let first = self.unstored_hits == 1;
        if self.unstored_hits == rule.every_hits || (urgent && first) {
            AccessEffect::Due
        } else if first {
            AccessEffect::Plan(now.plus(rule.delay(timeouts)))
        } else {
            AccessEffect::None
        }
    }

    /// Takes what is unstored; nothing is unstored afterwards.
    pub fn take(&mut self) -> Option<Unstored> {
        if !self.is_unstored() {
            return None;
        }
        let hits = std::mem::take(&mut self.unstored_hits);
        let new_ips = std::mem::take(&mut self.new_ips);
        Some(Unstored {
            last_accessed: self.last_accessed,
            new_ips,
            since: self.first_unstored,
            hits,
        })
    }

    /// Notes that the store has what was taken.
    pub fn confirm(&mut self, written: &Unstored) {
        self.stored = self.stored.max(written.last_accessed);
    }

    /// Puts back what could not be written.
    pub fn give_back(&mut self, unwritten: Unstored) {
        self.first_unstored = if self.is_unstored() {
            self.first_unstored.min(unwritten.since)
        } else {
            unwritten.since
        };
        self.unstored_hits = self.unstored_hits.saturating_add(unwritten.hits);
        let newer = std::mem::replace(&mut self.new_ips, unwritten.new_ips);
        for ip in newer {
            crate::session::note_ip_address(&mut self.new_ips, ip);
        }
    }

    /// Takes over what another copy of the same session's state knows.
    pub fn merge(&mut self, other: &Self) {
        if other.last_accessed > self.last_accessed {
            self.last_accessed = other.last_accessed;
            self.newest_ip = other.newest_ip.or(self.newest_ip);
        }
    }

    fn note_ip(&mut self, ip: Option<IpAddr>) {
        if ip.is_some() && ip != self.newest_ip {
            self.newest_ip = ip;
            if let Some(ip) = ip {
                crate::session::note_ip_address(&mut self.new_ips, ip);
            }
        }
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
    fn the_tenth_access_is_due() {
        let (rule, timeouts) = (WriteBack::default(), Timeouts::default());
        let mut activity = Activity::stored(at(0), None);
        let effects: Vec<_> =
            (1..=11).map(|s| activity.access(&rule, &timeouts, None, at(s))).collect();
        assert_eq!(effects[0], AccessEffect::Plan(at(31)));
        assert!(effects[1..9].iter().all(|effect| *effect == AccessEffect::None));
        assert_eq!(effects[9], AccessEffect::Due);
        assert_eq!(effects[10], AccessEffect::None);
        assert_eq!(activity.take().unwrap().last_accessed, at(11));
        assert_eq!(activity.take(), None);
    }

    #[test]
    fn an_access_near_the_idle_timeout_is_due_at_once() {
        let timeouts = Timeouts { idle: Some(Duration::from_secs(100)), absolute: None };
        let mut activity = Activity::stored(at(0), None);
        let effect = activity.access(&WriteBack::default(), &timeouts, None, at(50));
        assert_eq!(effect, AccessEffect::Due);
    }

    #[test]
    fn what_could_not_be_written_comes_back_older() {
        let (rule, timeouts) = (WriteBack::default(), Timeouts::none());
        let ip = |n| Some(IpAddr::from([10, 0, 0, n]));
        let mut activity = Activity::stored(at(0), None);
        activity.access(&rule, &timeouts, ip(1), at(1));
        let taken = activity.take().unwrap();
        activity.access(&rule, &timeouts, ip(2), at(5));
        activity.give_back(taken);
        assert_eq!(activity.planned(&rule, &timeouts), Some(at(31)));
        let all = activity.take().unwrap();
        assert_eq!(all.new_ips, [ip(1).unwrap(), ip(2).unwrap()]);
        assert_eq!(all.last_accessed, at(5));
    }

    #[test]
    fn timeouts_hold_at_their_exact_end() {
        let timeouts = Timeouts { idle: Some(Duration::from_secs(10)), absolute: None };
        assert!(!timeouts.expired(at(0), None, at(9)));
        assert!(timeouts.expired(at(0), None, at(10)));
        assert!(timeouts.expired(at(8), Some(at(9)), at(9)));
        assert!(!Timeouts::none().expired(at(0), None, at(u32::MAX.into())));
    }
}
