//! Ends what the cleanup rule covers, and cuts the log; one node of the fleet at a time.

use std::sync::Arc;
use std::time::Duration;

use session_core::store::{Continuation, EndedBatch, Forget, Sweep};
use session_core::{Actor, EndCause};

use crate::error::Error;
use crate::queue::Leaving;
use crate::shared::Shared;
use crate::{clock, notice};

/// Runs every period; a first time after a sixtieth of it, so that short-lived nodes clean up too.
pub(crate) async fn run(shared: Arc<Shared>) {
    if !shared.options.cleanup.enabled {
        return;
    }
    let mut stopping = shared.stopping();
    let holder = holder(&shared);
    let mut wait = shared.options.cleanup.period / 60;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stopping.stopped() => return,
        }
        wait = shared.options.cleanup.period;
        tokio::select! {
            result = sweep(&shared, &holder) => report(&shared, result),
            () = stopping.stopped() => return,
        }
    }
}

/// One run, if this node gets the lease. Answers how many sessions it ended.
///
/// The log is cut before sessions end: after a quiet time its newest entry, at which the other nodes
/// stand, would no longer be the newest, and could go before they have read on.
pub(crate) async fn sweep(shared: &Shared, holder: &str) -> Result<u64, Error> {
    let cleanup = &shared.options.cleanup;
    if !has_lease(shared, holder).await? {
        return Ok(0);
    }
    let older_than = cleanup.log_retention;
    while shared.store_call("trim_log", shared.store.trim_log(older_than, cleanup.batch)).await? > 0
    {
        if !pause_and_renew(shared, holder).await? {
            return Ok(0);
        }
    }
    let forget = Forget::OlderThan(shared.options.history_keep(shared.store.as_ref()));
    while shared.store_call("forget", shared.store.forget(&forget, cleanup.batch)).await? > 0 {
        if !pause_and_renew(shared, holder).await? {
            return Ok(0);
        }
    }
    // What this node has not written back yet counts as activity.
    crate::write_back::flush(shared, Leaving::All).await?;
    let (mut count, mut after) = (0, None);
    loop {
        let batch = sweep_on(shared, after).await?;
        count += batch.ended.len() as u64;
        after = batch.next;
        if after.is_none() {
            ask_store(shared).await;
            return Ok(count);
        }
        if !pause_and_renew(shared, holder).await? {
            return Ok(count);
        }
    }
}

async fn sweep_on(shared: &Shared, after: Option<Continuation>) -> Result<EndedBatch, Error> {
    let (options, at) = (&shared.options, shared.now());
    let overdue = options.cleanup.overdue(&options.write_back);
    let sweep = Sweep { overdue, after, at };
    let call = shared.store.sweep(&sweep, options.cleanup.batch);
    let batch = shared.store_call("sweep", call).await?;
    batch.ended.iter().for_each(|session| shared.cache.end(session.id, EndCause::Expired));
    notice::log_ended(&batch.ended, EndCause::Expired, at, &Actor::System);
    shared.poke.notify_one();
    Ok(batch)
}

async fn pause_and_renew(shared: &Shared, holder: &str) -> Result<bool, Error> {
    tokio::time::sleep(shared.options.cleanup.pause).await;
    has_lease(shared, holder).await
}

async fn has_lease(shared: &Shared, holder: &str) -> Result<bool, Error> {
    shared.store_call("lease", shared.store.lease(LEASE, holder, LEASE_TTL)).await
}

/// Asks the store what is wrong with it, for the node's health and, where that is new, the log.
pub(crate) async fn ask_store(shared: &Shared) {
    let problems = match shared.store_call("report", shared.store.report()).await {
        Ok(report) => report.problems,
        Err(error) => vec![error.to_string()],
    };
    let problems = (!problems.is_empty()).then(|| problems.join("; "));
    let known = shared.health.error("store");
    if let Some(problems) = problems.as_ref().filter(|problems| Some(*problems) != known.as_ref()) {
        tracing::warn!(%problems, "the store needs attention");
    }
    shared.health.note("store", problems);
}

/// A name for this node that no other node has.
pub(crate) fn holder(shared: &Shared) -> String {
    u128::from_be_bytes(clock::random(shared.entropy.as_ref())).to_string()
}

fn report(shared: &Shared, result: Result<u64, Error>) {
    match &result {
        Ok(0) => {}
        Ok(ended) => tracing::info!(ended, "cleanup ended inactive sessions"),
        Err(error) => tracing::warn!(%error, "cleanup failed and is repeated"),
    }
    shared.health.note("cleanup", result.err().map(|error| error.to_string()));
}

const LEASE: &str = "cleanup";
/// Longer than a batch with its time-out; a dead holder delays the next by no more.
const LEASE_TTL: Duration = Duration::from_secs(30);
