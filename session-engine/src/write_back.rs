//! Takes unstored accesses to the store, in batches.

use std::sync::Arc;

use session_core::SessionId;
use session_core::planted::{self, Defect};
use session_core::store::{Selection, Touch};

use crate::entry::Entry;
use crate::error::Error;
use crate::meter;
use crate::queue::{Leaving, Taken};
use crate::shared::Shared;

/// Flushes what is due every `flush_interval`. The rest is left for [`last_flush`].
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    let mut said = Said::default();
    loop {
        tokio::select! {
            biased;
            () = stopping.stopped() => return,
            () = tokio::time::sleep(shared.options.write_back.flush_interval) => {}
        }
        if planted::is(Defect::EmptyFlush) {
            let _ = shared.store_call("touch", shared.store.touch(&[])).await;
        }
        let result = flush(&shared, Leaving::Due).await;
        if shared.queue.has_missed() {
            shared.cache.plan_again(shared.now());
        }
        said.report(&shared, result);
    }
}

/// Writes back everything: the node ends, and its workers have.
pub(crate) async fn last_flush(shared: &Shared) {
    if planted::is(Defect::LastFlushLost) {
        return;
    }
    if let Err(error) = flush(shared, Leaving::All).await {
        tracing::error!(%error, "last accessed times were lost at shutdown");
    }
}

/// Writes back in batches; what could not be written is due again. What becomes due while this runs
/// may leave with the next flush. A session that cannot be read stops no other: the store gets the two
/// halves of its batch, and the session alone after a pause.
pub(crate) async fn flush(shared: &Shared, leaving: Leaving) -> Result<(), Error> {
    // Two batches are together longer than the longest.
    let batches = 2 * shared.queue.len().div_ceil(Touch::MAX_BATCH) + 1;
    // Put back before the end, what is refused would be taken again.
    let (mut result, mut refused) = (Ok(()), Vec::new());
    for _ in 0..batches {
        if !shared.queue.has(leaving) {
            break;
        }
        let taken = shared.queue.take(leaving, shared.now());
        if taken.is_empty() {
            tokio::task::yield_now().await;
            continue;
        }
        let mut parts = vec![taken];
        while let Some(part) = parts.pop() {
            match write(shared, part).await {
                Ok(()) => {}
                Err((error, _)) if error.is_unavailable() => return result.and(Err(error)),
                Err((error, part)) if error.is_corrupt() => {
                    result = result.and(Err(error));
                    match part.halves() {
                        Ok(halves) => parts.extend(halves),
                        Err(single) => single.postpone(shared.options.write_back.max_delay),
                    }
                }
                Err((error, part)) => {
                    result = result.and(Err(error));
                    refused.push(part);
                }
            }
        }
    }
    result
}

/// Writes back what this node has seen of the use of sessions that are about to end, so that the history has
/// it (G20): of a user's, or of those with these ids. Where that fails, they end all the same.
pub(crate) async fn before_end(shared: &Shared, selection: &Selection) {
    if shared.options.history_keep(shared.store.as_ref()).is_zero() {
        return;
    }
    let entries = last_used(shared, selection).await.unwrap_or_default();
    for batch in entries.chunks(Touch::MAX_BATCH) {
        let taken = shared.queue.take_of(batch);
        if !taken.is_empty() && write(shared, taken).await.is_err() {
            return;
        }
    }
}

/// The selected sessions that this node knows. Of more than a user's nothing is found without a walk.
async fn last_used(shared: &Shared, selection: &Selection) -> Result<Vec<Arc<Entry>>, Error> {
    let ids: Vec<SessionId> = match (selection.owner(), &selection.ids) {
        (_, Some(ids)) => ids.to_vec(),
        (Some(owner), None) => {
            let state = shared.store_call("user", shared.store.user(&owner)).await?;
            state.sessions.iter().map(|standing| standing.id).collect()
        }
        (None, None) => Vec::new(),
    };
    Ok(ids.iter().filter_map(|id| shared.cache.seen(id)).collect())
}

async fn write<'q>(shared: &Shared, taken: Taken<'q>) -> Result<(), (Error, Taken<'q>)> {
    let touches = taken.touches();
    match shared.store_call("touch", shared.store.touch(&touches)).await {
        Ok(gone) => {
            meter::written_back(touches.len());
            taken.confirm();
            gone.into_iter().for_each(|id| shared.cache.invalidate(id));
            Ok(())
        }
        Err(_) if planted::is(Defect::FlushLost) => {
            taken.confirm();
            Ok(())
        }
        Err(error) => Err((error, taken)),
    }
}

/// What the log has said, so that it is said once.
#[derive(Default)]
struct Said {
    dropped: u64,
    dropping: bool,
}

impl Said {
    /// The store's outages are told where it is called.
    fn report(&mut self, shared: &Shared, result: Result<(), Error>) {
        let dropped = shared.queue.dropped();
        let is_new = dropped > self.dropped;
        if is_new && !self.dropping {
            tracing::warn!(dropped, "last accessed times are given up: there is no more room");
        } else if self.dropping && !is_new && result.is_ok() {
            tracing::info!(dropped, "last accessed times are written back again");
        }
        self.dropping = is_new || (self.dropping && result.is_err());
        self.dropped = dropped;
        shared.health.note("write-back", result.err().map(|error| error.to_string()));
    }
}
