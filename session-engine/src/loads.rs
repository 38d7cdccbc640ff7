//! The reads that are under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use session_core::SessionId;
use tokio::sync::watch;

use crate::entry::Entry;
use crate::error::Error;

/// What a read found.
pub(crate) type Found = Result<Option<Arc<Entry>>, Error>;

/// Who waits for a read hears what it found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loads(Arc<Mutex<HashMap<SessionId, watch::Receiver<Option<Found>>>>>);

impl Loads {
    pub(crate) fn running(
        &self,
    ) -> MutexGuard<'_, HashMap<SessionId, watch::Receiver<Option<Found>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
