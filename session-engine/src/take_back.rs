//! Ends what this node has begun and nobody holds, and what a sign-in has replaced elsewhere: tried
//! again until the store has answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use session_core::store::{Selection, TenantFilter};
use session_core::{Actor, EndCause, SessionId};
use tokio::sync::Notify;

use crate::error::Error;
use crate::manager::SessionManager;
use crate::shared::Shared;

/// Sessions that have to end, with what the log will say of it.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    sessions: Mutex<BTreeMap<SessionId, (EndCause, Actor)>>,
    grown: Notify,
}

impl Owed {
    pub(crate) fn end(&self, id: SessionId, cause: EndCause, by: Actor) {
        self.sessions().insert(id, (cause, by));
        self.grown.notify_one();
    }

    /// How many still have to end.
    pub(crate) fn len(&self) -> usize {
        self.sessions().len()
    }

    fn first(&self) -> Option<(SessionId, (EndCause, Actor))> {
        self.sessions().first_key_value().map(|(id, why)| (*id, why.clone()))
    }

    fn is_done(&self, id: SessionId) {
        self.sessions().remove(&id);
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<SessionId, (EndCause, Actor)>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends one after another. Stops with the node when nothing is owed, or when the store is away then:
/// such a session stays unclaimed, and the policy and the cleanup see to it.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    let manager = SessionManager::new(Arc::clone(&shared));
    loop {
        let result = end_all(&manager).await;
        let failed = result.is_err();
        shared.health.note("take-back", result.err().map(|error| error.to_string()));
        let pause = tokio::time::sleep(PAUSE);
        tokio::select! {
            biased;
            () = stopping.stopped() => break,
            () = pause, if failed => {}
            () = shared.owed.grown.notified(), if !failed => {}
        }
    }
    if let Err(error) = end_all(&manager).await {
        tracing::warn!(%error, left = shared.owed.len(), "sessions that nobody holds are left");
    }
}

async fn end_all(manager: &SessionManager) -> Result<(), Error> {
    let owed = &manager.shared().owed;
    while let Some((id, (cause, by))) = owed.first() {
        let selection = Selection::session(id, TenantFilter::Any);
        manager.end_all(selection, cause, by, None).await?;
        owed.is_done(id);
    }
    Ok(())
}

/// Between two tries while the store is away.
const PAUSE: Duration = Duration::from_secs(1);
