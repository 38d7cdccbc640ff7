//! Waits for the end of a session, for connections that outlive a request.

use std::sync::Arc;
use std::time::Duration;

use session_core::planted::{self, Defect};
use session_core::{EndCause, SessionId, StoreError};

use crate::ending::{Over, Past};
use crate::entry::Entry;
use crate::error::Error;
use crate::node::Node;
use crate::watchers::{Seen, Watch};

impl Node {
    pub(crate) async fn session_ended(&self, id: SessionId) -> WaitEnd {
        let mut stopping = self.shared().stopping_waits();
        let mut cut_off = self.shared().cut_off.subscribe();
        tokio::select! {
            biased;
            () = stopping.stopped() => WaitEnd::Stopping,
            _ = cut_off.wait_for(|cut_off| *cut_off) => WaitEnd::Unknown,
            cause = self.wait_for_end(id) => {
                let untrue = |cause| if planted::is(Defect::WaitUntold) { EndCause::Unknown } else { cause };
                cause.map(untrue).map_or(WaitEnd::Gone, WaitEnd::Ended)
            }
        }
    }

    /// The cause, where it is known.
    async fn wait_for_end(&self, id: SessionId) -> Option<EndCause> {
        let mut watch = self.shared().watchers.watch(id);
        let pause = self.shared().options.propagation_bound;
        loop {
            let wait = match self.wait_of(id).await {
                Ok(Wait::Gone) => return self.why_gone_soon(id, &mut watch).await,
                // In a box: few waits come to this, and many are open.
                Ok(Wait::Over(over)) => match Box::pin(self.end_over(id, over, 1)).await {
                    Ok(true) => return Some(over.cause()),
                    // It was used since, or is gone, or the store is away.
                    Ok(false) | Err(_) => Some(pause),
                },
                Ok(Wait::For(wait)) => wait,
                Err(_) => Some(self.shared().watchers.pause(id).unwrap_or(pause)),
            };
            tokio::select! {
                biased;
                seen = watch.next() => if let Seen::Ended(cause) = seen { return Some(cause) },
                () = self.sleep(wait) => {}
            }
        }
    }

    /// How long the session goes on, as far as this node knows. A cached session costs no read, and few
    /// reads are under way at a time.
    async fn wait_of(&self, id: SessionId) -> Result<Wait, Error> {
        let shared = self.shared();
        let entry = match shared.unexpired(id).filter(|_| shared.is_fresh()) {
            Some(entry) => Some(entry),
            None if shared.cache.end_cause(&id).is_some() => None,
            None => self.load_for_wait(id).await?,
        };
        let Some(entry) = entry else { return Ok(Wait::Gone) };
        let now = self.now();
        let end = match entry.past(|| shared.in_flight(), now) {
            Some(Past::Over(over)) => return Ok(Wait::Over(over)),
            None => entry.end(),
            // A use of it may be on its way, and prolongs it no further than to its absolute timeout.
            Some(Past::Idle(_)) => {
                let settled = now.plus(shared.unsettled_for(shared.options.in_flight()));
                let end = entry.end().map(|end| end.max(settled));
                let expiry = entry.session.absolute_expiry;
                match end.into_iter().chain(expiry).min() {
                    // Only the token of a re-authentication that waits keeps it.
                    Some(end) if end <= now => {
                        let soon = now.plus(shared.options.propagation_bound);
                        Some(entry.session.deadline.max(settled).max(soon))
                    }
                    end => end,
                }
            }
        };
        Ok(Wait::For(end.map(|end| end.since(now) + Duration::from_millis(1))))
    }

    /// Reads a session, unless another wait for it has done so in the meantime, or has just failed.
    async fn load_for_wait(&self, id: SessionId) -> Result<Option<Arc<Entry>>, Error> {
        let node = self.clone();
        let load = async move {
            let shared = node.shared();
            // The semaphore is never closed.
            let _permit = shared.waits_under_way.acquire().await.ok();
            if let Some(entry) = shared.unexpired(id) {
                return Ok(Some(entry));
            }
            if shared.watchers.pause(id).is_some() {
                return Err(StoreError::unavailable("the read has failed a moment ago").into());
            }
            let loaded = node.load(id).await;
            shared.watchers.tried(id, loaded.is_ok(), shared.options.propagation_bound);
            loaded.map(|load| load.entry)
        };
        self.shared().detached(load).await
    }

    /// Why a session is gone, where the log tells within the propagation bound.
    async fn why_gone_soon(&self, id: SessionId, watch: &mut Watch) -> Option<EndCause> {
        if let Some(cause) = self.shared().cache.end_cause(&id) {
            return Some(cause);
        }
        let bound = self.shared().options.propagation_bound;
        let next = self.shared().on_runtime(|| tokio::time::timeout(bound, watch.next()));
        match next.await {
            Ok(Seen::Ended(cause)) => Some(cause),
            _ => self.shared().cache.end_cause(&id),
        }
    }

    async fn sleep(&self, duration: Option<Duration>) {
        match duration {
            Some(duration) => self.shared().sleep(duration).await,
            None => std::future::pending().await,
        }
    }
}

/// How long a session goes on if it is not used.
enum Wait {
    /// For so long; none for ever.
    For(Option<Duration>),
    /// No longer.
    Over(Over),
    /// There is none.
    Gone,
}

/// How a wait for the end of a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitEnd {
    /// The session ended.
    Ended(EndCause),
    /// There is no such session (any more); why is not known.
    Gone,
    /// This node has been cut off from the store for too long to tell.
    Unknown,
    /// The node stops.
    Stopping,
}

impl WaitEnd {
    /// Why the session ended, where that is known.
    pub const fn cause(self) -> Option<EndCause> {
        match self {
            Self::Ended(cause) => Some(cause),
            Self::Gone | Self::Unknown | Self::Stopping => None,
        }
    }
}
