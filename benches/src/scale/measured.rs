//! What was measured, and how. The page shows these figures with their origin.

/// What a store costs. Times are seconds of the server, sizes bytes.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The store's name.
    pub name: &'static str,
    /// A read of the log that finds nothing.
    pub read: f64,
    /// A page of 1,000 entries of the log.
    pub page: f64,
    /// An entry of the log, as the store keeps it.
    pub entry: f64,
    /// An entry of the log, as a reader receives it.
    pub entry_sent: f64,
    /// A session, with its share of indexes and of its user.
    pub session: f64,
    /// For how many seconds ended sessions are kept by default.
    pub history: f64,
    /// A session that is written back, in a batch of some 40.
    pub touched: f64,
    /// A call of `trim_log` for 500 entries.
    pub trim: f64,
    /// A renewal of a lease.
    pub lease: f64,
    /// A call of `sweep` for 500 sessions, at 1,000,000 (`docs/measured.md`).
    pub sweep: f64,
    /// Connections of a node.
    pub connections: f64,
}

impl Cost {
    /// Seconds of the server for an entry that a reader receives.
    pub const fn of_entry(&self) -> f64 {
        (self.page - self.read) / 1_000.0
    }
}

/// PostgreSQL 15. Times by `EXPLAIN (ANALYZE)`, sizes by `pg_total_relation_size` at 200,000 rows.
pub const POSTGRES: Cost = Cost {
    name: "PostgreSQL",
    read: 0.2e-3,
    page: 2.7e-3,
    entry: 155.0,
    entry_sent: 195.0,
    session: 1_040.0,
    history: 30.0 * 86_400.0,
    touched: 31e-6,
    trim: 2.7e-3,
    lease: 1.0e-3,
    sweep: 47.6e-3,
    // The pool, the connection that reads the log, the one that listens.
    connections: 10.0 + 1.0 + 1.0,
};

/// Redis 7.0, the first shard. Times by `INFO commandstats`; sizes of the crate's documentation.
pub const REDIS: Cost = Cost {
    name: "Redis",
    read: 15e-6,
    page: 7.7e-3,
    entry: 95.0,
    entry_sent: 215.0,
    session: 1_030.0,
    history: 86_400.0,
    touched: 10e-6,
    trim: 1.0e-3,
    lease: 0.1e-3,
    sweep: 91.7e-3,
    connections: 2.0,
};

/// Changes that one PostgreSQL server commits per second, on two shared cores (`docs/measured.md`).
pub const COMMITS: f64 = 3_680.0;
/// Bytes of an end that a node remembers (`docs/operations.md`).
pub const REMEMBERED_END: f64 = 300.0;
/// Bytes of a cached session, at 400,000 sessions.
pub const CACHED_SESSION: f64 = 525.0;
