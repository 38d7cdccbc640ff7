//! Whether requests should come to this node.

use http::StatusCode;
use serde::Serialize;
use session_engine::Health;
use utoipa::ToSchema;

use super::{Answer, Request, json};
use crate::problem::Problem;

/// How the node is, as far as strangers may know: no name of a host, no text of a server, and not how
/// many users there are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HealthView {
    /// Whether requests should come to this node. It is the same as the status, 200 or 503.
    ready: bool,
    /// Whether the node has been told to stop.
    stopping: bool,
    /// Whether the store answers: false from its first call without an answer until none has been
    /// without one for 5 s.
    store_answers: bool,
    /// How long ago the store's log was last read to its end, in seconds.
    log_lag_seconds: f64,
    /// How far this node's clock is ahead of the store's, in seconds; below zero for behind.
    clock_skew_seconds: f64,
    /// How often this node's clock has jumped by more than a second since the node started, or its machine
    /// has slept.
    clock_jumps: u64,
    /// Whether the store tells of other nodes' changes at once. If not, they are seen within the
    /// propagation bound.
    push_connected: bool,
    /// Whether a push is configured: the store supports it, and `push` is on in its options and the engine's.
    push_expected: bool,
    /// Sessions whose last accesses wait for their write-back.
    write_back_sessions: usize,
    /// Sessions whose last accesses were given up since the node started.
    write_backs_dropped: u64,
    /// Sessions that this node still has to end.
    take_back_sessions: usize,
    /// What the store said of itself when it was last asked; null where it could not say it.
    store: Option<StoreView>,
    /// What this node has done of the fleet's cleanup.
    cleanup: CleanupView,
    /// The node's workers.
    workers: Vec<WorkerView>,
}

/// What the store said of itself: the node asks when it starts, after a cleanup, and every ten minutes.
#[derive(Debug, Serialize, ToSchema)]
struct StoreView {
    /// When, by the store's clock.
    #[schema(format = "date-time")]
    reported_at: String,
    /// Entries of the log that have no number yet. Every node that reads the log numbers them: there is
    /// no sequencer that could be dead.
    log_pending_entries: u64,
    /// How many things are wrong with it. The log of one node of the fleet says which.
    problems: usize,
}

/// What this node has done of the fleet's cleanup.
#[derive(Debug, Serialize, ToSchema)]
struct CleanupView {
    /// Whether this node cleans up at all.
    enabled: bool,
    /// When this node last finished a cleanup; null where it never has. Another node of the fleet may
    /// have.
    #[schema(format = "date-time")]
    last_run_at: Option<String>,
    /// How many sessions that one ended.
    ended_sessions: u64,
    /// Who holds the lease of the cleanup: `this_node`, `another_node`, or `unknown` where nobody does or
    /// this node has not asked for 30 s.
    lease: &'static str,
}

/// One worker of the node.
#[derive(Debug, Serialize, ToSchema)]
struct WorkerView {
    /// Which.
    name: &'static str,
    /// Whether its last round failed. The node's log says why.
    failing: bool,
    /// How often it was started again after a panic.
    restarts: u64,
}

impl From<Health> for HealthView {
    fn from(health: Health) -> Self {
        let cleanup = CleanupView {
            enabled: health.cleanup.enabled,
            last_run_at: health.cleanup.last_run.map(|at| at.to_string()),
            ended_sessions: health.cleanup.ended,
            lease: health.cleanup.lease.as_str(),
        };
        let store = health.store.map(|store| StoreView {
            reported_at: store.at.to_string(),
            log_pending_entries: store.report.pending,
            problems: store.report.problems.len(),
        });
        let workers = health.workers.into_iter().map(|(name, worker)| {
            let (failing, restarts) = (worker.error.is_some(), worker.restarts);
            WorkerView { name, failing, restarts }
        });
        Self {
            ready: health.ready,
            stopping: health.stopping,
            store_answers: health.store_answers,
            log_lag_seconds: health.log_lag.as_secs_f64(),
            clock_skew_seconds: health.clock_skew,
            clock_jumps: health.clock_jumps,
            push_connected: health.push_connected,
            push_expected: health.push_expected,
            write_back_sessions: health.write_backs,
            write_backs_dropped: health.dropped_write_backs,
            take_back_sessions: health.take_backs,
            store,
            cleanup,
            workers: workers.collect(),
        }
    }
}

/// Tells whether requests should come to this node.
///
/// For readiness probes, which have no session: anybody may ask, and the answer costs no call of the
/// store.
#[utoipa::path(
    get, path = "/health", tag = "node", operation_id = "health",
    responses(
        (status = 200, body = HealthView, description = "The node is ready"),
        (status = 400, body = Problem, description = "There are no parameters", content_type = "application/problem+json"),
        (status = 503, body = HealthView, description = "It is not: it stops, or has not heard the store's log for too long"),
    ),
)]
pub(super) fn show(request: Request<'_>) -> Answer {
    request.query(&[])?;
    let view = HealthView::from(request.http.manager().health());
    if view.ready {
        return json(StatusCode::OK, &view);
    }
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, &view)?;
    response.headers_mut().extend(Problem::unavailable().way_out());
    Ok(response)
}
