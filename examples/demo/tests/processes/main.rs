//! The demo as real processes on one SQLite file: parallel sign-ins, revocation across
//! processes, and sudden death.

#[allow(dead_code, reason = "the tests of behaviour use the other part")]
#[path = "../client/mod.rs"]
mod client;
mod death;
mod fleet;
mod mistakes;
mod parallel;
mod process;
mod restore;
mod upgrade;

/// How long anything may take that happens soon.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
