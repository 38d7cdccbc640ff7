//! Leases by name, and in the order in which they run out.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use session_core::Timestamp;

#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    /// Who holds a lease, and until when.
    held: HashMap<String, (String, Timestamp)>,
    by_end: BTreeSet<(Timestamp, String)>,
}

impl Leases {
    /// Takes or renews a lease; false where another holder has it. Each lease that is taken drops some of
    /// those that ran out.
    pub(crate) fn take(&mut self, name: &str, holder: &str, ttl: Duration, now: Timestamp) -> bool {
        if self.held.get(name).is_some_and(|(current, until)| current != holder && *until > now) {
            return false;
        }
        let (name, until) = (name.to_owned(), now.plus(ttl));
        let before = self.held.insert(name.clone(), (holder.to_owned(), until));
        if let Some((_, before)) = before {
            self.by_end.remove(&(before, name.clone()));
        }
        self.by_end.insert((until, name));
        self.drop_some(now);
        true
    }

    fn drop_some(&mut self, now: Timestamp) {
        for _ in 0..MOST_DROPPED {
            let Some(first) = self.by_end.first().filter(|(until, _)| *until <= now) else {
                return;
            };
            self.held.remove(&first.1);
            self.by_end.pop_first();
        }
    }
}

/// The most leases that one call drops: more than it takes.
const MOST_DROPPED: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_that_is_taken_drops_some_that_ran_out() {
        let mut leases = Leases::default();
        for n in 0..250 {
            assert!(leases.take(&format!("ticket {n}"), "one", SECOND, Timestamp::EPOCH));
        }
        let later = Timestamp::EPOCH.plus(SECOND);
        for left in [151, 52, 3] {
            assert!(leases.take(&format!("left {left}"), "one", SECOND, later));
            assert_eq!((leases.held.len(), leases.by_end.len()), (left, left));
        }
    }

    #[test]
    fn a_renewed_lease_is_kept_once() {
        let mut leases = Leases::default();
        for seconds in 0..3 {
            let now = Timestamp::EPOCH.plus(SECOND * seconds);
            assert!(leases.take("cleanup", "one", SECOND * 2, now));
            assert!(!leases.take("cleanup", "two", SECOND, now));
            assert_eq!((leases.held.len(), leases.by_end.len()), (1, 1));
        }
        let later = Timestamp::EPOCH.plus(SECOND * 4);
        assert!(leases.take("cleanup", "two", SECOND, later), "it ran out");
        assert_eq!((leases.held.len(), leases.by_end.len()), (1, 1));
    }
}
