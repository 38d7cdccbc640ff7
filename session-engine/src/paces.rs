//! How large the calls are that change many records, each by its own [`Pace`].

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use session_core::pace::Pace;
use tokio::time::Instant;

/// What this node has learned of its store.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    pub(crate) end: Paced,
    pub(crate) forget: Paced,
    pub(crate) sweep: Paced,
    pub(crate) trim: Paced,
}

/// One kind of call.
#[derive(Debug, Default)]
pub(crate) struct Paced(Mutex<Pace>);

/// A call that is under way.
pub(crate) struct Turn<'p> {
    paced: &'p Paced,
    /// How many records it is asked for.
    pub(crate) size: u32,
    begun: Instant,
    is_over: bool,
}

impl Paced {
    /// Begins a call that may be asked for `most` records.
    pub(crate) fn begin(&self, most: u32) -> Turn<'_> {
        Turn { paced: self, size: self.pace().size(most), begun: Instant::now(), is_over: false }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// The call has changed so many records. Returns how long to wait before the next.
    pub(crate) fn over(mut self, done: usize) -> Duration {
        self.is_over = true;
        let (took, done) = (self.begun.elapsed(), u32::try_from(done).unwrap_or(u32::MAX));
        self.paced.pace().took(self.size, done, took);
        Pace::pause(took)
    }
}

/// A call that failed after a long time, or was given up, was too large.
impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        if !self.is_over && took > Pace::AIM {
            self.paced.pace().took(self.size, self.size, took);
        }
    }
}
