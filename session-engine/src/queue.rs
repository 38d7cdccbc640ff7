//! What waits for its write-back: planned, due, bounded.
//!
//! The queue holds an entry with unstored accesses at most three times: once for its planned time, once
//! when it is due, and once more when it becomes urgent. A session that is read again has another entry for
//! a while. The capacity bounds them all. The queue keeps entries alive that the cache has dropped. Times are
//! those of the monotonic clock: a jump of another clock delays no write-back.
//!
//! Requests and the flush share one lock. What is done under it does not depend on how many entries
//! wait: one entry is added, or one list that is ready is taken away. The flush looks at the entries of a
//! list when it has let go of the lock.

use std::collections::BTreeMap;
use std::time::Duration;

use session_core::Timestamp;
use session_core::store::Touch;
use session_core::usage::{AccessEffect, Unstored};

use crate::entry::Entry;
use crate::sync::{Arc, AtomicBool, AtomicU64, Instant, Mutex, MutexGuard, Ordering, PoisonError};

/// Entries that wait for their write-back.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<Waiting>,
    capacity: usize,
    dropped: AtomicU64,
    /// An entry has found no room.
    overflowed: AtomicBool,
    /// When ticks begin.
    start: Instant,
}

#[derive(Debug, Default)]
struct Waiting {
    due: Lists,
    planned: Lists,
}

/// Entries by tick, in lists of a batch at most.
#[derive(Debug, Default)]
struct Lists {
    /// By tick, and by number within it.
    lists: BTreeMap<(u64, u64), Vec<Arc<Entry>>>,
    len: usize,
}

/// Which entries leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Those that are due by now.
    Due,
    /// All.
    All,
}

impl Queue {
    pub(crate) fn new(capacity: usize) -> Self {
        let start = Instant::now();
        Self {
            state: Mutex::default(),
            capacity,
            dropped: AtomicU64::new(0),
            overflowed: AtomicBool::new(false),
            start,
        }
    }

    /// Does what an access at `now` asks for.
    pub(crate) fn apply(&self, effect: AccessEffect, entry: &Arc<Entry>, now: Timestamp) {
        match effect {
            AccessEffect::None => {}
            AccessEffect::Plan(at) => self.plan(self.tick_of(entry, at, now), entry),
            AccessEffect::Due => {
                self.due(entry);
            }
        }
    }

    /// Leaves with the next flush, before all that is not urgent. Where there is no room, the entry's next
    /// access asks again, or [`Queue::has_missed`] if there is none.
    pub(crate) fn due(&self, entry: &Arc<Entry>) -> bool {
        let mut use_ = entry.use_();
        let is_urgent = use_.activity.is_urgent(&entry.timeouts());
        // What has become urgent while it was due stands in both places, and leaves from the first.
        if !use_.due || (is_urgent && !use_.urgent) {
            let tick = if is_urgent { URGENT } else { ORDINARY };
            let has_room = self.waiting().due.add(tick, entry, self.capacity);
            use_.urgent |= is_urgent && has_room;
            use_.due |= has_room;
            self.overflowed.fetch_or(!has_room, Ordering::Relaxed);
        }
        use_.due
    }

    /// An entry has left the cache for lack of room: what is unstored leaves with the next flush.
    pub(crate) fn evicted(&self, entry: &Arc<Entry>) {
        let is_unstored = entry.use_().activity.is_unstored();
        if is_unstored {
            self.due_or_dropped(entry);
        }
    }

