//! The demo as real processes on one SQLite file: parallel sign-ins, revocation across
//! processes, and sudden death.

mod death;
mod fleet;
mod parallel;
mod process;
