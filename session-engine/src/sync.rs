//! Locks, counters, signals and the monotonic clock of what threads share.
//!
//! `session-engine/threads` compiles the modules that use them with those of a scheduler in their
//! place, which tries the orders in which threads can meet.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use tokio::sync::watch;
pub(crate) use tokio::time::Instant;
