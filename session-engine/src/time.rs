//! The fleet's time, and how long a node may trust what it has heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use session_core::Timestamp;
use session_core::planted::{self, Defect};
use tokio::time::Instant;

use crate::clock::Clock;

/// The store's clock, as this node has learned it: a monotonic clock from a moment on at which the
/// store told its time.
#[derive(Debug)]
pub(crate) struct FleetTime {
    wall: Arc<dyn Clock>,
    start: Instant,
    /// The store's time at `start`, in microseconds.
    base: AtomicI64,
    heard: Heard,
    /// A silence of the log that is longer than this is a break ([`Options::most_silence`]).
    ///
    /// [`Options::most_silence`]: crate::options::Options::most_silence
    most_silence: Duration,
    /// By when the follower is due to be heard of again, by the monotonic clock. One that is late has not
    /// run, and nor has the node: it was suspended, and the log may tell of any number of changes.
    due: AtomicI64,
    jumps: Jumps,
}

/// Jumps of the wall clock, and stops of the monotonic one or of the whole node.
#[derive(Debug, Default)]
struct Jumps {
    /// How far the wall clock was ahead of the monotonic one when it was last looked at, in microseconds.
    ahead: AtomicI64,
    count: AtomicU64,
}

/// When the last complete read of the log began.
#[derive(Debug, Default)]
struct Heard {
    /// By the monotonic clock, in microseconds since `start`; below zero for never.
    at: AtomicI64,
    /// By the wall clock.
    wall: AtomicI64,
    /// When it was heard again after a break, by the fleet's time. The start of the node counts as one: it
    /// knows nothing of what was before.
    again: AtomicI64,
}

/// A moment of this node, by both of its clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    monotonic: i64,
    wall: Timestamp,
}

impl FleetTime {
    pub(crate) fn new(wall: Arc<dyn Clock>, most_silence: Duration) -> Self {
        let base = AtomicI64::new(wall.now().as_micros());
        let never = || AtomicI64::new(i64::MIN);
        let heard = Heard { at: never(), wall: AtomicI64::new(0), again: never() };
        let jumps = Jumps { ahead: AtomicI64::new(wall.now().as_micros()), ..Jumps::default() };
        Self { wall, start: Instant::now(), base, heard, most_silence, due: never(), jumps }
    }

    /// The time of the fleet.
    pub(crate) fn now(&self) -> Timestamp {
        self.at(self.elapsed())
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment { monotonic: self.elapsed(), wall: self.wall.now() }
    }

    /// Learns the store's time from a call that began at `begun` and has just been answered: the store
    /// told it somewhere in between. A time that is possible already changes nothing, so that slow
    /// answers do not make the time uneven.
    pub(crate) fn learn(&self, begun: Moment, told: Timestamp) {
        let (earliest, latest) = (begun.monotonic, self.elapsed());
        // The base if the store told it at the end of the call, and at its beginning.
        let least = told.as_micros().saturating_sub(latest);
        let most = told.as_micros().saturating_sub(earliest);
        let base = self.base.load(Ordering::Acquire);
        self.base.store(base.clamp(least, most), Ordering::Release);
    }

    /// The log has been read to its end by a read that began then. The follower is heard of again within
    /// `next`.
    pub(crate) fn heard(&self, begun: Moment, next: Duration) {
        let (now, due) = (self.elapsed(), self.due.load(Ordering::Acquire));
        if self.silence_at(now).is_none_or(|silence| silence > self.most_silence) {
            self.heard.again.store(self.at(now).as_micros(), Ordering::Release);
        }
        self.heard.wall.store(begun.wall.as_micros(), Ordering::Release);
        self.heard.at.store(begun.monotonic, Ordering::Release);
        // A read during which the node was stopped does not tell what happened while it was.
        if begun.monotonic > due || now <= due {
            self.due.store(after(now, next), Ordering::Release);
        }
    }

    /// The follower is heard of again within `next`. Where it is late already, only a read of the log
    /// helps.
    pub(crate) fn expect(&self, next: Duration) {
        let now = self.elapsed();
        if !self.is_late(now) {
            self.due.store(after(now, next), Ordering::Release);
        }
    }

    fn is_late(&self, elapsed: i64) -> bool {
        elapsed > self.due.load(Ordering::Acquire)
    }

