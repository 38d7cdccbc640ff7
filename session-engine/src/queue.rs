//! What waits for its write-back: planned, due, bounded.
//!
//! An entry with unstored accesses is held by the queue at most once for its planned time, and
//! once more when it is due. So the queue grows with sessions, never with requests, and keeps
//! alive what the cache lets go.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::checker::{AccessEffect, Unstored};
use session_core::{SessionId, Timestamp};

use crate::entry::Entry;
use crate::options::Options;

/// Entries that wait for their write-back.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<Waiting>,
    capacity: usize,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    due: Vec<Arc<Entry>>,
    planned: BinaryHeap<Planned>,
}

/// Ordered by time, then by id, so that the order of a flush can be told beforehand.
#[derive(Debug)]
struct Planned {
    key: Reverse<(Timestamp, SessionId)>,
    entry: Arc<Entry>,
}

impl Queue {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), capacity, dropped: AtomicU64::new(0) }
    }

    /// Does what an access asks for.
    pub(crate) fn apply(&self, effect: AccessEffect, entry: &Arc<Entry>) {
        match effect {
            AccessEffect::None => {}
            AccessEffect::Plan(at) => self.plan(at, Arc::clone(entry)),
            AccessEffect::Due => self.due(Arc::clone(entry)),
        }
    }

    /// Leaves with the next flush.
    pub(crate) fn due(&self, entry: Arc<Entry>) {
        let mut waiting = self.waiting();
        if waiting.due.len() < self.capacity {
            waiting.due.push(entry);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many accesses were given up because the store was away for too long.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn plan(&self, at: Timestamp, entry: Arc<Entry>) {
        let key = Reverse((at, entry.session.id));
        self.waiting().planned.push(Planned { key, entry });
    }

    /// Everything that is due now, or everything there is.
    pub(crate) fn take(
        &self,
        options: &Options,
        until: Option<Timestamp>,
    ) -> Vec<(Arc<Entry>, Unstored)> {
        let mut waiting = self.waiting();
        let mut leaving = std::mem::take(&mut waiting.due);
        while let Some(next) = waiting.planned.peek() {
            if until.is_some_and(|until| next.key.0.0 > until) {
                break;
            }
            let Some(Planned { entry, .. }) = waiting.planned.pop() else { break };
            match planned_later(options, &entry, until) {
                Some(key) => waiting.planned.push(Planned { key, entry }),
                None => leaving.push(entry),
            }
        }
        drop(waiting);
        let taken = leaving.into_iter().filter_map(|entry| entry.take().map(|u| (entry, u)));
        taken.collect()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The new key of an entry that has been written back since it was planned.
fn planned_later(
    options: &Options,
    entry: &Entry,
    until: Option<Timestamp>,
) -> Option<Reverse<(Timestamp, SessionId)>> {
    let mut use_ = entry.use_();
    let planned = use_.activity.planned(&options.write_back, &entry.timeouts());
    let later = planned.filter(|planned| until.is_some_and(|until| *planned > until));
    use_.planned = later.is_some();
    later.map(|at| Reverse((at, entry.session.id)))
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
