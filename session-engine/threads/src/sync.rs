//! What the engine's `sync` module gives its modules, here under the models' scheduler.

use std::cell::Cell;
use std::ops::Add;
use std::time::Duration;

pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use shuttle::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use crate::watch;

/// The monotonic clock, which stands still until a model moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Self {
        Self(NOW.get())
    }

    pub(crate) fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0 + later)
    }
}

/// Moves the clock. All threads of a model are one thread of the machine.
pub(crate) fn advance(by: Duration) {
    NOW.set(NOW.get() + by);
}

/// How far the clock has been moved.
pub(crate) fn elapsed() -> Duration {
    NOW.get()
}

/// Sets the clock back for the next run of a model.
pub(crate) fn begin() {
    NOW.set(Duration::ZERO);
}

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}