    /// As [`Queue::due`], for an entry that may be cached no longer: without room, its accesses are lost.
    fn due_or_dropped(&self, entry: &Arc<Entry>) {
        if !self.due(entry) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether entries have found no room that would find some now: then those in the cache have to ask
    /// again. It says so once.
    pub(crate) fn has_missed(&self) -> bool {
        self.overflowed.load(Ordering::Relaxed)
            && self.len() <= self.capacity / 2
            && self.overflowed.swap(false, Ordering::Relaxed)
    }

    /// How many sessions' accesses were given up because the store was away for too long.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many entries wait.
    pub(crate) fn len(&self) -> usize {
        let waiting = self.waiting();
        waiting.due.len + waiting.planned.len
    }

    fn plan(&self, tick: u64, entry: &Arc<Entry>) {
        let mut use_ = entry.use_();
        use_.planned = self.waiting().planned.add(tick, entry, self.capacity);
        let has_room = use_.planned;
        drop(use_);
        // No room for a later time: now.
        if !has_room {
            self.due(entry);
        }
    }

    /// The next batch of what leaves. It may be empty although more is left: no more than two batches
    /// are looked at in one call.
    pub(crate) fn take(&self, leaving: Leaving, now: Timestamp) -> Taken<'_> {
        let until = self.until(leaving);
        let mut taken = Taken { queue: self, batch: Vec::new() };
        let mut looked_at = 0;
        while looked_at < Touch::MAX_BATCH {
            let room = Touch::MAX_BATCH - taken.batch.len();
            let mut due = self.waiting().due.take_first(URGENT, room);
            let mut planned = None;
            if due.is_none() {
                planned = self.waiting().planned.take_first(until, room);
            }
            if due.is_none() && planned.is_none() {
                due = self.waiting().due.take_first(until, room);
            }
            if due.is_none() && planned.is_none() {
                break;
            }
            for entry in due.into_iter().flatten() {
                looked_at += 1;
                taken.add(entry);
            }
            for entry in planned.into_iter().flatten() {
                looked_at += 1;
                match entry.planned_after(|at| self.tick_of(&entry, at, now) > until) {
                    Some(later) => self.plan(self.tick_of(&entry, later, now), &entry),
                    None => taken.add(entry),
                }
            }
        }
        taken
    }

    /// What is unstored of these entries, whether or not it is due.
    pub(crate) fn take_of(&self, entries: &[Arc<Entry>]) -> Taken<'_> {
        let mut taken = Taken { queue: self, batch: Vec::new() };
        entries.iter().for_each(|entry| taken.add(Arc::clone(entry)));
        taken
    }

    /// Whether [`Queue::take`] would look at something.
    pub(crate) fn has(&self, leaving: Leaving) -> bool {
        let until = self.until(leaving);
        let waiting = self.waiting();
        waiting.due.is_ready(until) || waiting.planned.is_ready(until)
    }

    fn until(&self, leaving: Leaving) -> u64 {
        match leaving {
            Leaving::Due => self.tick(Instant::now()).max(ORDINARY),
            Leaving::All => u64::MAX,
        }
    }

    fn tick_of(&self, entry: &Entry, at: Timestamp, now: Timestamp) -> u64 {
        self.tick(entry.when(at, now))
    }

    fn tick(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start);
        u64::try_from(since.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lists {
    /// Adds an entry, unless there are `capacity` already.
    fn add(&mut self, tick: u64, entry: &Arc<Entry>, capacity: usize) -> bool {
        if self.len >= capacity {
            return false;
        }
        self.len += 1;
        let last = self.lists.range_mut((tick, 0)..=(tick, u64::MAX)).next_back();
        let number = match last {
            Some((_, list)) if list.len() < Touch::MAX_BATCH => {
                list.push(Arc::clone(entry));
                return true;
            }
            Some(((_, number), _)) => number + 1,
            None => 0,
        };
        self.lists.insert((tick, number), vec![Arc::clone(entry)]);
        true
    }

    /// The earliest list, if its tick is over and it has no more than `most` entries.
    fn take_first(&mut self, until: u64, most: usize) -> Option<Vec<Arc<Entry>>> {
        let first = self.lists.first_entry()?;
        if first.key().0 > until || first.get().len() > most {
            return None;
        }
        let list = first.remove();
        self.len -= list.len();
        Some(list)
    }

    fn is_ready(&self, until: u64) -> bool {
        self.lists.first_key_value().is_some_and(|((tick, _), _)| *tick <= until)
    }
}

/// What is on its way to the store. Dropped before it has arrived there, it is due again: also when the
/// flush fails, is given up or panics.
pub(crate) struct Taken<'q> {
    queue: &'q Queue,
    batch: Vec<(Arc<Entry>, Unstored)>,
}

