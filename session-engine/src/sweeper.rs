//! Ends what the cleanup rule covers, and cuts the log; one node of the fleet at a time.

use std::sync::Arc;
use std::time::Duration;

use session_core::planted::{self, Defect};
use session_core::store::{Continuation, EndedBatch, Forget, Sweep};
use session_core::{Actor, EndCause, Timestamp};
use tokio::time::Instant;

use crate::entropy::unique_name;
use crate::error::Error;
use crate::queue::Leaving;
use crate::shared::Shared;
use crate::{health, meter, notice, write_back};

/// Runs every period; a first time after a sixtieth of it, so that short-lived nodes clean up too. After a
/// run that failed it waits for a sixtieth as well, and at least as long as the lease, so that another node
/// can take over. No session ends while uses may be on their way that nodes have accepted in an outage.
pub(crate) async fn run(shared: Arc<Shared>) {
    if !shared.options.cleanup.enabled {
        return;
    }
    let mut stopping = shared.stopping();
    let holder = if planted::is(Defect::LeaseShared) {
        "node".to_owned()
    } else {
        unique_name(shared.entropy.as_ref())
    };
    let mut wait = shared.options.cleanup.period / 60;
    loop {
        tokio::select! {
            biased;
            () = stopping.stopped() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let period = shared.options.cleanup.period;
        let result = tokio::select! {
            biased;
            () = stopping.stopped() => return,
            result = sweep(&shared, &holder) => result,
        };
        let unsettled = shared.unsettled_for(shared.options.max_lag());
        wait = match result {
            Err(_) => LEASE_TTL.max(period / 60),
            Ok(_) if unsettled.is_zero() => period,
            Ok(_) => unsettled.min(period),
        };
        report(&shared, result);
    }
}

/// One run, if this node gets the lease. Answers how many sessions it ended.
///
/// The log is cut before sessions end: after a quiet time its newest entry, at which the other nodes
/// stand, would no longer be the newest, and could go before they have read on.
pub(crate) async fn sweep(shared: &Shared, holder: &str) -> Result<u64, Error> {
    if !has_lease(shared, holder).await? {
        return Ok(0);
    }
    // One that fails, because it takes too long say, stops no other.
    let mut failed = None;
    for old in [Old::Log, Old::History] {
        if matches!(old, Old::History) && planted::is(Defect::HistoryKept) {
            continue;
        }
        match delete(shared, holder, old).await {
            Ok(true) => {}
            Ok(false) => return Ok(0),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let Some(failed) = failed else {
        let (ended, whole) = end_unused(shared, holder).await?;
        if whole {
            shared.health.cleaned_up(shared.now(), ended);
        }
        return Ok(ended);
    };
    // A run that leaves the log or the history as it is counts as none: operators have to hear of it.
    if has_lease(shared, holder).await? {
        end_unused(shared, holder).await?;
    }
    Err(failed)
}

/// Returns how many sessions it ended, and whether it came to the end.
async fn end_unused(shared: &Shared, holder: &str) -> Result<(u64, bool), Error> {
    if !shared.unsettled_for(shared.options.max_lag()).is_zero() {
        return Ok((0, false));
    }
    // What this node has not written back yet counts as activity.
    match write_back::flush(shared, Leaving::All).await {
        Err(error) if error.is_unavailable() => return Err(error),
        // One that cannot be written back keeps the cleanup from no other.
        Ok(()) | Err(_) => {}
    }
    let (mut count, mut after) = (0, None);
    loop {
        let (batch, pause) = sweep_on(shared, after).await?;
        count += batch.ended.len() as u64;
        after = batch.next;
        if after.is_none() {
            health::ask_store(shared).await;
            return Ok((count, true));
        }
        if !pause_and_renew(shared, holder, pause).await? {
            return Ok((count, false));
        }
    }
}

/// What is deleted by its age.
#[derive(Clone, Copy)]
enum Old {
    Log,
    History,
}

impl Old {
    /// Deletes a batch. Returns how many went, and how long to wait before the next.
    async fn delete(self, shared: &Shared) -> Result<(u32, Duration), Error> {
        let (store, cleanup) = (&shared.store, &shared.options.cleanup);
        let turn = match self {
            Self::Log => shared.paces.trim.begin(cleanup.batch),
            Self::History => shared.paces.forget.begin(cleanup.batch),
        };
        let (kind, gone) = match self {
            Self::Log => {
                let trim = store.trim_log(cleanup.log_retention, turn.size);
                ("log_entries", shared.store_call("trim_log", trim).await?)
            }
            Self::History => {
                let old = Forget::OlderThan(shared.options.history_keep(store.as_ref()));
                let forget = store.forget(&old, turn.size);
                ("history", shared.store_call("forget", forget).await?)
            }
        };
        meter::cleaned(kind, gone.into());
        Ok((gone, turn.over(gone as usize)))
    }
}

/// Deletes in batches until nothing is old, for a quarter of the period at most: where more is written
/// than a run can delete, sessions have their turn all the same. Returns false where another node has
/// taken the lease.
async fn delete(shared: &Shared, holder: &str, old: Old) -> Result<bool, Error> {
    let begun = Instant::now();
    while begun.elapsed() < shared.options.cleanup.period / 4 {
        let (gone, pause) = old.delete(shared).await?;
        if gone == 0 {
            break;
        }
        if !pause_and_renew(shared, holder, pause).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One call, and how long to wait before the next.
async fn sweep_on(
    shared: &Shared,
    after: Option<Continuation>,
) -> Result<(EndedBatch, Duration), Error> {
    let (options, mut at) = (&shared.options, shared.now());
    if planted::is(Defect::SweepByNode) {
        let wall = at.as_micros().saturating_add(shared.time.skew_micros());
        at = Timestamp::from_micros(wall);
    }
    // What some node has not written back yet counts as activity.
    let sweep = Sweep { overdue: options.max_lag(), after, at };
    let turn = shared.paces.sweep.begin(options.cleanup.batch);
    let call = shared.store.sweep(&sweep, turn.size);
    let batch = shared.store_call("sweep", call).await?;
    // Where it goes on, it has looked at as many as it was asked for, and put off what is in use again.
    let all = turn.size as usize;
    let pause = turn.over(if batch.next.is_some() { all } else { batch.ended.len() });
    batch.ended.iter().for_each(|session| shared.cache.end(session.id, EndCause::Expired));
    meter::cleaned("sessions", batch.ended.len() as u64);
    notice::log_ended(&batch.ended, EndCause::Expired, at, &Actor::System);
    if !batch.ended.is_empty() {
        shared.changed(true);
    }
    Ok((batch, pause))
}

async fn pause_and_renew(shared: &Shared, holder: &str, pause: Duration) -> Result<bool, Error> {
    tokio::time::sleep(pause.max(shared.options.cleanup.pause)).await;
    if planted::is(Defect::LeaseOnce) {
        return Ok(true);
    }
    has_lease(shared, holder).await
}

async fn has_lease(shared: &Shared, holder: &str) -> Result<bool, Error> {
    let lease = shared.store.lease(LEASE, holder, LEASE_TTL);
    let is_own = shared.store_call("lease", lease).await? || planted::is(Defect::LeaseIgnored);
    shared.health.leased(is_own, LEASE_TTL);
    Ok(is_own)
}

fn report(shared: &Shared, result: Result<u64, Error>) {
    if let Ok(ended @ 1..) = result {
        tracing::info!(ended, "cleanup ended inactive sessions");
    }
    shared.health.note("cleanup", result.err().map(|error| error.to_string()));
}

const LEASE: &str = "cleanup";
/// Longer than a batch with its time-out; a dead holder delays the next by no more.
const LEASE_TTL: Duration = Duration::from_secs(30);
