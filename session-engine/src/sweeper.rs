//! Ends what the cleanup rule covers, and cuts the log; one node of the fleet at a time.

use std::sync::Arc;
use std::time::Duration;

use session_core::store::{EndedBatch, Sweep};
use session_core::{Actor, EndCause};

use crate::error::Error;
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
pub(crate) async fn sweep(shared: &Shared, holder: &str) -> Result<u64, Error> {
    let cleanup = &shared.options.cleanup;
    let mut count = 0;
    let mut after = None;
    // What this node has not written back yet counts as activity.
    crate::write_back::flush(shared, None).await?;
    loop {
        if !shared.store_call("lease", shared.store.lease(LEASE, holder, LEASE_TTL)).await? {
            return Ok(count);
        }
        let at = shared.now();
        let rule = cleanup.rule(&shared.options.timeouts, &shared.options.write_back, at);
        let sweep = Sweep { rule, after, at };
        let call = shared.store.sweep(&sweep, cleanup.batch);
        let EndedBatch { ended, next } = shared.store_call("sweep", call).await?;
        ended.iter().for_each(|session| shared.cache.end(session.id, EndCause::Expired));
        notice::log_ended(&ended, EndCause::Expired, at, &Actor::System);
        shared.poke.notify_one();
        count += ended.len() as u64;
        if next.is_none() {
            break;
        }
        after = next;
        tokio::time::sleep(cleanup.pause).await;
    }
    cut_log(shared).await?;
    ask_store(shared).await;
    Ok(count)
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

async fn cut_log(shared: &Shared) -> Result<(), Error> {
    let cleanup = &shared.options.cleanup;
    let before = shared.now().minus(cleanup.log_retention);
    while shared.store_call("trim_log", shared.store.trim_log(before, cleanup.batch)).await? > 0 {
        tokio::time::sleep(cleanup.pause).await;
    }
    Ok(())
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