impl Taken<'_> {
    /// Its two halves, or itself where it is a single entry.
    pub(crate) fn halves(mut self) -> Result<[Self; 2], Self> {
        if self.batch.len() < 2 {
            return Err(self);
        }
        let batch = self.batch.split_off(self.batch.len() / 2);
        let other = Self { queue: self.queue, batch };
        Ok([self, other])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// What the store is told.
    pub(crate) fn touches(&self) -> Vec<Touch> {
        self.batch.iter().map(|(entry, unstored)| entry.touch(unstored)).collect()
    }

    /// The store has it.
    pub(crate) fn confirm(mut self) {
        for (entry, unstored) in self.batch.drain(..) {
            entry.use_().activity.confirm(&unstored);
        }
    }

    /// Waits for as long, unless it is due by its use before.
    pub(crate) fn postpone(mut self, delay: Duration) {
        let (queue, tick) = (self.queue, self.queue.tick(Instant::now() + delay));
        self.give_back(|entry| queue.plan(tick, entry));
    }

    fn give_back(&mut self, wait: impl Fn(&Arc<Entry>)) {
        for (entry, unstored) in self.batch.drain(..) {
            entry.use_().activity.give_back(unstored);
            wait(&entry);
        }
    }

    fn add(&mut self, entry: Arc<Entry>) {
        if let Some(unstored) = entry.take() {
            self.batch.push((entry, unstored));
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let queue = self.queue;
        self.give_back(|entry| queue.due_or_dropped(entry));
    }
}

/// What is urgent leaves before what was planned, and that before all else that is due. Others must not take
/// a session for idle because of what waits before it.
const URGENT: u64 = 0;
const ORDINARY: u64 = 1;
/// Planned times are rounded down to it.
const TICK: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use session_core::usage::Timeouts;
    use session_core::{FleetKey, Session, SessionId, Token, UserId, UserKey};

    use super::*;
    use crate::entry::Access;
    use crate::options::Options;

    fn entry(options: Options) -> Arc<Entry> {
        let id = SessionId::from_random([1; 16]);
        let token = Token::new(&FleetKey::from_bytes([7; 32]), id, [2; 12], [3; 16]);
        let owner = UserKey::new(UserId::new("alice").unwrap());
        let session = Session::new(owner, &token, Timestamp::EPOCH);
        Arc::new(Entry::new(session, Value::Null, Arc::new(options)))
    }

    /// However much is due, a use that keeps another node from ending its session leaves with the next call.
    #[test]
    fn what_is_urgent_leaves_first() {
        let (queue, idle) = (Queue::new(usize::MAX), Duration::from_secs(60));
        let used = Timestamp::EPOCH.plus(idle * 3 / 4);
        let make_due = |options| {
            let entry = entry(options);
            queue.apply(entry.access(&Access::default(), used), &entry, used);
            entry
        };
        let without = Options::default().with_timeouts(Timeouts::none());
        (0..3 * Touch::MAX_BATCH).for_each(|_| drop(make_due(without.clone())));
        let urgent = make_due(without.with_timeouts(Timeouts::none().with_idle(idle)));
        let taken = queue.take(Leaving::Due, used);
        assert!(taken.batch.iter().any(|(entry, _)| Arc::ptr_eq(entry, &urgent)));
        taken.confirm();
        // One that was due and becomes urgent does not stay where it is.
        let access = |at: Timestamp| {
            let effect = urgent.access(&Access::default(), at);
            queue.apply(effect, &urgent, at);
        };
        (1..=10).for_each(|n| access(used.plus(Duration::from_millis(n))));
        assert!(urgent.use_().due && !urgent.use_().urgent);
        access(used.plus(idle / 2));
        let taken = queue.take(Leaving::Due, used);
        assert!(taken.batch.iter().any(|(entry, _)| Arc::ptr_eq(entry, &urgent)));
    }

    /// The time of a flush's batch and of a request's entry, beside so many that wait. Other work on the
    /// machine makes single times longer, so the shortest of many counts.
    fn shortest(waiting: usize) -> (Duration, Duration) {
        let (entry, queue) = (entry(Options::default()), Queue::new(usize::MAX));
        (0..waiting as u64).for_each(|n| queue.plan(n / 1_000, &entry));
        let (mut batch, mut request) = (Duration::MAX, Duration::MAX);
        for _ in 0..20 {
            let begun = Instant::now();
            let taken = queue.take(Leaving::All, Timestamp::EPOCH);
            batch = batch.min(begun.elapsed());
            taken.confirm();
            let begun = Instant::now();
            (0..100).for_each(|_| queue.plan(u64::MAX, &entry));
            request = request.min(begun.elapsed());
        }
        assert!(queue.len() > waiting - 20 * 2 * Touch::MAX_BATCH);
        (batch, request)
    }

    /// A flush of 300,000 entries holds up nobody, and is not longer for each batch than a small one.
    #[test]
    fn what_is_done_under_the_lock_does_not_depend_on_how_many_wait() {
        let (few, many) = (shortest(25_000), shortest(300_000));
        assert!(many.0 < 4 * few.0, "a batch: {few:?}, then {many:?}");
        assert!(many.1 < 4 * few.1, "a hundred entries: {few:?}, then {many:?}");
    }
}
