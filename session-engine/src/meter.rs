//! Counts and measures, for the `metrics` facade. Without the feature every function is empty.
//!
//! A check is counted in cells of its thread, which a worker hands to the facade: no label is made and
//! nothing is shared on the way of a request. Everything else costs a look into the recorder, beside a
//! call of the store.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use session_core::{EventKind, StoreError, StoreErrorKind};

use crate::check::{Refusal, Verdict};
use crate::error::Error;

/// A check that the cache did not answer.
pub(crate) fn resolved(verdict: &Result<Verdict, Error>) {
    let word = match verdict {
        Ok(verdict) => VERDICTS[place(verdict)],
        Err(_) => "unavailable",
    };
    count("session_kit_checks_total", [("source", "store"), ("verdict", word)], 1);
}

/// A read of a session into the cache: whether it was there.
pub(crate) fn loaded(found: Result<bool, &Error>) {
    let word = match found {
        Ok(true) => "found",
        Ok(false) => "absent",
        Err(_) => "failed",
    };
    count("session_kit_loads_total", [("outcome", word)], 1);
}

/// A session left the cache for lack of room.
pub(crate) fn left_the_cache() {
    count("session_kit_cache_evictions_total", [], 1);
}

/// A sign-in ended, with this error or without.
pub(crate) fn signed_in(error: Option<&Error>) {
    let word = match error {
        None => "admitted",
        Some(Error::TooManySessions(_)) => "too_many_sessions",
        Some(Error::Blocked(_)) => "blocked",
        Some(Error::InvalidTicket) => "invalid_ticket",
        Some(Error::Invalid(_)) => "invalid",
        Some(Error::Unavailable(_) | Error::Claims(_)) => "unavailable",
        Some(Error::Broken(_)) => "broken",
    };
    count("session_kit_sign_ins_total", [("outcome", word)], 1);
}

/// A change that this node has made.
pub(crate) fn changed(kind: EventKind) {
    if let EventKind::Ended(cause) = kind {
        count("session_kit_sessions_ended_total", [("cause", cause.as_str())], 1);
    }
}

/// A step of a rotation.
pub(crate) fn rotated(step: &'static str) {
    count("session_kit_rotations_total", [("step", step)], 1);
}

/// A page of the log.
pub(crate) fn log_read(entries: usize, gap: bool) {
    count("session_kit_log_entries_total", [], entries as u64);
    count("session_kit_log_gaps_total", [], gap.into());
}

/// A batch of sessions whose last accesses are stored.
pub(crate) fn written_back(sessions: usize) {
    count("session_kit_touches_total", [], sessions as u64);
    observe("session_kit_write_back_batch_sessions", [], sessions as f64);
}

/// The cleanup has deleted something.
pub(crate) fn cleaned(what: &'static str, number: u64) {
    count("session_kit_cleanup_deleted_total", [("what", what)], number);
}

/// A worker panicked.
pub(crate) fn restarted(worker: &'static str) {
    count("session_kit_worker_restarts_total", [("worker", worker)], 1);
}

/// A call of the store that is under way. One that is given up by its caller is not counted.
pub(crate) struct StoreCall {
    method: &'static str,
    begun: Option<tokio::time::Instant>,
}

impl StoreCall {
    pub(crate) fn begin(method: &'static str) -> Self {
        Self { method, begun: cfg!(feature = "metrics").then(tokio::time::Instant::now) }
    }

    pub(crate) fn end<T>(self, result: &Result<T, StoreError>) {
        let Some(begun) = self.begun else { return };
        let word = match result.as_ref().map_err(StoreError::kind) {
            Ok(_) => "ok",
            Err(StoreErrorKind::Unavailable) => "unavailable",
            Err(StoreErrorKind::Corrupt) => "corrupt",
            Err(StoreErrorKind::Refused) => "refused",
            Err(_) => "internal",
        };
        let labels = [("method", self.method), ("outcome", word)];
        observe("session_kit_store_call_seconds", labels, begun.elapsed().as_secs_f64());
    }
}

/// What the cache has answered. Each thread counts in cells of its own, as far as there are enough.
#[derive(Debug, Default)]
pub(crate) struct Checks([Cells; if cfg!(feature = "metrics") { CELLS } else { 0 }]);

/// Two lines of a processor's cache: processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cells([AtomicU64; VERDICTS.len()]);

impl Checks {
    pub(crate) fn answered(&self, verdict: &Verdict) {
        if cfg!(feature = "metrics") {
            let cells = PLACE.with(|place| &self.0[*place]);
            cells.0[place(verdict)].fetch_add(1, Ordering::Relaxed);
        }
    }
}

thread_local! {
    /// The cells of this thread.
    static PLACE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % CELLS;
}

static NEXT: AtomicUsize = AtomicUsize::new(0);
const CELLS: usize = 16;
/// What a check may answer.
const VERDICTS: [&str; 7] =
    ["active", "malformed", "unknown", "wrong_secret", "ended", "superseded", "idle"];

