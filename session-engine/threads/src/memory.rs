//! In place of the engine's caches, which other crates make: the same calls, each of them one step.
//! Room is made as soon as there is too much.

use session_core::{SessionId, Timestamp};

use crate::ending::Remembered;
use crate::entry::Entry;
use crate::options::Options;
use crate::queue::Queue;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) struct Memory {
    entries: Bounded<Arc<Entry>>,
    ended: Bounded<Remembered>,
    unknown: Bounded<Timestamp>,
    queue: Arc<Queue>,
}

impl Memory {
    pub(crate) fn new(options: &Options, queue: Arc<Queue>) -> Self {
        let negative = usize::try_from(options.negative_capacity).unwrap_or(usize::MAX);
        Self {
            entries: Bounded::new(options.cache_capacity),
            ended: Bounded::new(negative),
            unknown: Bounded::new(negative),
            queue,
        }
    }

    pub(crate) fn entry(&self, id: &SessionId) -> Option<Arc<Entry>> {
        self.entries.get(id)
    }

    pub(crate) fn insert(&self, entry: Arc<Entry>) {
        let evicted = self.entries.insert(entry.session.id, entry);
        evicted.iter().for_each(|entry| self.queue.evicted(entry));
    }

    pub(crate) fn remove(&self, id: &SessionId) -> Option<Arc<Entry>> {
        self.entries.remove(id)
    }

    /// For a planted fault.
    pub(crate) fn remove_unless(&self, id: &SessionId, fault: bool) -> Option<Arc<Entry>> {
        if fault { None } else { self.remove(id) }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Arc<Entry>> {
        self.entries
            .all()
            .iter()
            .map(|(_, entry)| Arc::clone(entry))
            .collect::<Vec<_>>()
            .into_iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.all().len()
    }

    pub(crate) fn ended(&self, id: &SessionId) -> Option<Remembered> {
        self.ended.get(id)
    }

    pub(crate) fn note_ended(&self, id: SessionId, ended: Remembered) {
        self.ended.insert(id, ended);
    }

    pub(crate) fn unknown_since(&self, id: &SessionId) -> Option<Timestamp> {
        self.unknown.get(id)
    }

    pub(crate) fn note_unknown(&self, id: SessionId, at: Timestamp) {
        self.unknown.insert(id, at);
    }

    pub(crate) fn forget_unknown(&self, id: &SessionId) {
        self.unknown.remove(id);
    }

    pub(crate) fn forget_negatives(&self) {
        self.ended.all().clear();
        self.unknown.all().clear();
    }
}

/// The oldest leave.
struct Bounded<V> {
    values: Mutex<Vec<(SessionId, V)>>,
    capacity: usize,
}

impl<V: Clone> Bounded<V> {
    fn new(capacity: usize) -> Self {
        Self { values: Mutex::default(), capacity }
    }

    fn get(&self, id: &SessionId) -> Option<V> {
        self.all().iter().find(|(known, _)| known == id).map(|(_, value)| value.clone())
    }

    fn remove(&self, id: &SessionId) -> Option<V> {
        let mut values = self.all();
        let place = values.iter().position(|(known, _)| known == id)?;
        Some(values.remove(place).1)
    }

    /// Returns what has left.
    fn insert(&self, id: SessionId, value: V) -> Vec<V> {
        let mut values = self.all();
        values.retain(|(known, _)| *known != id);
        values.push((id, value));
        let surplus = values.len().saturating_sub(self.capacity);
        values.drain(..surplus).map(|(_, value)| value).collect()
    }

    fn all(&self) -> MutexGuard<'_, Vec<(SessionId, V)>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
