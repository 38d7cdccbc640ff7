//! The metrics of the HTTP rules, beside those of the engine (feature `metrics`).

use ::metrics::Unit;
pub use session_engine::metrics::{Kind, Metric};

/// Tells the installed recorder what each metric says, those of the engine included, and begins the counters of this
/// crate at zero. Call it once, after the recorder is installed.
pub fn describe() {
    session_engine::metrics::describe();
    for metric in METRICS {
        metric.describe();
        metric.begin_at_zero();
    }
}

/// Every metric of the HTTP rules; [`session_engine::metrics::METRICS`] has those of the node.
pub const METRICS: &[Metric] = &[Metric::new(
    Kind::Counter,
    "session_kit_http_refusals_total",
    Some(Unit::Count),
    "Requests refused by a rule: `token` for tokens that were worth nothing, `origin` for requests that did not prove where they came from, `admin` for callers whom the guard did not let in.",
)
.with_labels(&[("kind", &["token", "origin", "admin"])])];
