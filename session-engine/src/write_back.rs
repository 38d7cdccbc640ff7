//! Takes unstored accesses to the store: planned, batched, bounded.
//!
//! An entry with unstored accesses is held by the queue at most once for its planned time, and
//! once more when it is due. So the queue grows with sessions, never with requests, and keeps
//! alive what the cache lets go.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::checker::{AccessEffect, Unstored};
use session_core::store::Touch;
use session_core::{EndCause, SessionId, Timestamp};

use crate::entry::Entry;
use crate::shared::Shared;

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
    fn take(&self, shared: &Shared, until: Option<Timestamp>) -> Vec<(Arc<Entry>, Unstored)> {
        let mut waiting = self.waiting();
        let mut leaving = std::mem::take(&mut waiting.due);
        while let Some(next) = waiting.planned.peek() {
            if until.is_some_and(|until| next.key.0.0 > until) {
                break;
            }
            let Some(Planned { entry, .. }) = waiting.planned.pop() else { break };
            match planned_later(shared, &entry, until) {
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
    shared: &Shared,
    entry: &Entry,
    until: Option<Timestamp>,
) -> Option<Reverse<(Timestamp, SessionId)>> {
    let options = &shared.options;
    let mut use_ = entry.use_();
    let planned = use_.activity.planned(&options.write_back, &options.timeouts);
    let later = planned.filter(|planned| until.is_some_and(|until| *planned > until));
    use_.planned = later.is_some();
    later.map(|at| Reverse((at, entry.session.id)))
}

/// Flushes what is due every `flush_interval`, and the rest at the end.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    let mut failing = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(shared.options.write_back.flush_interval) => {}
            () = stopping.stopped() => break,
        }
        let result = flush(&shared, Some(shared.now())).await;
        report(&shared, &mut failing, result);
    }
    if let Err(error) = flush(&shared, None).await {
        tracing::error!(%error, "last accessed times were lost at shutdown");
    }
}

/// Writes back in batches; what could not be written is due again.
pub(crate) async fn flush(
    shared: &Shared,
    until: Option<Timestamp>,
) -> Result<(), crate::error::Error> {
    let mut leaving = shared.queue.take(shared, until);
    while !leaving.is_empty() {
        let rest = leaving.split_off(leaving.len().min(BATCH));
        let batch: Vec<_> =
            leaving.iter().map(|(entry, unstored)| touch(entry, unstored)).collect();
        match shared.store_call(shared.store.touch(&batch)).await {
            Ok(gone) => {
                leaving
                    .iter()
                    .for_each(|(entry, unstored)| entry.use_().activity.confirm(unstored));
                gone.into_iter().for_each(|id| shared.cache.end(id, EndCause::Revoked));
            }
            Err(error) => {
                give_back(shared, leaving.into_iter().chain(rest));
                return Err(error);
            }
        }
        leaving = rest;
    }
    Ok(())
}

fn touch(entry: &Entry, unstored: &Unstored) -> Touch {
    let Unstored { last_accessed, new_ips, .. } = unstored;
    Touch { id: entry.session.id, last_accessed: *last_accessed, ip_addresses: new_ips.clone() }
}

fn give_back(shared: &Shared, unwritten: impl Iterator<Item = (Arc<Entry>, Unstored)>) {
    for (entry, unstored) in unwritten {
        entry.use_().activity.give_back(unstored);
        shared.queue.due(entry);
    }
}

/// Says once that an outage began, and once that it ended.
fn report(shared: &Shared, failing: &mut bool, result: Result<(), crate::error::Error>) {
    match result {
        Ok(()) if *failing => tracing::info!("write-back works again"),
        Err(ref error) if !*failing => tracing::warn!(%error, "write-back fails and is repeated"),
        _ => {}
    }
    *failing = result.is_err();
    shared.health.note("write-back", result.err().map(|error| error.to_string()));
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

/// Sessions in one statement.
const BATCH: usize = 500;
