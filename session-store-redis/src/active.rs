//! Announcements of shards that change. They let an idle node of a cluster skip the other shards.
//!
//! A node announces a shard before it acknowledges changes in it: it writes a new random mark for
//! the shard into one hash, `active`, which is in the slot of the first shard. An announcement is
//! good for [`ANNOUNCED`], so a busy node makes one in half of that, regardless of the number of
//! its changes.
//!
//! A reader reads the marks with the first shard's log, in one statement. A shard whose mark is
//! *settled* need not be read: the reader has read it to its end, at a moment when no change could
//! be acknowledged under that mark any more. That is so [`SETTLED`] after this node has first seen
//! the mark. It measures that time itself, so no two clocks are compared. Every cursor says which
//! marks are settled.
//!
//! What could go wrong otherwise: an announcement that a failover loses, or a change that is
//! applied later than its announcement is good for and whose author dies before acknowledging it.
//! So a node that has lost a connection reads all shards, and one shard in turn is read in every
//! [`TURN`].

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The mark of a shard that was never announced.
pub(crate) const NEVER: u64 = 0;
/// No mark of a shard: it has to be read.
pub(crate) const UNSETTLED: u64 = u64::MAX;

/// How long after an announcement changes may be acknowledged.
pub(crate) const ANNOUNCED: Duration = Duration::from_secs(5);
/// A reader keeps reading a shard for this long after it first saw the mark. One second more than
/// [`ANNOUNCED`], for clocks of different speed.
const SETTLED: Duration = Duration::from_secs(6);
/// One shard is read in this time, even if its mark is settled.
const TURN: Duration = Duration::from_secs(8);

/// What one node knows of announcements.
#[derive(Debug)]
pub(crate) struct Active(Mutex<State>);

#[derive(Debug)]
struct State {
    /// By shard, the last announcement of this node.
    announced: Vec<Option<Moment>>,
    /// By shard, the mark that was read last, and when it was first read.
    seen: Vec<(u64, Instant)>,
    /// How often announcements may have been lost or missed.
    lost: u64,
    /// The value of `lost` at the last read of all shards.
    made_good: u64,
    /// The shard whose turn it was, and when.
    turn: (usize, Instant),
    /// By shard, whether a push has come since it was last due.
    pushed: Vec<bool>,
}

/// What a reader has to read.
pub(crate) struct Due {
    /// By shard.
    pub(crate) shards: Vec<bool>,
    /// For [`Active::read`].
    pub(crate) lost: u64,
}

/// A moment by both clocks: one of them stands still while the machine sleeps, the other one jumps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    fn age(&self, now: &Self) -> Duration {
        let steady = now.steady.saturating_duration_since(self.steady);
        steady.max(now.wall.duration_since(self.wall).unwrap_or_default())
    }
}

impl Active {
    pub(crate) fn new(shards: usize) -> Self {
        let now = Instant::now();
        let seen = vec![(NEVER, now); shards];
        let announced = vec![None; shards];
        let pushed = vec![false; shards];
        Self(Mutex::new(State { announced, seen, lost: 0, made_good: 0, turn: (0, now), pushed }))
    }

    /// Those of the shards that have to be announced before changes in them are acknowledged. The
    /// first shard is always read.
    pub(crate) fn unannounced(
        &self,
        shards: impl IntoIterator<Item = usize>,
        within: Duration,
        now: &Moment,
    ) -> Vec<usize> {
        let state = self.state();
        let is_due = |shard: &usize| {
            let announced = state.announced.get(*shard).copied().flatten();
            *shard != 0 && announced.is_none_or(|announced| announced.age(now) >= within)
        };
        let mut due: Vec<_> = shards.into_iter().filter(is_due).collect();
        due.sort_unstable();
        due.dedup();
        due
    }

    /// Notes an announcement that was sent at this moment, or later, and has arrived. If a
    /// connection was lost since `lost` was read, the announcement may be lost with it, and is not
    /// noted.
    pub(crate) fn announced(&self, shards: &[usize], at: Moment, lost: u64) {
        let mut state = self.state();
        if state.lost != lost {
            return;
        }
        for shard in shards {
            state.announced[*shard] = Some(at);
        }
    }

    /// How often announcements may have been lost or missed.
    pub(crate) fn lost(&self) -> u64 {
        self.state().lost
    }

    /// A push has come of a change in this shard: it is read even if its mark is settled.
    pub(crate) fn pushed(&self, shard: usize) {
        if let Some(pushed) = self.state().pushed.get_mut(shard) {
            *pushed = true;
        }
    }

