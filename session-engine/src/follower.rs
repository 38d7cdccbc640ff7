//! Follows the store's log: the one way in which a node learns what others did.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::poll;
use session_core::planted::{self, Defect};
use session_core::store::{Cursor, Entries, LogPage};
use session_core::{Event, EventKind};
use tokio::time::Instant;

use crate::entropy::random;
use crate::error::Error;
use crate::meter;
use crate::node::Node;
use crate::notice::Notice;
use crate::shared::Shared;
use crate::trouble::{Trouble, TroubleOver};

/// Where a node is in the log. It outlives a restart of the worker.
#[derive(Debug)]
pub(crate) struct Position {
    pub(crate) cursor: Cursor,
    /// When the last attempt began.
    tried: Option<Instant>,
    /// The last attempt, where it failed.
    failed: Option<(Instant, Error)>,
    /// How long the next read may take, and how many entries it asks for.
    patience: Duration,
    limit: u32,
}

impl Position {
    pub(crate) const fn new(cursor: Cursor, patience: Duration) -> Self {
        Self { cursor, tried: None, failed: None, patience, limit: LogPage::MAX_LIMIT }
    }

    /// Why the last attempt failed, where that was a moment ago.
    fn just_failed(&self) -> Option<&Error> {
        let (at, error) = self.failed.as_ref()?;
        (at.elapsed() < PAUSE_AFTER_FAILURE).then_some(error)
    }
}

/// Reads the log now, unless another caller has just done so, or has just failed: any number of callers
/// reads it once.
pub(crate) async fn hear(shared: &Arc<Shared>) -> Result<(), Error> {
    let own = Arc::clone(shared);
    shared.detached(async move { hear_now(&own).await }).await
}

async fn hear_now(shared: &Shared) -> Result<(), Error> {
    let mut position = shared.position.lock().await;
    if shared.is_fresh() {
        return Ok(());
    }
    match position.just_failed() {
        Some(error) => Err(error.clone()),
        None => catch_up(shared, &mut position).await,
    }
}

impl Node {
    /// Before something is stamped or judged. A node whose machine may have slept learns the time from the
    /// log, and changes nothing where that cannot be read. One that has only not heard the log for long
    /// knows the time.
    pub(crate) async fn know_the_time(&self) -> Result<(), Error> {
        let shared = self.shared();
        if shared.is_fresh() {
            return Ok(());
        }
        hear(shared)
            .await
            .or_else(|error| if shared.time.may_be_wrong() { Err(error) } else { Ok(()) })
    }
}

/// Reads the log twice in every propagation bound, or four times where no push is followed, and
/// whenever there is a hint, but never without a pause.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    let mut said = Said::nothing();
    loop {
        // Also where the last read has panicked.
        shared.note_trust();
        // A hint that comes while the log is being read must not be lost: wait for the next one
        // before reading.
        let mut hint = pin!(shared.hint());
        let hinted = poll!(&mut hint).is_ready();
        let read = async { catch_up(&shared, &mut *shared.position.lock().await).await };
        let result = noting_trust(&shared, read).await;
        said.report(&shared, &result);
        let pause = tokio::time::sleep(LEAST_PAUSE);
        // One that was there already has been followed; the next may have come during the read.
        let next = async {
            pause.await;
            if hinted { shared.hint().await } else { hint.await }
        };
        let heeds_hints = result.is_ok() || planted::is(Defect::HintIsTruth);
        let polls = result.is_err() || !planted::is(Defect::PushOnly);
        tokio::select! {
            biased;
            () = stopping.stopped() => return,
            () = next, if heeds_hints => if planted::is(Defect::HintIsTruth) {
                shared.time.heard(shared.time.moment(), shared.next_read());
            },
            () = shared.poke.notified(), if result.is_ok() => tokio::time::sleep(LEAST_PAUSE).await,
            () = tokio::time::sleep(interval(&shared)), if polls => {}
        }
    }
}

/// Awaits a read of the log. One that hangs keeps nobody from learning that this node is cut off.
async fn noting_trust<T>(shared: &Shared, read: impl Future<Output = T>) -> T {
    let mut read = pin!(read);
    loop {
        tokio::select! {
            biased;
            result = &mut read => return result,
            () = tokio::time::sleep(shared.options.propagation_bound / 2) => shared.note_trust(),
        }
    }
}

/// Reads to the end of the log: all of it where there is a listener, otherwise what concerns the cache.
/// Only then is the node as fresh as the moment the last read began.
///
/// One read that hangs is given up well within the propagation bound and made again at once: that the
/// answer got lost is likelier than that the store is slow.
pub(crate) async fn catch_up(shared: &Shared, position: &mut Position) -> Result<(), Error> {
    let (begun, patience) = (Instant::now(), position.patience);
    position.tried = Some(begun);
    let mut result = read_within(shared, position).await;
    let hung = result.is_err() && begun.elapsed() >= patience;
    if hung && patience <= shared.options.propagation_bound / 2 {
        result = read_within(shared, position).await;
    }
    position.failed = result.as_ref().err().map(|error| (Instant::now(), error.clone()));
    shared.time.expect(shared.next_read());
    shared.note_log(result.is_ok());
    result
}