    /// Until when the log has been heard, by the fleet's time.
    pub(crate) fn heard_at(&self) -> Timestamp {
        self.at(self.heard.at.load(Ordering::Acquire))
    }

    /// As [`FleetTime::trusted`], and the follower has run: none where the node was suspended and has not
    /// read the log since.
    pub(crate) fn followed(&self, limit: Duration) -> Option<Timestamp> {
        let elapsed = self.elapsed();
        if self.is_late(elapsed) { None } else { self.trusted_at(elapsed, limit) }
    }

    /// The time of the fleet, if the log has been silent for no longer than `limit` by both clocks. None
    /// where it has never been heard, or where the wall clock has jumped: then the machine may have slept,
    /// and the monotonic clock with it, so that only the log can tell the time.
    pub(crate) fn trusted(&self, limit: Duration) -> Option<Timestamp> {
        self.trusted_at(self.elapsed(), limit)
    }

    fn trusted_at(&self, elapsed: i64, limit: Duration) -> Option<Timestamp> {
        let monotonic = self.silence_at(elapsed)?;
        if planted::is(Defect::MonotonicOnly) {
            return (monotonic <= limit).then(|| self.at(elapsed));
        }
        let wall = self.wall_silence(monotonic)?;
        (wall.max(monotonic) <= limit).then(|| self.at(elapsed))
    }

    /// Whether the wall clock has jumped since the log was heard, so that the monotonic clock may have stood
    /// still, or the log has never been heard.
    pub(crate) fn may_be_wrong(&self) -> bool {
        self.silence().and_then(|monotonic| self.wall_silence(monotonic)).is_none()
    }

    /// How long the log has been silent by the wall clock; none where that clock has jumped.
    fn wall_silence(&self, monotonic: Duration) -> Option<Duration> {
        let heard = Timestamp::from_micros(self.heard.wall.load(Ordering::Acquire));
        let now = self.wall.now();
        let wall = now.since(heard);
        let jumped = now.plus(CLOCK_GRAIN) < heard || wall > monotonic.saturating_add(CLOCK_GRAIN);
        (!jumped).then_some(wall)
    }

    /// How long the log has been silent by the monotonic clock; none where it has never been heard.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.silence_at(self.elapsed())
    }

    /// For how long the log has been heard without a break.
    pub(crate) fn since_break(&self) -> Duration {
        let elapsed = self.elapsed();
        if self.silence_at(elapsed).is_none_or(|silence| silence > self.most_silence) {
            return Duration::ZERO;
        }
        let again = Timestamp::from_micros(self.heard.again.load(Ordering::Acquire));
        self.at(elapsed).since(again)
    }

    fn silence_at(&self, elapsed: i64) -> Option<Duration> {
        let heard = self.heard.at.load(Ordering::Acquire);
        (heard != i64::MIN).then(|| micros(elapsed.saturating_sub(heard)))
    }

    fn at(&self, elapsed: i64) -> Timestamp {
        if planted::is(Defect::WallClock) {
            return self.wall.now();
        }
        Timestamp::from_micros(self.base.load(Ordering::Acquire).saturating_add(elapsed))
    }

    /// How far the wall clock is ahead of the fleet's time, in microseconds; below zero for behind.
    pub(crate) fn skew_micros(&self) -> i64 {
        self.wall.now().as_micros().saturating_sub(self.now().as_micros())
    }

    /// Looks whether the wall clock has jumped since this was last called, and answers by how much, in
    /// microseconds; below zero for back. A machine that slept has jumped ahead.
    pub(crate) fn note_jump(&self) -> Option<i64> {
        let ahead = self.wall.now().as_micros().saturating_sub(self.elapsed());
        let by = ahead.saturating_sub(self.jumps.ahead.swap(ahead, Ordering::AcqRel));
        let jumped = Duration::from_micros(by.unsigned_abs()) > CLOCK_GRAIN;
        jumped.then(|| {
            self.jumps.count.fetch_add(1, Ordering::Relaxed);
            by
        })
    }

    /// How often [`FleetTime::note_jump`] has found one.
    pub(crate) fn jumps(&self) -> u64 {
        self.jumps.count.load(Ordering::Relaxed)
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}

fn after(moment: i64, limit: Duration) -> i64 {
    moment.saturating_add(i64::try_from(limit.as_micros()).unwrap_or(i64::MAX))
}

