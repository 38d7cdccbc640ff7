//! The metrics of a node, through the [`metrics`](https://docs.rs/metrics) facade (feature `metrics`).
//!
//! An application installs a recorder of its choice, before or after [`Engine::start`](crate::Engine::start);
//! [`METRICS`] says what it will get: names, units, and every value that a label may have. Gauges show how
//! the node was within the last second or, where that is longer, the last propagation bound. They are those of
//! one node: run one engine in a process.
//!
//! ```
//! use session_engine::metrics::{self, Kind, METRICS};
//!
//! metrics::describe();
//! for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram) {
//!     // For the exporter: it must be told the limits of the buckets.
//!     println!("{} {:?}", metric.name, metric.buckets);
//! }
//! ```

use ::metrics::{Label, Unit};

/// One metric.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metric {
    /// Its name in the manner of Prometheus: the unit is in it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit; none for a flag.
    pub unit: Option<Unit>,
    /// Its labels, each with all its values.
    pub labels: &'static [(&'static str, &'static [&'static str])],
    /// Upper limits of a histogram's buckets, in its unit.
    pub buckets: &'static [f64],
    /// What it says.
    pub help: &'static str,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// A value as of now.
    Gauge,
    /// How often which values were seen.
    Histogram,
}

impl Metric {
    /// A metric without labels.
    pub const fn new(
        kind: Kind,
        name: &'static str,
        unit: Option<Unit>,
        help: &'static str,
    ) -> Self {
        Self { name, kind, unit, labels: &[], buckets: &[], help }
    }

    /// Sets [`Metric::labels`].
    #[must_use]
    pub const fn with_labels(
        mut self,
        labels: &'static [(&'static str, &'static [&'static str])],
    ) -> Self {
        self.labels = labels;
        self
    }

    /// Sets [`Metric::buckets`].
    #[must_use]
    pub const fn with_buckets(mut self, buckets: &'static [f64]) -> Self {
        self.buckets = buckets;
        self
    }

    /// Tells the recorder what the metric says.
    pub fn describe(&self) {
        let (name, help) = (self.name, self.help);
        let unit = self.unit.unwrap_or(Unit::Count);
        match self.kind {
            Kind::Counter => ::metrics::describe_counter!(name, unit, help),
            Kind::Gauge => ::metrics::describe_gauge!(name, unit, help),
            Kind::Histogram => ::metrics::describe_histogram!(name, unit, help),
        }
    }

    /// Lets a counter begin with all of its labels: one that is not there before it counts has no increase for
    /// Prometheus.
    pub fn begin_at_zero(&self) {
        if self.kind != Kind::Counter {
            return;
        }
        let mut series = vec![Vec::new()];
        for (label, values) in self.labels {
            let with = |labels: &Vec<Label>| {
                let labels = labels.clone();
                let pair = |value: &&'static str| Label::from_static_parts(label, value);
                values.iter().map(move |value| [labels.clone(), vec![pair(value)]].concat())
            };
            series = series.iter().flat_map(with).collect();
        }
        series.into_iter().for_each(|labels| ::metrics::counter!(self.name, labels).increment(0));
    }
}

/// Tells the installed recorder what each metric says. Call it once, after the recorder is installed.
pub fn describe() {
    METRICS.iter().for_each(Metric::describe);
}

