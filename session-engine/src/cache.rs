//! The node's memory of sessions, and the rule that a fill never wins against an end.
//!
//! A fill takes a *slot* before it reads the store and installs what it read only while holding
//! the slot's lock. A call that learns that a session ended or changed marks the slot under the same
//! lock and removes the entry. So whichever comes second sees the first: a mark before the
//! install discards what was read; an install before the mark is removed by it.

use std::collections::HashMap;
use std::time::Duration;

use session_core::planted::{self, Defect};
use session_core::store::Selection;
use session_core::{EndCause, SessionId, Timestamp};

use crate::ending::{Record, Remembered};
use crate::entry::Entry;
use crate::memory::Memory;
use crate::options::Options;
use crate::queue::Queue;
use crate::sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

pub(crate) struct Cache {
    memory: Memory,
    /// Entries of an earlier generation answer no request.
    generation: AtomicU64,
    queue: Arc<Queue>,
    slots: Mutex<HashMap<SessionId, Slot>>,
    unknown_for: Duration,
}

/// The mark on a fill that is under way. Fills of one id do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Slot {
    #[default]
    Clear,
    /// The record changed: read it again.
    Changed,
    /// The session ended: there is nothing to install.
    Ended,
}

/// How a fill ended.
pub(crate) enum Filled {
    /// The entry is in the cache.
    Installed(Arc<Entry>),
    /// The session ended during the read.
    Ended,
    /// The record changed during the read; the slot is clear again.
    Again,
}

impl Cache {
    pub(crate) fn new(options: &Options, queue: Arc<Queue>) -> Self {
        Self {
            memory: Memory::new(options, Arc::clone(&queue)),
            generation: AtomicU64::new(0),
            queue,
            slots: Mutex::default(),
            unknown_for: options.unknown_for,
        }
    }

    pub(crate) fn get(&self, id: &SessionId) -> Option<Arc<Entry>> {
        self.memory.entry(id).filter(|entry| entry.is_of(self.generation.load(Ordering::Acquire)))
    }

    /// What this node has seen of a session's use, also where its record has to be read again.
    pub(crate) fn seen(&self, id: &SessionId) -> Option<Arc<Entry>> {
        self.memory.entry(id)
    }

    /// How many sessions there are, also those that have to be read again.
    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// Why a session that is not in the cache certainly ended, if this node remembers.
    pub(crate) fn end_cause(&self, id: &SessionId) -> Option<EndCause> {
        self.memory.ended(id).map(|ended| ended.cause())
    }

    /// What is remembered of a session that has ended.
    pub(crate) fn ended(&self, id: &SessionId) -> Option<Remembered> {
        self.memory.ended(id)
    }

    /// The history has told how a session ended.
    pub(crate) fn remember(&self, id: SessionId, record: Arc<Record>) {
        self.memory.note_ended(id, Remembered::Record(record));
    }

    pub(crate) fn is_unknown(&self, id: &SessionId, now: Timestamp) -> bool {
        self.memory.unknown_since(id).is_some_and(|at| now.since(at) < self.unknown_for)
    }

    pub(crate) fn note_unknown(&self, id: SessionId, now: Timestamp) {
        self.memory.note_unknown(id, now);
    }

    /// Begins a fill; none if one of the same id is under way.
    pub(crate) fn begin_fill(&self, id: SessionId) -> Option<Fill<'_>> {
        let mut slots = self.slots();
        if slots.contains_key(&id) {
            return None;
        }
        slots.insert(id, Slot::Clear);
        Some(Fill { cache: self, id })
    }

    fn install(&self, entry: Entry, now: Timestamp) -> Filled {
        let id = entry.session.id;
        let mut slots = self.slots();
        match slots.get_mut(&id).map(std::mem::take) {
            _ if planted::is(Defect::FillAfterRevoke) => {}
            Some(Slot::Changed) => return Filled::Again,
            Some(Slot::Ended) => return Filled::Ended,
            Some(Slot::Clear) | None => {}
        }
        if self.memory.ended(&id).is_some() && !planted::is(Defect::FillAfterRevoke) {
            return Filled::Ended;
        }
        if let Some(old) = self.memory.entry(&id) {
            entry.take_over(&old);
        }
        entry.install(self.generation.load(Ordering::Acquire));
        let entry = Arc::new(entry);
        self.queue.apply(entry.not_held(), &entry, now);
        self.memory.insert(Arc::clone(&entry));
        self.memory.forget_unknown(&id);
        Filled::Installed(entry)
    }

    /// A session ended: no path of this node makes it valid again.
    pub(crate) fn end(&self, id: SessionId, cause: EndCause) {
        let mut slots = self.slots();
        if planted::is(Defect::EndedForgotten) && self.memory.entry(&id).is_none() {
            return;
        }
        if let Some(slot) = slots.get_mut(&id) {
            *slot = Slot::Ended;
        }
        if !matches!(self.memory.ended(&id), Some(Remembered::Record(_))) {
            self.memory.note_ended(id, Remembered::Cause(cause));
        }
        if let Some(entry) = self.memory.remove(&id) {
            entry.mark_ended();
        }
    }

    /// A session's record changed: the next request reads it again.
    pub(crate) fn invalidate(&self, id: SessionId) {
        let mut slots = self.slots();
        if let Some(slot) = slots.get_mut(&id).filter(|slot| **slot == Slot::Clear) {
            *slot = Slot::Changed;
        }
        if let Some(entry) = self.memory.entry(&id) {
            entry.mark_stale();
        }
    }

    /// The selected sessions may have ended: the next request of each reads it again.
    pub(crate) fn doubt(&self, selection: &Selection) {
        if let Some(ids) = &selection.ids {
            ids.iter().for_each(|id| self.invalidate(*id));
            return;
        }
        let mut slots = self.slots();
        let unmarked = slots.values_mut().filter(|slot| **slot == Slot::Clear);
        unmarked.for_each(|slot| *slot = Slot::Changed);
        let selected = self.memory.entries().filter(|entry| selection.covers(&entry.session));
        selected.for_each(|entry| entry.mark_stale());
    }

    /// Anything may have changed: every session is read again. What this node has seen of their use stays.
    ///
    /// Ends that were heard of are forgotten too: a store that came back from the past may know
    /// better.
    pub(crate) fn clear(&self) {
        let mut slots = self.slots();
        slots.values_mut().for_each(|slot| *slot = Slot::Changed);
        self.generation.fetch_add(1, Ordering::AcqRel);
        if !planted::is(Defect::EndedKept) {
            self.memory.forget_negatives();
        }
    }

    /// Plans the write-back of every entry that waits for one and found no room.
    pub(crate) fn plan_again(&self, now: Timestamp) {
        self.memory.entries().for_each(|entry| self.queue.apply(entry.not_held(), &entry, now));
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<SessionId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fill that is under way; it ends when this is dropped.
pub(crate) struct Fill<'c> {
    cache: &'c Cache,
    id: SessionId,
}

impl Fill<'_> {
    /// Installs what was read, unless a mark says otherwise.
    pub(crate) fn finish(&self, entry: Entry, now: Timestamp) -> Filled {
        self.cache.install(entry, now)
    }
}

impl Drop for Fill<'_> {
    fn drop(&mut self) {
        self.cache.slots().remove(&self.id);
    }
}
