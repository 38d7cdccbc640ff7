//! Connections that outlive a request and end with their session.

use std::collections::BTreeMap;
use std::time::Duration;

use session_core::{EndCause, SessionId};

use crate::sync::{Arc, Instant, Mutex, MutexGuard, PoisonError, watch};

/// Sessions whose end a connection waits for. In the order of their ids, so that a doubt about all of them
/// wakes the tasks of a simulation in the same order in every run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watchers(Arc<Mutex<Watched>>);

type Watched = BTreeMap<SessionId, Watching>;

/// A session, for all of its watchers.
#[derive(Debug, Default)]
struct Watching {
    signal: watch::Sender<Seen>,
    /// The last read of it failed.
    failure: Option<Failure>,
}

/// The pause after a failure, until the next try.
#[derive(Clone, Copy, Debug)]
struct Failure {
    pause: Duration,
    until: Instant,
}

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
        let seen = self.watched().entry(id).or_default().signal.subscribe();
        Watch { seen, _place: Place { id, watchers: self.clone() } }
    }

    pub(crate) fn ended(&self, id: SessionId, cause: EndCause) {
        if let Some(watching) = self.watched().get(&id) {
            watching.signal.send_replace(Seen::Ended(cause));
        }
    }

    /// A session has been read for a watcher, or that has failed. After a failure all of its watchers leave it
    /// alone for a while: for `least`, and twice as long each time.
    pub(crate) fn tried(&self, id: SessionId, succeeded: bool, least: Duration) {
        let (mut watched, now) = (self.watched(), Instant::now());
        let Some(watching) = watched.get_mut(&id) else { return };
        watching.failure = match watching.failure {
            _ if succeeded => None,
            // Several have waited for one read.
            Some(failure) if failure.until > now => Some(failure),
            last => {
                // One of long ago says nothing of this one.
                let last = last.filter(|last| last.until + last.pause > now);
                let pause = last.map_or(least, |last| 2 * last.pause).min(MOST_PAUSE);
                Some(Failure { pause, until: now + pause })
            }
        };
    }

    /// How long it is until a session is to be read again for its watchers; none where it may be now.
    pub(crate) fn pause(&self, id: SessionId) -> Option<Duration> {
        let until = self.watched().get(&id)?.failure?.until;
        Some(until.saturating_duration_since(Instant::now())).filter(|pause| !pause.is_zero())
    }

    /// Makes every watcher ask the store.
    pub(crate) fn doubt(&self) {
        self.watched().values_mut().for_each(doubt);
    }

    /// Makes the watchers of a session ask the store.
    pub(crate) fn doubt_session(&self, id: SessionId) {
        self.watched().get_mut(&id).into_iter().for_each(doubt);
    }

    /// How many waits are open.
    #[cfg(feature = "metrics")]
    pub(crate) fn len(&self) -> usize {
        self.watched().values().map(|watching| watching.signal.receiver_count()).sum()
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn doubt(watching: &mut Watching) {
    watching.failure = None;
    watching.signal.send_if_modified(|seen| match seen {
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
        let signal = watched.get(&self.id).map(|watching| &watching.signal);
        if signal.is_some_and(|signal| signal.receiver_count() == 0) {
            watched.remove(&self.id);
        }
    }
}

/// The longest pause between two tries to read a watched session.
const MOST_PAUSE: Duration = Duration::from_secs(30);
