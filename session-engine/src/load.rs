//! Reads a session into the cache; readers of one id share one read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::store::Loaded;
use session_core::{SessionId, StoreError};
use tokio::sync::watch;

use crate::cache::Filled;
use crate::ending::{Record, Remembered};
use crate::entry::Entry;
use crate::error::Error;
use crate::manager::SessionManager;
use crate::meter;
use crate::shared::Shared;

/// What a read found, for all who wait for it.
type Found = Result<Option<Arc<Entry>>, Error>;
type Running = HashMap<SessionId, watch::Receiver<Option<Found>>>;

/// The reads that are under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loads(Arc<Mutex<Running>>);

impl Loads {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a read found.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The session, if it exists.
    pub(crate) entry: Option<Arc<Entry>>,
    /// Whether the read had begun before this caller came.
    pub(crate) joined: bool,
}

impl SessionManager {
    /// Reads a session from the store and installs it.
    ///
    /// The read runs in a task of its own: a caller that goes away stops no other.
    pub(crate) async fn load(&self, id: SessionId) -> Result<Load, Error> {
        let (mut done, joined) = self.join_or_begin(id);
        let found = match done.wait_for(Option::is_some).await {
            Ok(found) => found.clone(),
            Err(_) => None,
        };
        let gone = || Err(StoreError::unavailable("the read was given up").into());
        let entry = found.unwrap_or_else(gone)?;
        Ok(Load { entry, joined })
    }

    /// Asks the history how a session has ended, and remembers the answer.
    pub(crate) async fn read_ending(&self, id: SessionId) -> Result<Option<Arc<Record>>, Error> {
        let shared = Arc::clone(self.shared());
        let read = async move {
            let _permit = shared.load_permit().await?;
            // Another caller may have asked.
            if let Some(Remembered::Record(record)) = shared.cache.ended(&id) {
                return Ok(Some(record));
            }
            if shared.cache.is_unknown(&id, shared.now()) {
                return Ok(None);
            }
            let Some(ended) = shared.store_call("ended", shared.store.ended(id)).await? else {
                shared.cache.note_unknown(id, shared.now());
                return Ok(None);
            };
            let record = Arc::new(Record::new(ended));
            shared.cache.remember(id, Arc::clone(&record));
            Ok(Some(record))
        };
        self.shared().detached(read).await
    }

    fn join_or_begin(&self, id: SessionId) -> (watch::Receiver<Option<Found>>, bool) {
        let mut running = self.shared().loads.running();
        if let Some(done) = running.get(&id) {
            return (done.clone(), true);
        }
        let (sender, done) = watch::channel(None);
        running.insert(id, done.clone());
        drop(running);
        let manager = self.clone();
        self.shared().spawn(async move {
            let end = EndLoad { manager: &manager, id };
            let found = fill(manager.shared(), id).await;
            meter::loaded(found.as_ref().map(Option::is_some));
            drop(end);
            sender.send_replace(Some(found));
        });
        (done, false)
    }
}

impl Shared {
    /// A cached session; none that looks expired here, because it may be in use on another node.
    pub(crate) fn unexpired(&self, id: SessionId) -> Option<Arc<Entry>> {
        self.cache.get(&id).filter(|entry| !entry.expired(self.now()))
    }
}

/// Leaves no trace of a read, however it ends.
struct EndLoad<'m> {
    manager: &'m SessionManager,
    id: SessionId,
}

impl Drop for EndLoad<'_> {
    fn drop(&mut self) {
        self.manager.shared().loads.running().remove(&self.id);
    }
}

async fn fill(shared: &Shared, id: SessionId) -> Found {
    // None while a sign-in that begins this very session is under way.
    let slot = shared.cache.begin_fill(id);
    let _permit = shared.load_permit().await?;
    loop {
        let Some(Loaded { session, .. }) = shared.store_call("load", shared.store.load(id)).await?
        else {
            return Ok(None);
        };
        let claims = shared.claims(&session).await?;
        let entry = Entry::new(session, claims, Arc::clone(&shared.options));
        let Some(slot) = &slot else { return Ok(Some(Arc::new(entry))) };
        match slot.finish(entry, shared.now()) {
            Filled::Installed(entry) => return Ok(Some(entry)),
            Filled::Ended => return Ok(None),
            Filled::Again => {}
        }
    }
}