/// Reads on. The next read may take some times as long as this one has, and longer where it has failed.
async fn read_within(shared: &Shared, position: &mut Position) -> Result<(), Error> {
    let begun = Instant::now();
    let result = read_on(shared, position).await;
    let (least, most) = (shared.log_patience(), shared.options.store_timeout);
    if result.is_ok() {
        let usual = shared.options.propagation_bound.clamp(least, most.max(least));
        position.patience = (begun.elapsed() * 3).clamp(least, usual);
        position.limit = LogPage::MAX_LIMIT;
    } else {
        // A store that is slow has to be waited for longer, and asked for less.
        position.patience = (position.patience * 2).min(most.max(least));
        position.limit = (position.limit / 4).max(LEAST_LIMIT);
    }
    result
}

/// Reads what the log has by now, where it can be read: any number of callers reads it once. Where it
/// fails, the propagation bound holds from the next read on.
pub(crate) async fn read_now(shared: &Arc<Shared>) {
    let (asked, own) = (Instant::now(), Arc::clone(shared));
    let read = async move {
        let mut position = own.position.lock().await;
        // One that began before would not tell of what the caller has come too late for.
        match position.tried {
            Some(begun) if begun > asked => Ok(()),
            _ => catch_up(&own, &mut position).await,
        }
    };
    let _ = shared.detached(read).await;
}

async fn read_on(shared: &Shared, position: &mut Position) -> Result<(), Error> {
    loop {
        let begun = shared.time.moment();
        shared.time.expect(position.patience + shared.slack());
        let entries =
            if shared.notices.are_heard() { Entries::All } else { Entries::Invalidations };
        let read = shared.store.log_since(Some(&position.cursor), entries, position.limit);
        let mut page = shared.store_call_within("log_since", position.patience, read).await?;
        shared.time.learn(begun, page.clock);
        // A listener came during the read and wants what this page leaves out.
        if entries == Entries::Invalidations && shared.notices.are_heard() {
            continue;
        }
        meter::log_read(page.events.len(), page.gap);
        if page.gap && !planted::is(Defect::GapIgnored) {
            tracing::warn!(
                "the log does not continue where this node left it; the cache is dropped"
            );
            shared.cache.clear();
            shared.watchers.doubt();
            if !planted::is(Defect::MissedUntold) {
                shared.notices.tell(Notice::Missed);
            }
        }
        if planted::is(Defect::CursorBeforeApply) {
            page.events.pop();
        }
        page.events.into_iter().for_each(|event| apply(shared, event));
        position.cursor = page.next;
        if !page.more || planted::is(Defect::HalfRead) {
            shared.time.heard(begun, shared.next_read());
            return Ok(());
        }
    }
}

fn apply(shared: &Shared, event: Event) {
    if let Some(id) = event.session {
        match event.kind {
            EventKind::Ended(cause) => {
                shared.cache.end(id, cause);
                if !planted::is(Defect::StreamLeftOpen) {
                    shared.watchers.ended(id, cause);
                }
            }
            EventKind::Unknown if planted::is(Defect::UnknownEventIgnored) => {}
            EventKind::ClaimsChanged if planted::is(Defect::ClaimsIgnored) => {}
            EventKind::Rotated if planted::is(Defect::RotationUnheard) => {}
            EventKind::Unknown => {
                shared.cache.invalidate(id);
                shared.watchers.doubt_session(id);
            }
            kind if kind.invalidates() => shared.cache.invalidate(id),
            _ => {}
        }
    }
    if event.kind == EventKind::Created && planted::is(Defect::BeginUntold) {
        return;
    }
    shared.notices.tell(Notice::Event(event));
}

/// Somewhat shorter by chance, so that the nodes of a fleet do not read in step.
fn interval(shared: &Shared) -> Duration {
    if planted::is(Defect::SlowFollower) {
        return shared.options.propagation_bound * 4;
    }
    let reads = if shared.pushes() { 2 } else { 4 };
    let reads = if planted::is(Defect::PollsMore) { reads * 4 } else { reads };
    let [random] = random(shared.entropy.as_ref());
    shared.options.propagation_bound / reads * (u32::from(u8::MAX) * 9 + u32::from(random))
        / (u32::from(u8::MAX) * 10)
}

/// What the log has said, so that it is said once. That the store does not answer is told where it is
/// called.
struct Said {
    skewed: bool,
    push: Push,
    jumps: Trouble,
}

/// Whether the store pushes.
enum Push {
    /// It never has.
    None,
    On,
    /// Not since then, but for a moment only.
    Off(Instant),
    Lost,
}

impl Said {
    const fn nothing() -> Self {
        Self { skewed: false, push: Push::None, jumps: Trouble::new(JUMP_QUIET) }
    }

