//! Durations and their percentiles.

use std::time::Duration;

/// How long each of many calls took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds a call.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The number of calls.
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// Half of the calls took at most this long, in milliseconds.
    pub fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// 99 of 100 calls took at most this long, in milliseconds.
    pub fn p99(&self) -> Option<f64> {
        self.quantile(0.99)
    }

    /// The longest call, in milliseconds.
    pub fn longest(&self) -> Option<f64> {
        self.quantile(1.0)
    }

    /// The smallest time that this share of the calls did not exceed (the nearest rank).
    fn quantile(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).map(|time| millis(*time))
    }
}

impl Extend<Duration> for Times {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, times: I) {
        self.0.extend(times);
    }
}

impl IntoIterator for Times {
    type Item = Duration;
    type IntoIter = std::vec::IntoIter<Duration>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A duration in milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The middle of several values; of an even number, the lower of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let mut times = Times::default();
        assert_eq!((times.median(), times.p99(), times.longest()), (None, None, None));
        times.extend((1..=200).rev().map(Duration::from_millis));
        assert_eq!(times.median(), Some(100.0));
        assert_eq!(times.p99(), Some(198.0));
        assert_eq!(times.longest(), Some(200.0));
        let mut one = Times::default();
        one.add(Duration::from_millis(7));
        assert_eq!((one.median(), one.p99(), one.longest()), (Some(7.0), Some(7.0), Some(7.0)));
    }

    #[test]
    fn the_median_of_rounds_is_one_of_them() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.0));
    }
}
