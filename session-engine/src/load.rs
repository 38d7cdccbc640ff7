//! Reads a session into the cache; readers of one id share one read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::store::Loaded;
use session_core::{SessionId, StoreError};
use tokio::sync::watch;

use crate::cache::Filled;
use crate::entry::Entry;
use crate::error::Error;
use crate::manager::SessionManager;
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
    /// The read runs in a task of its own: a caller that goes away takes nobody along.
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
            drop(end);
            sender.send_replace(Some(found));
        });
        (done, false)
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
    let Some(slot) = shared.cache.begin_fill(id) else {
        // A sign-in is installing this very session; nobody else can have its token yet.
        return Ok(shared.cache.get(&id));
    };
    let limit = shared.options.store_timeout;
    let permit = tokio::time::timeout(limit, shared.loads_under_way.acquire()).await;
    let _permit = permit.map_err(|_| StoreError::timed_out("load", limit))?;
    loop {
        let Some(Loaded { session, .. }) = shared.store_call("load", shared.store.load(id)).await?
        else {
            shared.cache.note_unknown(id, shared.now());
            return Ok(None);
        };
        let claims = shared.claims(&session).await?;
        let entry = Entry::new(session, claims, Arc::clone(&shared.options));
        match slot.finish(entry, shared.now()) {
            Filled::Installed(entry) => return Ok(Some(entry)),
            Filled::Ended => return Ok(None),
            Filled::Again => {}
        }
    }
}
