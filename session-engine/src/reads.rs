//! Reads that are under way: callers that ask for the same session share one.

use std::collections::HashMap;

use session_core::SessionId;

use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, watch};

/// The reads that are under way, and who waits for them.
#[derive(Clone, Debug)]
pub(crate) struct Reads<T>(Arc<Mutex<Running<T>>>);

type Running<T> = HashMap<SessionId, watch::Receiver<Option<T>>>;

/// A wait for what a read finds.
pub(crate) struct Wait<T>(watch::Receiver<Option<T>>);

/// A read that its holder has to make. Dropped before its end, it is given up.
pub(crate) struct Read<T> {
    place: Place<T>,
    found: watch::Sender<Option<T>>,
}

/// The place of a read among those that are under way.
struct Place<T> {
    reads: Reads<T>,
    id: SessionId,
}

impl<T> Reads<T> {
    /// Joins the read of this session. Where none is under way, the caller has to make it.
    pub(crate) fn join(&self, id: SessionId) -> (Wait<T>, Option<Read<T>>) {
        let mut running = self.running();
        if let Some(found) = running.get(&id) {
            return (Wait(found.clone()), None);
        }
        let (sender, found) = watch::channel(None);
        running.insert(id, found.clone());
        let place = Place { reads: Self(Arc::clone(&self.0)), id };
        (Wait(found), Some(Read { place, found: sender }))
    }

    fn running(&self) -> MutexGuard<'_, Running<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Reads<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Wait<T> {
    /// What the read has found; none where it was given up.
    pub(crate) async fn found(mut self) -> Option<T> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|found| found.clone())
    }
}

impl<T> Read<T> {
    /// Tells what was found. Callers that come from now on begin a read of their own.
    pub(crate) fn end(self, found: T) {
        drop(self.place);
        self.found.send_replace(Some(found));
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        self.reads.running().remove(&self.id);
    }
}
