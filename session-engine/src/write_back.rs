//! Takes unstored accesses to the store, in batches.

use std::sync::Arc;

use session_core::Timestamp;
use session_core::checker::Unstored;

use crate::entry::Entry;
use crate::error::Error;
use crate::shared::Shared;

/// Flushes what is due every `flush_interval`, and the rest at the end.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    let mut failing = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(shared.options.write_back.flush_interval) => {}
            () = stopping.stopped() => break,
        }
        let result = flush(&shared, Some(shared.now())).await;
        report(&shared, &mut failing, result);
    }
    if let Err(error) = flush(&shared, None).await {
        tracing::error!(%error, "last accessed times were lost at shutdown");
    }
}

/// Writes back in batches; what could not be written is due again.
pub(crate) async fn flush(shared: &Shared, until: Option<Timestamp>) -> Result<(), Error> {
    let mut leaving = shared.queue.take(&shared.options, until);
    while !leaving.is_empty() {
        let rest = leaving.split_off(leaving.len().min(BATCH));
        let batch: Vec<_> = leaving.iter().map(|(entry, unstored)| entry.touch(unstored)).collect();
        match shared.store_call("touch", shared.store.touch(&batch)).await {
            Ok(gone) => {
                leaving
                    .iter()
                    .for_each(|(entry, unstored)| entry.use_().activity.confirm(unstored));
                gone.into_iter().for_each(|id| shared.cache.invalidate(id));
            }
            Err(error) => {
                give_back(shared, leaving.into_iter().chain(rest));
                return Err(error);
            }
        }
        leaving = rest;
    }
    Ok(())
}

fn give_back(shared: &Shared, unwritten: impl Iterator<Item = (Arc<Entry>, Unstored)>) {
    for (entry, unstored) in unwritten {
        entry.use_().activity.give_back(unstored);
        shared.queue.due(entry);
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

/// Sessions in one statement.
const BATCH: usize = 500;
