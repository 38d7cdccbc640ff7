//! What a node knows of one session's use, and when it is written back.

use std::net::IpAddr;

use super::{Timeouts, WriteBack};
use crate::planted::{self, Defect};
use crate::session::{Session, note_ip_address};
use crate::time::Timestamp;

/// A node's knowledge of one session's use: the state that accesses change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    last_accessed: Timestamp,
    stored: Timestamp,
    unstored_hits: u32,
    first_unstored: Timestamp,
    ip_addresses: Vec<IpAddr>,
    new_ips: Vec<IpAddr>,
    leaving_ips: Vec<IpAddr>,
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
    /// The state of a session as the store has it; addresses newest last.
    pub const fn stored(last_accessed: Timestamp, ip_addresses: Vec<IpAddr>) -> Self {
        Self {
            last_accessed,
            stored: last_accessed,
            unstored_hits: 0,
            first_unstored: last_accessed,
            ip_addresses,
            new_ips: Vec::new(),
            leaving_ips: Vec::new(),
        }
    }

    /// When a request last used the session, on this node.
    pub const fn last_accessed(&self) -> Timestamp {
        self.last_accessed
    }

    /// The session's addresses, newest last, with those that this node has seen.
    pub fn ip_addresses(&self) -> &[IpAddr] {
        &self.ip_addresses
    }

    /// Adds to a record read from the store what a write-back has not confirmed yet.
    pub fn overlay(&self, stored: &mut Session) {
        stored.last_accessed = stored.last_accessed.max(self.last_accessed);
        for ip in self.leaving_ips.iter().chain(&self.new_ips) {
            note_ip_address(&mut stored.ip_addresses, *ip);
        }
    }

    /// Whether another node may soon take the session for idle: what the store knows of its use is at least
    /// half the idle timeout older than the last one.
    pub fn is_urgent(&self, timeouts: &Timeouts) -> bool {
        let half = timeouts.idle.map(|idle| idle / 2);
        half.is_some_and(|half| self.last_accessed.since(self.stored) >= half)
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
        self.count(rule, timeouts, now)
    }

    /// Records a new address of a passive request, so that a stolen token cannot be used unseen by
    /// calling every request passive. Changes no time.
    pub fn record_address(
        &mut self,
        rule: &WriteBack,
        timeouts: &Timeouts,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> AccessEffect {
        match ip {
            Some(new) if !self.ip_addresses.contains(&new) => {
                self.note_ip(ip);
                self.count(rule, timeouts, now)
            }
            _ => AccessEffect::None,
        }
    }

    /// Notes something beside the use that has to be stored soon: the first presentation of the token.
    pub const fn store_soon(&mut self, now: Timestamp) -> AccessEffect {
        if self.unstored_hits == 0 {
            self.first_unstored = now;
            self.unstored_hits = 1;
        }
        AccessEffect::Due
    }

    /// Counts what is unstored and answers when it is to be written back.
    fn count(&mut self, rule: &WriteBack, timeouts: &Timeouts, now: Timestamp) -> AccessEffect {
        if self.unstored_hits == 0 {
            self.first_unstored = now;
        }
        self.unstored_hits = self.unstored_hits.saturating_add(1);
        let urgent = self.is_urgent(timeouts) && !planted::is(Defect::NoHalfIdleRule);
        let first = self.unstored_hits == 1;
        let many = self.unstored_hits >= rule.every_hits && !planted::is(Defect::HitsIgnored);
        if many || (urgent && first) {
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
        self.leaving_ips.extend(&new_ips);
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
        self.no_longer_leaving(&written.new_ips);
    }

    /// Puts back what could not be written.
    pub fn give_back(&mut self, unwritten: Unstored) {
        self.first_unstored = if self.is_unstored() {
            self.first_unstored.min(unwritten.since)
        } else {
            unwritten.since
        };
        self.unstored_hits = self.unstored_hits.saturating_add(unwritten.hits);
        self.no_longer_leaving(&unwritten.new_ips);
        let newer = std::mem::replace(&mut self.new_ips, unwritten.new_ips);
        for ip in newer {
            note_ip_address(&mut self.new_ips, ip);
        }
    }

    /// Takes over what an older copy of the same session's state knows, to be written back from
    /// here.
    pub fn take_over(&mut self, older: &mut Self) {
        for ip in older.leaving_ips.iter().chain(&older.new_ips) {
            note_ip_address(&mut self.ip_addresses, *ip);
        }
        self.last_accessed = self.last_accessed.max(older.last_accessed);
        if let Some(unstored) = older.take() {
            older.no_longer_leaving(&unstored.new_ips);
            self.give_back(unstored);
        }
    }

    /// When what is unstored is to be written back.
    pub fn waits(&self, rule: &WriteBack, timeouts: &Timeouts) -> AccessEffect {
        if self.unstored_hits >= rule.every_hits {
            return AccessEffect::Due;
        }
        self.planned(rule, timeouts).map_or(AccessEffect::None, AccessEffect::Plan)
    }

    fn no_longer_leaving(&mut self, ips: &[IpAddr]) {
        self.leaving_ips.retain(|ip| !ips.contains(ip));
    }

    fn note_ip(&mut self, ip: Option<IpAddr>) {
        if let Some(ip) = ip.filter(|ip| self.ip_addresses.last() != Some(ip)) {
            note_ip_address(&mut self.ip_addresses, ip);
            note_ip_address(&mut self.new_ips, ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_passive_request_leaves_its_address_and_moves_no_time() {
        let (rule, timeouts) = (WriteBack::default(), Timeouts::default());
        let [home, away] = [[192, 0, 2, 1], [203, 0, 113, 9]].map(IpAddr::from);
        let mut activity = Activity::stored(at(0), vec![home]);
        let mut seen = |ip| activity.record_address(&rule, &timeouts, ip, at(9));
        assert_eq!(seen(None), AccessEffect::None);
        assert_eq!(seen(Some(home)), AccessEffect::None);
        assert_eq!(seen(Some(away)), AccessEffect::Plan(at(39)));
        assert_eq!(seen(Some(away)), AccessEffect::None);
        let unstored = activity.take().unwrap();
        assert_eq!((unstored.last_accessed, unstored.new_ips), (at(0), vec![away]));
        assert_eq!(activity.ip_addresses(), [home, away]);
    }

    #[test]
    fn the_tenth_access_is_due() {
        let (rule, timeouts) = (WriteBack::default(), Timeouts::default());
        let mut activity = Activity::stored(at(0), Vec::new());
        let effects: Vec<_> =
            (1..=11).map(|s| activity.access(&rule, &timeouts, None, at(s))).collect();
        assert_eq!(effects[0], AccessEffect::Plan(at(31)));
        assert!(effects[1..9].iter().all(|effect| *effect == AccessEffect::None));
        assert_eq!(effects[9..], [AccessEffect::Due; 2], "until it is taken");
        assert_eq!(activity.take().unwrap().last_accessed, at(11));
        assert_eq!(activity.take(), None);
    }

    #[test]
    fn an_access_near_the_idle_timeout_is_due_at_once() {
        let timeouts = Timeouts { idle: Some(Duration::from_secs(100)), absolute: None };
        let mut activity = Activity::stored(at(0), Vec::new());
        let effect = activity.access(&WriteBack::default(), &timeouts, None, at(50));
        assert_eq!(effect, AccessEffect::Due);
    }

    #[test]
    fn what_could_not_be_written_comes_back_older() {
        let (rule, timeouts) = (WriteBack::default(), Timeouts::none());
        let ip = |n| Some(IpAddr::from([10, 0, 0, n]));
        let mut activity = Activity::stored(at(0), Vec::new());
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
    fn what_is_on_its_way_to_the_store_still_shows() {
        let (rule, timeouts) = (WriteBack::default(), Timeouts::none());
        let ip = |n| IpAddr::from([10, 0, 0, n]);
        let mut activity = Activity::stored(at(0), vec![ip(1)]);
        let shown = |activity: &Activity| {
            let mut session = session(at(0), vec![ip(1)]);
            activity.overlay(&mut session);
            (session.last_accessed, session.ip_addresses)
        };
        activity.access(&rule, &timeouts, Some(ip(2)), at(1));
        let taken = activity.take().unwrap();
        activity.access(&rule, &timeouts, Some(ip(3)), at(2));
        assert_eq!(shown(&activity), (at(2), vec![ip(1), ip(2), ip(3)]));
        activity.give_back(taken);
        assert_eq!(shown(&activity), (at(2), vec![ip(1), ip(2), ip(3)]));
        let taken = activity.take().unwrap();
        activity.confirm(&taken);
        assert_eq!(shown(&activity), (at(2), vec![ip(1)]), "the record is newer by now");
    }

    fn session(last_accessed: Timestamp, ip_addresses: Vec<IpAddr>) -> Session {
        let key = crate::FleetKey::from_bytes([0; 32]);
        let owner = crate::UserKey::new("alice".parse().unwrap());
        let token =
            crate::Token::new(&key, crate::SessionId::from_bytes([0; 16]), [0; 12], [0; 16]);
        let session = Session::new(owner, &token, at(0));
        Session { last_accessed, ip_addresses, ..session }
    }

    #[test]
    fn a_newer_copy_writes_back_what_the_older_one_held() {
        let (rule, timeouts) = (WriteBack::default(), Timeouts::none());
        let ip = |n| IpAddr::from([10, 0, 0, n]);
        let mut older = Activity::stored(at(0), vec![ip(1)]);
        older.access(&rule, &timeouts, Some(ip(2)), at(5));
        let mut newer = Activity::stored(at(0), vec![ip(1), ip(3)]);
        newer.take_over(&mut older);
        assert_eq!(newer.waits(&rule, &timeouts), AccessEffect::Plan(at(35)));
        assert_eq!(older.take(), None);
        assert_eq!(newer.ip_addresses(), [ip(1), ip(3), ip(2)]);
        let unstored = newer.take().unwrap();
        assert_eq!((unstored.last_accessed, unstored.new_ips), (at(5), vec![ip(2)]));
    }
}
