//! What a node remembers of sessions, bounded: those in its cache, those that ended and ids that
//! belong to none. The rules about them are in [`crate::cache`].

use std::sync::Arc;

use foldhash::fast::FixedState;
use moka::policy::EvictionPolicy;
use quick_cache::UnitWeighter;
use session_core::planted::{self, Defect};
use session_core::{SessionId, Timestamp};

use crate::ending::Remembered;
use crate::entry::Entry;
use crate::meter;
use crate::options::Options;
use crate::queue::Queue;

pub(crate) struct Memory {
    entries: Entries,
    ended: moka::sync::Cache<SessionId, Remembered>,
    /// Since when. For how long that counts, the fleet's time decides.
    unknown: moka::sync::Cache<SessionId, Timestamp>,
}

/// Hashed with a fixed seed: which entry leaves for lack of room is the same in every run. No client can
/// choose ids that meet in one place: an entry is one of a session that the store has, whose id the fleet
/// has made of random bytes.
type Entries =
    quick_cache::sync::Cache<SessionId, Arc<Entry>, UnitWeighter, FixedState, FlushOnEviction>;

impl Memory {
    pub(crate) fn new(options: &Options, queue: Arc<Queue>) -> Self {
        Self {
            entries: Entries::with(
                options.cache_capacity.min(1 << 16),
                options.cache_capacity as u64,
                UnitWeighter,
                FixedState::default(),
                FlushOnEviction(queue),
            ),
            ended: negatives(options).build(),
            unknown: negatives(options).build(),
        }
    }

    pub(crate) fn entry(&self, id: &SessionId) -> Option<Arc<Entry>> {
        self.entries.get(id)
    }

    pub(crate) fn insert(&self, entry: Arc<Entry>) {
        self.entries.insert(entry.session.id, entry);
    }

    pub(crate) fn remove(&self, id: &SessionId) -> Option<Arc<Entry>> {
        self.entries.remove(id).map(|(_, entry)| entry)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Arc<Entry>> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
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
        self.unknown.invalidate(id);
    }

    /// Forgets which sessions ended and which ids are unknown.
    pub(crate) fn forget_negatives(&self) {
        self.ended.invalidate_all();
        self.unknown.invalidate_all();
    }
}

/// The least recently used leaves: a session that has just ended was never asked for before.
fn negatives<V: Clone + Send + Sync + 'static>(
    options: &Options,
) -> moka::sync::CacheBuilder<SessionId, V, moka::sync::Cache<SessionId, V>> {
    moka::sync::CacheBuilder::new(options.negative_capacity).eviction_policy(EvictionPolicy::lru())
}

/// An entry that leaves for lack of room is written back with the next flush.
#[derive(Clone)]
struct FlushOnEviction(Arc<Queue>);

impl quick_cache::Lifecycle<SessionId, Arc<Entry>> for FlushOnEviction {
    type RequestState = ();

    fn on_evict(&self, _state: &mut (), _id: SessionId, entry: Arc<Entry>) {
        meter::left_the_cache();
        if planted::is(Defect::EvictionLost) {
            drop(entry.take());
        }
        self.0.evicted(&entry);
    }
}
