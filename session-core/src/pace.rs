//! How many records one call of a store takes on, by how long the last ones took.
//!
//! A call that changes many records holds up others: on SQLite every sign-in, elsewhere all that want the
//! same pages and processors. How long a record takes depends on the store, on what it has in memory and
//! on what else it does, so a size that is right everywhere does not exist.

use std::time::Duration;

/// The size of the next call. It halves or doubles at most from one call to the next.
///
/// ```
/// use session_core::pace::Pace;
///
/// let mut pace = Pace::default();
/// let size = pace.size(500);
/// // The call changed as many records as it was to, and took four times as long as it should.
/// pace.took(size, size, 4 * Pace::AIM);
/// assert_eq!(pace.size(500), size / 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace(u32);

impl Default for Pace {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pace {
    /// How long a call is to take. What waits behind it is then over within 50 ms.
    pub const AIM: Duration = Duration::from_millis(25);
    /// No call is asked for less, unless fewer are the most: each has costs of its own, such as a flush to
    /// the disk.
    pub const LEAST: u32 = 50;

    /// How many records the next call takes on, if it may take on `most`.
    pub const fn size(self, most: u32) -> u32 {
        if self.0 < most { self.0 } else { most }
    }

    /// Learns from a call that changed `done` of the `asked` records. One that changed less than half says
    /// little: it looked for them, or there were no more.
    pub fn took(&mut self, asked: u32, done: u32, time: Duration) {
        if done < asked.div_ceil(2) {
            return;
        }
        let fitting = u128::from(done) * Self::AIM.as_nanos() / time.as_nanos().max(1);
        let fitting = u32::try_from(fitting).unwrap_or(u32::MAX);
        self.0 = fitting.clamp(self.0 / 2, self.0 * 2).clamp(Self::LEAST, MOST);
    }

    /// How long to wait after a call that took this long, before the next of the same work: a fifth of the
    /// time is for others.
    pub fn pause(time: Duration) -> Duration {
        time / 4
    }
}

/// At first, as long as nothing is known of the store.
const FIRST: u32 = 100;
/// The largest batch of any call.
const MOST: u32 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls that change all they are asked for, of a store that takes so long for a record, beside what
    /// each call takes in itself.
    fn sizes(record: Duration, call: Duration, most: u32) -> Vec<u32> {
        let mut pace = Pace::default();
        let next = |_| {
            let size = pace.size(most);
            pace.took(size, size, call + record * size);
            size
        };
        (0..10).map(next).collect()
    }

    #[test]
    fn calls_take_as_long_as_they_are_to() {
        let micros = Duration::from_micros;
        assert_eq!(sizes(micros(100), micros(0), 500)[..4], [100, 200, 250, 250]);
        assert_eq!(sizes(micros(20), micros(0), 500)[..4], [100, 200, 400, 500]);
        assert_eq!(sizes(micros(400), micros(0), 500)[..4], [100, 62, 62, 62]);
        assert_eq!(sizes(micros(1), micros(50_000), 500)[..4], [100, 50, 50, 50], "a slow network");
        assert_eq!(sizes(micros(0), micros(0), 7)[9], 7, "no more than the most");
    }

    #[test]
    fn a_call_that_found_little_says_nothing() {
        let mut pace = Pace::default();
        pace.took(100, 49, Duration::from_secs(5));
        pace.took(100, 0, Duration::ZERO);
        assert_eq!(pace, Pace::default());
        pace.took(100, 50, Duration::from_secs(5));
        assert_eq!(pace.size(500), 50);
    }
}
