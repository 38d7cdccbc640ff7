//! Reads a session into the cache; readers of one id share one read.

use std::sync::Arc;

use session_core::store::Loaded;
use session_core::{SessionId, StoreError};

use crate::cache::Filled;
use crate::ending::{Record, Remembered};
use crate::entry::Entry;
use crate::error::Error;
use crate::meter;
use crate::node::Node;
use crate::reads::Wait;
use crate::shared::Shared;

/// What a read found, for all who wait for it.
pub(crate) type Found = Result<Option<Arc<Entry>>, Error>;

/// What a read found.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The session, if it exists.
    pub(crate) entry: Option<Arc<Entry>>,
    /// Whether the read had begun before this caller came.
    pub(crate) joined: bool,
}

impl Node {
    /// Reads a session from the store and installs it.
    ///
    /// The read runs in a task of its own: a caller that goes away stops no other.
    pub(crate) async fn load(&self, id: SessionId) -> Result<Load, Error> {
        let (wait, joined) = self.join_or_begin(id);
        let gone = || Err(StoreError::unavailable("the read was given up").into());
        let entry = wait.found().await.unwrap_or_else(gone)?;
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

    fn join_or_begin(&self, id: SessionId) -> (Wait<Found>, bool) {
        let (wait, read) = self.shared().reads.join(id);
        let joined = read.is_none();
        if let Some(read) = read {
            let shared = Arc::clone(self.shared());
            self.shared().spawn(async move {
                let found = fill(&shared, id).await;
                meter::loaded(found.as_ref().map(Option::is_some));
                read.end(found);
            });
        }
        (wait, joined)
    }
}

impl Shared {
    /// A cached session; none that looks expired here, because it may be in use on another node.
    pub(crate) fn unexpired(&self, id: SessionId) -> Option<Arc<Entry>> {
        self.cache.get(&id).filter(|entry| !entry.expired(self.now()))
    }
}

async fn fill(shared: &Shared, id: SessionId) -> Found {
    // None while a sign-in that begins this very session is under way.
    let slot = shared.cache.begin_fill(id);
    loop {
        let permit = shared.load_permit().await?;
        let loaded = shared.store_call("load", shared.store.load(id)).await?;
        // A claims provider that is slow takes no other session's place.
        drop(permit);
        let Some(Loaded { session, .. }) = loaded else { return Ok(None) };
        let claims = {
            let _permit = shared.claims_permit().await?;
            shared.claims(&session).await?
        };
        let entry = Entry::new(session, claims, Arc::clone(&shared.options));
        let Some(slot) = &slot else { return Ok(Some(Arc::new(entry))) };
        match slot.finish(entry, shared.now()) {
            Filled::Installed(entry) => return Ok(Some(entry)),
            Filled::Ended => return Ok(None),
            Filled::Again => {}
        }
    }
}
