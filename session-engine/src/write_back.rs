//! Takes unstored accesses to the store, in batches.

use std::sync::Arc;

use session_core::checker::Unstored;
use session_core::store::Touch;

use crate::entry::Entry;
use crate::error::Error;
use crate::queue::Leaving;
use crate::shared::Shared;

/// Flushes what is due every `flush_interval`, and the rest at the end.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    let mut failing = false;
    loop {
        tokio::select! {
            biased;
            () = stopping.stopped() => break,
            () = tokio::time::sleep(shared.options.write_back.flush_interval) => {}
        }
        let result = flush(&shared, Leaving::Due).await;
        report(&shared, &mut failing, result);
    }
    last_flush(&shared).await;
}

/// Writes back everything: the node ends.
pub(crate) async fn last_flush(shared: &Shared) {
    if let Err(error) = flush(shared, Leaving::All).await {
        tracing::error!(%error, "last accessed times were lost at shutdown");
    }
}

/// Writes back in batches; what could not be written is due again. What becomes due while this runs
/// may leave with the next flush.
pub(crate) async fn flush(shared: &Shared, leaving: Leaving) -> Result<(), Error> {
    let batches = shared.queue.len().div_ceil(Touch::MAX_BATCH) + 1;
    for _ in 0..batches {
        if !shared.queue.has(leaving) {
            break;
        }
        let mut taken = Taken { shared, batch: shared.queue.take(leaving, shared.now()) };
        if taken.batch.is_empty() {
            continue;
        }
        let touches: Vec<_> =
            taken.batch.iter().map(|(entry, unstored)| entry.touch(unstored)).collect();
        let gone = shared.store_call("touch", shared.store.touch(&touches)).await?;
        taken.confirm();
        gone.into_iter().for_each(|id| shared.cache.invalidate(id));
    }
    Ok(())
}

/// What is on its way to the store. Dropped before it has arrived there, it is due again: also when the
/// flush fails, is given up or panics.
struct Taken<'s> {
    shared: &'s Shared,
    batch: Vec<(Arc<Entry>, Unstored)>,
}

impl Taken<'_> {
    fn confirm(&mut self) {
        for (entry, unstored) in self.batch.drain(..) {
            entry.use_().activity.confirm(&unstored);
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for (entry, unstored) in self.batch.drain(..) {
            entry.use_().activity.give_back(unstored);
            self.shared.queue.due_or_dropped(&entry);
        }
    }
}

/// Says once that an outage began, and once that it ended.
fn report(shared: &Shared, failing: &mut bool, result: Result<(), Error>) {
    match result {
        Ok(()) if *failing => tracing::info!("write-back works again"),
        Err(ref error) if !*failing => tracing::warn!(%error, "write-back fails and is repeated"),
        _ => {}
    }
    *failing = result.is_err();
    shared.health.note("write-back", result.err().map(|error| error.to_string()));
}