/// The place of a verdict among the words.
const fn place(verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Active(_) => 0,
        Verdict::Refused(Refusal::Malformed) => 1,
        Verdict::Refused(Refusal::Unknown) => 2,
        Verdict::Refused(Refusal::WrongSecret) => 3,
        Verdict::Refused(Refusal::Ended(_)) => 4,
        Verdict::Refused(Refusal::Superseded) => 5,
        Verdict::Refused(Refusal::Idle(_)) => 6,
    }
}

type Label = (&'static str, &'static str);

#[cfg(feature = "metrics")]
mod facade {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use ::metrics::Label as Pair;
    use session_core::store::StoreReport;

    use super::{Label, VERDICTS};
    use crate::metrics::{METRICS, Metric};
    use crate::node::Node;
    use crate::shared::Shared;

    pub(super) fn count<const N: usize>(name: &'static str, labels: [Label; N], by: u64) {
        ::metrics::counter!(name, pairs(labels)).increment(by);
    }

    pub(super) fn observe<const N: usize>(name: &'static str, labels: [Label; N], value: f64) {
        ::metrics::histogram!(name, pairs(labels)).record(value);
    }

    fn pairs<const N: usize>(labels: [Label; N]) -> Vec<Pair> {
        labels.into_iter().map(|(name, value)| Pair::from_static_parts(name, value)).collect()
    }

    /// Hands over what was counted and shows what is as it is, every second, or in every propagation
    /// bound where that is longer.
    pub(crate) async fn run(shared: Arc<Shared>) {
        let mut stopping = shared.stopping();
        let period = shared.options.propagation_bound.max(PERIOD);
        let node = Node::new(shared);
        METRICS.iter().for_each(Metric::begin_at_zero);
        loop {
            hand_over(node.shared());
            show(&node);
            tokio::select! {
                biased;
                () = stopping.stopped() => break,
                () = tokio::time::sleep(period) => {}
            }
        }
        hand_over(node.shared());
        show(&node);
    }

    fn hand_over(shared: &Shared) {
        for (place, word) in VERDICTS.into_iter().enumerate() {
            let new = shared.checks.0.iter().map(|cells| cells.0[place].swap(0, Ordering::Relaxed));
            count("session_kit_checks_total", [("source", "cache"), ("verdict", word)], new.sum());
        }
        ::metrics::counter!("session_kit_write_backs_dropped_total")
            .absolute(shared.queue.dropped());
    }

    fn show(node: &Node) {
        let (shared, health) = (node.shared(), node.health());
        let gauge = |name, value: f64| ::metrics::gauge!(name).set(value);
        let flag = |name, value: bool| gauge(name, f64::from(u8::from(value)));
        flag("session_kit_ready", health.ready);
        flag("session_kit_store_answers", health.store_answers);
        flag("session_kit_push_connected", health.push_connected);
        flag("session_kit_push_expected", health.push_expected);
        gauge("session_kit_log_lag_seconds", health.log_lag.as_secs_f64());
        gauge("session_kit_clock_skew_seconds", health.clock_skew);
        gauge("session_kit_cached_sessions", health.cached_sessions as f64);
        gauge("session_kit_write_back_sessions", health.write_backs as f64);
        gauge("session_kit_take_back_sessions", health.take_backs as f64);
        if let Some(run) = health.cleanup.last_run {
            gauge("session_kit_cleanup_last_run_timestamp_seconds", run.as_micros() as f64 / 1e6);
        }
        // An old value would be taken for what is so now.
        let reported = |value: &dyn Fn(&StoreReport) -> f64| {
            health.store.as_ref().map_or(f64::NAN, |store| value(&store.report))
        };
        gauge("session_kit_log_pending_entries", reported(&|report| report.pending as f64));
        gauge("session_kit_store_problems", reported(&|report| report.problems.len() as f64));
        for (name, worker) in &health.workers {
            let failing = f64::from(u8::from(worker.error.is_some()));
            ::metrics::gauge!("session_kit_worker_failing", "worker" => *name).set(failing);
        }
        let streams = [("events", shared.notices.listeners()), ("waits", shared.watchers.len())];
        for (kind, open) in streams {
            ::metrics::gauge!("session_kit_streams_open", "kind" => kind).set(open as f64);
        }
    }

    const PERIOD: Duration = Duration::from_secs(1);
}

#[cfg(not(feature = "metrics"))]
mod facade {
    use super::Label;

    pub(super) const fn count<const N: usize>(_: &'static str, _: [Label; N], _: u64) {}

    pub(super) const fn observe<const N: usize>(_: &'static str, _: [Label; N], _: f64) {}
}

#[cfg(feature = "metrics")]
pub(crate) use self::facade::run;
use self::facade::{count, observe};