    fn report(&mut self, shared: &Shared, result: &Result<(), Error>) {
        shared.health.note("follower", result.as_ref().err().map(ToString::to_string));
        self.report_push(shared.pushes());
        self.report_jump(shared.time.note_jump());
        if result.is_ok() {
            self.report_skew(shared.time.skew_micros());
        }
    }

    fn report_jump(&self, micros: Option<i64>) {
        if let Some(micros) = micros {
            if self.jumps.begins() {
                let seconds = micros / 1_000_000;
                tracing::warn!(
                    seconds,
                    "this node's wall clock has jumped, or the machine has slept"
                );
            }
        } else if let Some(TroubleOver { lasted, calls: jumps }) = self.jumps.ends() {
            tracing::info!(jumps, ?lasted, "this node's wall clock has not jumped for a while");
        }
    }

    /// A connection that is made again within a moment is not worth a word.
    fn report_push(&mut self, pushes: bool) {
        self.push = match (&self.push, pushes) {
            (Push::Lost, true) => {
                tracing::info!("the store's pushes are heard again");
                Push::On
            }
            (Push::On, false) => Push::Off(Instant::now()),
            (Push::Off(since), false) if since.elapsed() >= PUSH_PATIENCE => {
                tracing::warn!(
                    "the store's pushes are not heard: other nodes' changes take the propagation bound"
                );
                Push::Lost
            }
            (Push::Off(since), false) => Push::Off(*since),
            (Push::Lost, false) => Push::Lost,
            (Push::None, false) => Push::None,
            (_, true) => Push::On,
        };
    }

    fn report_skew(&mut self, micros: i64) {
        // A difference that moves around the limit is said once.
        let limit = if self.skewed { MOST_SKEW / 2 } else { MOST_SKEW };
        let skewed = micros.unsigned_abs() > limit;
        let seconds = micros / 1_000_000;
        if skewed && !self.skewed {
            tracing::warn!(seconds, "this node's clock is not the store's; no decision goes by it");
        } else if self.skewed && !skewed {
            tracing::info!("this node's clock is the store's again");
        }
        self.skewed = skewed;
    }
}

impl Shared {
    /// Whether pushes arrive and are followed.
    pub(crate) fn pushes(&self) -> bool {
        self.options.push && self.store.pushes()
    }

    /// Whether they are to arrive.
    pub(crate) fn expects_pushes(&self) -> bool {
        self.options.push && self.store.expects_pushes()
    }

    /// Returns when the store hints that the log has grown; never where hints are switched off.
    async fn hint(&self) {
        if self.options.push {
            self.store.changed().await;
        } else {
            std::future::pending().await
        }
    }

    /// Call after this node has appended to the log. The follower reads on at once if an entry invalidates
    /// cached sessions, or if the node has listeners.
    pub(crate) fn changed(&self, invalidates: bool) {
        if invalidates || self.notices.are_heard() {
            self.poke.notify_one();
        }
    }

    /// How long a read of the log may take at first.
    pub(crate) fn log_patience(&self) -> Duration {
        (self.options.propagation_bound / 4).max(LEAST_PATIENCE).min(self.options.store_timeout)
    }

    /// Within which time the follower reads the log again, unless the node does not run.
    pub(crate) fn next_read(&self) -> Duration {
        if planted::is(Defect::SlowFollower) {
            return self.options.propagation_bound * 5;
        }
        self.options.propagation_bound / 2 + self.slack()
    }

    /// How late the follower may be before the node counts as suspended.
    fn slack(&self) -> Duration {
        (self.options.propagation_bound / 2).max(LEAST_PATIENCE)
    }

    fn note_log(&self, heard: bool) {
        self.unheard.store(!heard, Ordering::Release);
        self.note_trust();
    }

    /// Tells what waits for ends of sessions whether this node can still tell.
    fn note_trust(&self) {
        let cut_off = self.is_cut_off();
        let has_changed = |known: &mut bool| std::mem::replace(known, cut_off) != cut_off;
        if !self.cut_off.send_if_modified(has_changed) {
            return;
        }
        if cut_off {
            tracing::warn!(
                "the log has been silent for too long: the cache is not trusted, and what the store \
                 cannot confirm is unavailable"
            );
        } else {
            tracing::info!("the cache is trusted again");
        }
    }
}

/// Between two reads that hints ask for: a thousand changes a second are not a thousand reads.
const LEAST_PAUSE: Duration = Duration::from_millis(5);
/// Between two attempts of requests to read a log that cannot be read.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
const LEAST_PATIENCE: Duration = Duration::from_millis(250);
const LEAST_LIMIT: u32 = 50;
/// How long pushes may be lost before the log says so.
const PUSH_PATIENCE: Duration = Duration::from_secs(2);
/// How long the wall clock has to be even until the log says so.
const JUMP_QUIET: Duration = Duration::from_secs(300);
/// In microseconds.
const MOST_SKEW: u64 = 1_000_000;
