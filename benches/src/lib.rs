//! Measures session-kit.
//!
//! | program | measures |
//! | --- | --- |
//! | `cargo bench -p session-benches` | the path that every request takes, and what a flush beside it costs |
//! | `cargo xtask bench stores` | sign-ins, reads of the log, cleanup and revocation on each store |
//! | `cargo xtask bench scale` | every call of a store at 10,000 and at many more sessions |
//!
//! This library is what the programs share: [generated users](people), [`load`] of many tasks,
//! [`times`] with their percentiles, [tables](table), and the [`stores`] with connections
//! and namespaces.

pub mod fill;
pub mod load;
pub mod people;
pub mod random;
pub mod stores;
pub mod table;
pub mod times;

use std::time::SystemTime;

use session_core::Timestamp;

/// Why a measurement ended early.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The wall clock.
pub fn now() -> Timestamp {
    Timestamp::EPOCH.plus(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}