fn micros(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Threads may read the clock out of order; a difference of less than this is not a jump.
const CLOCK_GRAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH.plus(Duration::from_secs(seconds))
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_is_the_stores_however_wrong_the_wall_clock_is() {
        let wall = ManualClock::starting_at(at(1_000_000));
        let time = FleetTime::new(Arc::new(wall.clone()), Duration::from_secs(5));
        let begun = time.moment();
        tokio::time::advance(Duration::from_secs(2)).await;
        time.learn(begun, at(500));
        assert_eq!(time.now(), at(502), "the later end of what is possible is nearer");
        wall.set(at(7));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(time.now(), at(512));
        assert_eq!(time.skew_micros(), -505_000_000);
        let begun = time.moment();
        tokio::time::advance(Duration::from_secs(1)).await;
        time.learn(begun, at(512));
        assert_eq!(time.now(), at(513), "it was possible already");
    }

    #[tokio::test(start_paused = true)]
    async fn either_clock_ends_the_trust() {
        let wall = ManualClock::starting_at(at(100));
        let time = FleetTime::new(Arc::new(wall.clone()), Duration::from_secs(5));
        let trusts = |seconds| time.trusted(Duration::from_secs(seconds)).is_some();
        assert!(!trusts(1000), "never heard");
        time.heard(time.moment(), Duration::from_secs(1));
        assert!(trusts(0));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(trusts(3) && !trusts(2), "the wall clock stands still");
        wall.advance(Duration::from_secs(3));
        assert_eq!(time.trusted(Duration::from_secs(3)), Some(time.now()));
        wall.advance(Duration::from_secs(2));
        assert!(!trusts(1000), "the machine slept");
        assert_eq!(time.silence(), Some(Duration::from_secs(3)));
        wall.set(at(98));
        assert!(!trusts(1000));
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_that_is_late_ends_the_trust_until_it_has_read_the_log() {
        let wall = ManualClock::starting_at(at(100));
        let time = FleetTime::new(Arc::new(wall.clone()), Duration::from_secs(5));
        let follows = || time.followed(Duration::from_secs(1000)).is_some();
        let second = Duration::from_secs(1);
        let pass = async |seconds| {
            wall.advance(second * seconds);
            tokio::time::advance(second * seconds).await;
        };
        time.expect(second);
        assert!(!follows(), "never heard");
        time.heard(time.moment(), second);
        pass(1).await;
        assert!(follows());
        time.expect(second * 2);
        pass(2).await;
        assert!(follows());
        pass(1).await;
        time.expect(second * 2);
        assert!(!follows(), "it was suspended");
        assert!(time.trusted(Duration::from_secs(4)).is_some(), "for no longer than it may be");
        time.heard(time.moment(), second);
        assert!(follows());
        let before = time.moment();
        pass(2).await;
        time.heard(before, second);
        assert!(!follows(), "it was stopped while it read");
        time.heard(time.moment(), second);
        assert!(follows());
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_silence_is_a_break() {
        let wall = ManualClock::starting_at(at(100));
        let time = FleetTime::new(Arc::new(wall.clone()), Duration::from_secs(5));
        let pass = async |seconds| tokio::time::advance(Duration::from_secs(seconds)).await;
        time.heard(time.moment(), Duration::from_secs(1));
        pass(5).await;
        time.heard(time.moment(), Duration::from_secs(1));
        assert_eq!(time.since_break(), Duration::from_secs(5), "it has started");
        pass(6).await;
        assert_eq!(time.since_break(), Duration::ZERO, "it goes on");
        time.heard(time.moment(), Duration::from_secs(1));
        pass(4).await;
        time.heard(time.moment(), Duration::from_secs(1));
        pass(3).await;
        assert_eq!(time.since_break(), Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn jumps_of_the_wall_clock_are_counted_and_slow_clocks_are_not() {
        let wall = ManualClock::starting_at(at(100));
        let time = FleetTime::new(Arc::new(wall.clone()), Duration::from_secs(5));
        for _ in 0..10 {
            tokio::time::advance(CLOCK_GRAIN / 2).await;
            assert_eq!(time.note_jump(), None, "it stands still");
        }
        wall.advance(Duration::from_secs(3600));
        assert_eq!(time.note_jump(), Some(3_600_000_000));
        assert_eq!(time.note_jump(), None);
        wall.set(at(100));
        assert_eq!((time.note_jump(), time.jumps()), (Some(-3_600_000_000), 2));
    }
}
