//! What waits for its write-back: planned, due, bounded.
//!
//! An entry with unstored accesses is held by the queue at most once for its planned time, and
//! once more when it is due; a session that is read again has an entry more for a while. The capacity
//! bounds both. The queue keeps alive what the cache lets go. Times are those of the monotonic clock: no jump of another clock
//! delays a write-back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::checker::{AccessEffect, Unstored};
use session_core::store::Touch;
use session_core::{SessionId, Timestamp};
use tokio::time::Instant;

use crate::entry::Entry;
use crate::meter;

/// Entries that wait for their write-back.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<Waiting>,
    capacity: usize,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    due: VecDeque<Arc<Entry>>,
    planned: BinaryHeap<Planned>,
}

/// Ordered by time, then by id, so that the order of a flush can be told beforehand.
#[derive(Debug)]
struct Planned {
    key: Reverse<(Instant, SessionId)>,
    entry: Arc<Entry>,
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
        Self { state: Mutex::default(), capacity, dropped: AtomicU64::new(0) }
    }

    /// Does what an access at `now` asks for.
    pub(crate) fn apply(&self, effect: AccessEffect, entry: &Arc<Entry>, now: Timestamp) {
        match effect {
            AccessEffect::None => {}
            AccessEffect::Plan(at) => self.plan(at, Arc::clone(entry), now),
            AccessEffect::Due => {
                self.due(entry);
            }
        }
    }

    /// Leaves with the next flush. Where there is no room, the entry's next access asks again.
    pub(crate) fn due(&self, entry: &Arc<Entry>) -> bool {
        if std::mem::replace(&mut entry.use_().due, true) {
            return true;
        }
        let mut waiting = self.waiting();
        let has_room = waiting.due.len() < self.capacity;
        if has_room {
            waiting.due.push_back(Arc::clone(entry));
        }
        drop(waiting);
        if !has_room {
            entry.use_().due = false;
        }
        has_room
    }

    /// As [`Queue::due`], for an entry that leaves the cache: without room, its accesses are lost.
    pub(crate) fn due_or_dropped(&self, entry: &Arc<Entry>) {
        if !self.due(entry) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            meter::dropped();
        }
    }

    /// How many sessions' accesses were given up because the store was away for too long.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many entries wait.
    pub(crate) fn len(&self) -> usize {
        let waiting = self.waiting();
        waiting.due.len() + waiting.planned.len()
    }

    fn plan(&self, at: Timestamp, entry: Arc<Entry>, now: Timestamp) {
        let at = entry.when(at, now).unwrap_or_else(Instant::now);
        let key = Reverse((at, entry.session.id));
        let mut waiting = self.waiting();
        if waiting.planned.len() < self.capacity {
            waiting.planned.push(Planned { key, entry });
            return;
        }
        drop(waiting);
        // No room for a later time: now.
        entry.use_().planned = false;
        self.due(&entry);
    }

    /// The next batch of what leaves. Looks at no more than two batches at a time, because requests
    /// wait for the same lock.
    pub(crate) fn take(&self, leaving: Leaving, now: Timestamp) -> Vec<(Arc<Entry>, Unstored)> {
        let mut waiting = self.waiting();
        let count = waiting.due.len().min(Touch::MAX_BATCH);
        let mut batch: Vec<_> = waiting.due.drain(..count).collect();
        let instant = Instant::now();
        let mut looked_at = 0;
        while batch.len() < Touch::MAX_BATCH && looked_at < Touch::MAX_BATCH {
            looked_at += 1;
            let due = |next: &Planned| leaving == Leaving::All || next.key.0.0 <= instant;
            if !waiting.planned.peek().is_some_and(due) {
                break;
            }
            let Some(Planned { entry, .. }) = waiting.planned.pop() else { break };
            match planned_later(&entry, leaving, now) {
                Some(at) => {
                    let key = Reverse((at, entry.session.id));
                    waiting.planned.push(Planned { key, entry });
                }
                None => batch.push(entry),
            }
        }
        drop(waiting);
        batch.into_iter().filter_map(|entry| entry.take().map(|u| (entry, u))).collect()
    }

    /// Whether [`Queue::take`] would look at something.
    pub(crate) fn has(&self, leaving: Leaving) -> bool {
        let waiting = self.waiting();
        let instant = Instant::now();
        let due = |next: &Planned| leaving == Leaving::All || next.key.0.0 <= instant;
        !waiting.due.is_empty() || waiting.planned.peek().is_some_and(due)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The new time of an entry that has been written back since it was planned.
fn planned_later(entry: &Entry, leaving: Leaving, now: Timestamp) -> Option<Instant> {
    let later = entry.planned().filter(|_| leaving == Leaving::Due);
    let later = later.and_then(|at| entry.when(at, now));
    entry.use_().planned = later.is_some();
    later
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}