/// Every metric of an engine.
pub const METRICS: &[Metric] = &[
    Metric::new(
        Kind::Counter,
        "session_kit_checks_total",
        Some(Unit::Count),
        "Checks of tokens and session ids, by what answered (the cache, or the store) and by what they were worth. `malformed` is garbage: it costs no read of the store.",
    )
    .with_labels(&[
        ("source", &["cache", "store"]),
        (
            "verdict",
            &[
                "active", "malformed", "unknown", "wrong_secret", "ended", "superseded", "idle",
                "unavailable",
            ],
        ),
    ]),
    Metric::new(
        Kind::Counter,
        "session_kit_loads_total",
        Some(Unit::Count),
        "Reads of sessions from the store into the cache, by what they found.",
    )
    .with_labels(&[("outcome", &["found", "absent", "failed"])]),
    Metric::new(
        Kind::Gauge,
        "session_kit_cached_sessions",
        Some(Unit::Count),
        "Sessions in the cache.",
    ),
    Metric::new(
        Kind::Counter,
        "session_kit_cache_evictions_total",
        Some(Unit::Count),
        "Sessions that left the cache because it was full (`cache_capacity`).",
    ),
    Metric::new(
        Kind::Counter,
        "session_kit_sign_ins_total",
        Some(Unit::Count),
        "Sign-ins, by outcome.",
    )
    .with_labels(&[(
        "outcome",
        &[
            "admitted",
            "too_many_sessions",
            "blocked",
            "invalid_ticket",
            "invalid",
            "unavailable",
            "broken",
        ],
    )]),
    Metric::new(
        Kind::Counter,
        "session_kit_sessions_ended_total",
        Some(Unit::Count),
        "Sessions that this node has ended, by cause. `evicted`: a policy at another sign-in. `token_reused`: a copied token was found.",
    )
    .with_labels(&[(
        "cause",
        &["evicted", "revoked", "expired", "signed_out", "replaced", "token_reused", "blocked"],
    )]),
    Metric::new(
        Kind::Counter,
        "session_kit_rotations_total",
        Some(Unit::Count),
        "Rotations of tokens: begun (also where one is repeated, and by a sign-in in the browser that holds the session), and confirmed by the first use of the new token.",
    )
    .with_labels(&[("step", &["begun", "confirmed"])]),
    Metric::new(
        Kind::Gauge,
        "session_kit_log_lag_seconds",
        Some(Unit::Seconds),
        "How long ago the store's log was last read to its end. In a healthy node at most the propagation bound.",
    ),
    Metric::new(
        Kind::Counter,
        "session_kit_log_entries_total",
        Some(Unit::Count),
        "Entries of the log that this node has applied.",
    ),
    Metric::new(
        Kind::Counter,
        "session_kit_log_gaps_total",
        Some(Unit::Count),
        "How often the log did not go on where this node had left it: its cache was dropped.",
    ),
    Metric::new(
        Kind::Gauge,
        "session_kit_log_pending_entries",
        Some(Unit::Count),
        "Entries of the log that have no number yet, when the store was last asked (every ten minutes); NaN where it could not say.",
    ),
    Metric::new(
        Kind::Gauge,
        "session_kit_push_connected",
        None,
        "1 while the store tells of other nodes' changes at once, 0 while they are seen within the propagation bound.",
    ),
    Metric::new(
        Kind::Gauge,
        "session_kit_push_expected",
        None,
        "1 where the store can tell of other nodes' changes at once and nothing has switched that off.",
    ),
    Metric::new(
        Kind::Gauge,
        "session_kit_clock_skew_seconds",
        Some(Unit::Seconds),
        "How far this node's wall clock is ahead of the store's; below zero for behind.",
    ),
    Metric::new(
        Kind::Gauge,
        "session_kit_write_back_sessions",
        Some(Unit::Count),
        "Sessions whose last accesses wait for their write-back.",
    ),
    Metric::new(
        Kind::Histogram,
        "session_kit_write_back_batch_sessions",
        Some(Unit::Count),
        "Sessions in one call that writes last accesses back.",
    )
    .with_buckets(&[1.0, 5.0, 25.0, 100.0, 250.0, 500.0]),
    Metric::new(
        Kind::Counter,
        "session_kit_touches_total",
        Some(Unit::Count),
        "Sessions whose last accesses were written back.",
    ),
    Metric::new(
        Kind::Counter,
        "session_kit_write_backs_dropped_total",
        Some(Unit::Count),
        "Sessions whose last accesses were given up because the store was away for too long.",
    ),
    Metric::new(
        Kind::Gauge,
        "session_kit_take_back_sessions",
        Some(Unit::Count),
        "Sessions that this node still has to end: begun for a caller who has gone, or replaced elsewhere.",
    ),
    Metric::new(
        Kind::Counter,
        "session_kit_cleanup_deleted_total",
        Some(Unit::Count),
        "What the cleanup of this node has deleted.",
    )
    .with_labels(&[("what", &["sessions", "log_entries", "history"])]),
    Metric::new(
        Kind::Gauge,
        "session_kit_cleanup_last_run_timestamp_seconds",
        Some(Unit::Seconds),
        "When this node last finished a cleanup in which nothing failed, since 1970; absent where it never has. The fleet's last cleanup is the greatest of all nodes.",
    ),
    Metric::new(
        Kind::Histogram,
        "session_kit_store_call_seconds",
        Some(Unit::Seconds),
        "Calls of the store, by method and outcome. A call that its caller gives up is not counted.",
    )
    .with_labels(&[
        (
            "method",
            &[
                "block", "commit", "end_many", "ended", "forget", "history", "lease", "load",
                "log_since", "page", "policy", "report", "set_block", "set_policy", "sweep", "touch",
                "trim_log", "user",
            ],
        ),
        ("outcome", &["ok", "unavailable", "corrupt", "refused", "internal"]),
    ])
    .with_buckets(&[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]),
    Metric::new(
        Kind::Gauge,
        "session_kit_store_answers",
        None,
        "1 while the store answers; 0 from its first call without an answer until none has been without one for 5 s. A read of the log that is given up early, after less than `store_timeout`, does not count while the log is heard.",
    ),
    Metric::new(
        Kind::Gauge,
        "session_kit_store_problems",
        Some(Unit::Count),
        "What the store said is wrong with it, when it was last asked (every ten minutes): a count; NaN where it could not say. The texts are in the log of one node.",
    ),
    Metric::new(
        Kind::Gauge,
        "session_kit_streams_open",
        Some(Unit::Count),
        "Listeners to events, and waits for the end of a session.",
    )
    .with_labels(&[("kind", &["events", "waits"])]),
    Metric::new(
        Kind::Gauge,
        "session_kit_ready",
        None,
        "1 while requests should come to this node, as `GET /sessions/health` answers.",
    ),
    Metric::new(
        Kind::Gauge,
        "session_kit_worker_failing",
        None,
        "1 while the last round of a worker has failed, or the last of what it reads, as `workers.failing` in `GET /sessions/health`.",
    )
    .with_labels(&[(
        "worker",
        &[
            "cleanup", "follower", "metrics", "policies", "report", "store", "take-back",
            "write-back",
        ],
    )]),
    Metric::new(
        Kind::Counter,
        "session_kit_worker_restarts_total",
        Some(Unit::Count),
        "How often a worker was started again after a panic.",
    )
    .with_labels(&[(
        "worker",
        &["cleanup", "follower", "metrics", "report", "take-back", "write-back"],
    )]),
];