    /// Called where announcements may be lost, or missed: with a connection, or with all keys.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.announced.fill(None);
        state.lost += 1;
    }

    /// Returns the shards to read, given the marks in the cursor and those in the hash. The first
    /// shard is always read.
    pub(crate) fn due(&self, settled: &[u64], marks: &[u64], now: Instant) -> Due {
        let mut state = self.state();
        for (seen, mark) in state.seen.iter_mut().zip(marks) {
            if seen.0 != *mark {
                *seen = (*mark, now);
            }
        }
        let mut due: Vec<_> =
            settled.iter().zip(marks).map(|(settled, mark)| settled != mark).collect();
        for (due, pushed) in due.iter_mut().zip(&mut state.pushed) {
            *due |= std::mem::take(pushed);
        }
        if state.lost != state.made_good {
            due.fill(true);
        }
        if now.saturating_duration_since(state.turn.1) >= TURN {
            state.turn = ((state.turn.0 + 1) % due.len(), now);
            due[state.turn.0] = true;
        }
        Due { shards: due, lost: state.lost }
    }

    /// All that was due has been read.
    pub(crate) fn read(&self, lost: u64) {
        let mut state = self.state();
        state.made_good = state.made_good.max(lost);
    }

    /// The mark that a shard is settled at, once a read of it that began at this moment, or later,
    /// has come to its end.
    pub(crate) fn settled(&self, shard: usize, begun: Instant) -> u64 {
        let (mark, since) = self.state().seen[shard];
        let is_over = mark == NEVER || begun.saturating_duration_since(since) >= SETTLED;
        if is_over { mark } else { UNSETTLED }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(active: &Active, settled: &[u64], marks: &[u64], now: Instant) -> Vec<bool> {
        active.due(settled, marks, now).shards
    }

    #[test]
    fn a_push_makes_a_settled_shard_due_once() {
        let active = Active::new(3);
        let now = Instant::now();
        assert_eq!(due(&active, &[NEVER, 5, 6], &[NEVER, 5, 6], now), [false, false, false]);
        active.pushed(2);
        active.pushed(9);
        assert_eq!(due(&active, &[NEVER, 5, 6], &[NEVER, 5, 6], now), [false, false, true]);
        assert_eq!(due(&active, &[NEVER, 5, 6], &[NEVER, 5, 6], now), [false, false, false]);
    }

    #[test]
    fn an_announcement_that_may_be_lost_with_its_connection_is_not_noted() {
        let active = Active::new(2);
        let (now, lost) = (Moment::now(), active.lost());
        active.forget();
        active.announced(&[1], now, lost);
        assert_eq!(active.unannounced([1], ANNOUNCED, &now), [1]);
    }

    #[test]
    fn an_announcement_is_made_once_in_a_while_and_is_no_longer_good_than_either_clock_says() {
        let active = Active::new(3);
        let now = Moment::now();
        assert_eq!(active.unannounced([2, 0, 1, 2], ANNOUNCED, &now), [1, 2]);
        active.announced(&[1, 2], now, active.lost());
        assert_eq!(active.unannounced([0, 1, 2], ANNOUNCED, &now), [0; 0]);
        let slept = Moment { wall: now.wall + ANNOUNCED, ..now };
        assert_eq!(active.unannounced([1], ANNOUNCED, &slept), [1]);
        let set_back = Moment { steady: now.steady + ANNOUNCED, wall: now.wall - ANNOUNCED };
        assert_eq!(active.unannounced([1], ANNOUNCED, &set_back), [1]);
        active.forget();
        assert_eq!(active.unannounced([1, 2], ANNOUNCED, &now), [1, 2]);
    }

    #[test]
    fn a_shard_is_read_until_nothing_can_be_acknowledged_under_its_mark() {
        let active = Active::new(3);
        let now = Instant::now();
        assert_eq!(due(&active, &[NEVER; 3], &[NEVER; 3], now), [false; 3]);
        let marks = [NEVER, 7, NEVER];
        assert_eq!(due(&active, &[NEVER; 3], &marks, now), [false, true, false]);
        assert_eq!(active.settled(1, now + ANNOUNCED), UNSETTLED);
        // Another announcement begins the time again.
        let later = now + SETTLED;
        let marks = [NEVER, 8, NEVER];
        assert_eq!(due(&active, &[NEVER, 7, NEVER], &marks, later), [false, true, false]);
        assert_eq!(active.settled(1, later), UNSETTLED);
        assert_eq!(active.settled(1, later + SETTLED), 8);
        let settled = [NEVER, 8, NEVER];
        assert_eq!(due(&active, &settled, &marks, now), [false; 3]);
        // A mark that comes back from the past is another one.
        assert!(due(&active, &settled, &[NEVER, 7, NEVER], now)[1]);
        assert_eq!(active.settled(1, now), UNSETTLED);
    }

    #[test]
    fn all_shards_are_read_after_a_lost_connection_and_one_in_turn_otherwise() {
        let active = Active::new(3);
        let now = Instant::now();
        let none = [NEVER; 3];
        active.forget();
        // A read that fails or is given up has to be made again.
        let given_up = active.due(&none, &none, now).lost;
        assert_eq!(due(&active, &none, &none, now), [true; 3]);
        active.forget();
        active.read(given_up);
        let begun = active.due(&none, &none, now);
        assert_eq!(begun.shards, [true; 3], "it began before");
        active.read(begun.lost);
        assert_eq!(due(&active, &none, &none, now), [false; 3]);
        let mut read = [false; 3];
        for n in 1..=3 {
            let some = due(&active, &none, &none, now + TURN * n);
            assert_eq!(some.iter().filter(|due| **due).count(), 1);
            assert_eq!(due(&active, &none, &none, now + TURN * n), [false; 3]);
            read.iter_mut().zip(some).for_each(|(read, due)| *read |= due);
        }
        assert_eq!(read, [true; 3]);
    }
}
