//! What an operator wants to know of a store.

use crate::time::Timestamp;

/// How a store is, as [`Store::report`](crate::Store::report) found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// The product and its version, such as `PostgreSQL 15.8`.
    pub server: String,
    /// The version of the schema, or none where there is no schema.
    pub schema: Option<i64>,
    /// The store's clock, or this host's where the store has none.
    pub clock: Timestamp,
    /// When the oldest entry of the log was written; none for an empty log. A node that has not
    /// read the log since then drops its cache.
    pub log_from: Option<Timestamp>,
    /// Log entries that have no number yet.
    pub pending: u64,
    /// What else there is to say, by name: indexes, replicas, the sequencer.
    pub details: Vec<(String, String)>,
    /// What is wrong, each in a sentence: an index that is missing, a log that is cut too soon.
    pub problems: Vec<String>,
}
