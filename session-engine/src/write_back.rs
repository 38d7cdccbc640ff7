//! Takes unstored accesses to the store, in batches.

use std::sync::Arc;

use session_core::store::Touch;

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
    // Two batches are together longer than the longest.
    let batches = 2 * shared.queue.len().div_ceil(Touch::MAX_BATCH) + 1;
    for _ in 0..batches {
        if !shared.queue.has(leaving) {
            break;
        }
        let taken = shared.queue.take(leaving, shared.now());
        if taken.is_empty() {
            tokio::task::yield_now().await;
            continue;
        }
        let touches = taken.touches();
        let gone = shared.store_call("touch", shared.store.touch(&touches)).await?;
        taken.confirm();
        gone.into_iter().for_each(|id| shared.cache.invalidate(id));
    }
    Ok(())
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
