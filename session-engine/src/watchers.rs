//! Connections that outlive a request and end with their session.

use std::collections::BTreeMap;

use session_core::{EndCause, SessionId};

use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, watch};

/// Sessions whose end a connection waits for. In the order of their ids, so that a doubt about all of them
/// wakes the tasks of a simulation in the same order in every run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watchers(Arc<Mutex<Watched>>);

type Watched = BTreeMap<SessionId, watch::Sender<Seen>>;

/// What a watcher is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Seen {
    #[default]
    Nothing,
    /// Something may have been missed: ask the store.
    Doubt,
    /// The session ended.
    Ended(EndCause),
}

/// One wait.
pub(crate) struct Watch {
    seen: watch::Receiver<Seen>,
    /// Dropped after `seen`: of watchers who leave at once, the last finds that it is the last.
    _place: Place,
}

/// A session is forgotten with its last watcher.
struct Place {
    id: SessionId,
    watchers: Watchers,
}

impl Watchers {
    pub(crate) fn watch(&self, id: SessionId) -> Watch {
        let seen = self.watched().entry(id).or_default().subscribe();
        Watch { seen, _place: Place { id, watchers: self.clone() } }
    }

    pub(crate) fn ended(&self, id: SessionId, cause: EndCause) {
        if let Some(signal) = self.watched().get(&id) {
            signal.send_replace(Seen::Ended(cause));
        }
    }

    /// Makes every watcher ask the store.
    pub(crate) fn doubt(&self) {
        self.watched().values().for_each(doubt);
    }

    /// Makes the watchers of a session ask the store.
    pub(crate) fn doubt_session(&self, id: SessionId) {
        self.watched().get(&id).into_iter().for_each(doubt);
    }

    /// How many waits are open.
    #[cfg(feature = "metrics")]
    pub(crate) fn len(&self) -> usize {
        self.watched().values().map(watch::Sender::receiver_count).sum()
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn doubt(signal: &watch::Sender<Seen>) {
    signal.send_if_modified(|seen| match seen {
        Seen::Ended(_) => false,
        Seen::Nothing | Seen::Doubt => {
            *seen = Seen::Doubt;
            true
        }
    });
}

impl Watch {
    /// The next thing seen since the last call.
    pub(crate) async fn next(&mut self) -> Seen {
        match self.seen.changed().await {
            Ok(()) => *self.seen.borrow_and_update(),
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut watched = self.watchers.watched();
        if watched.get(&self.id).is_some_and(|signal| signal.receiver_count() == 0) {
            watched.remove(&self.id);
        }
    }
}
