//! The log beside a transaction of others, and the cleanup of many sessions and log entries while
//! users sign in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_benches::fill::{Written, fill};
use session_benches::load::{Done, Load};
use session_benches::people::People;
use session_benches::stores::Backend;
use session_benches::table::Row;
use session_benches::times::{Times, millis};
use session_benches::{Failure, now};
use session_core::pace::Pace;
use session_core::policy::PolicyScope;
use session_core::store::{Continuation, EndedBatch, Entries, LogPage, Needs, PolicyChange, Sweep};
use session_core::{Actor, Store, UserKey};
use session_engine::{Options, SessionManager};

use crate::Plan;
use crate::nodes::{self, Newcomers};

pub(crate) async fn measure(backend: &dyn Backend, plan: &Plan) -> Result<Vec<Row>, Failure> {
    // Open before the first of the entries: a store must not look at all that came after it.
    let store = open(backend.open_to_fill().await?);
    let foreign = backend.foreign().await?;
    let people = People::new(SEED, now().minus(UNUSED));
    fill(&store, people, Written::default(), plan.entries, |_| Ok(())).await?;
    let store = open(backend.open().await?);
    let mut rows = Vec::new();
    if foreign.is_some() {
        rows.push(log_reads(&*store, "log read beside a foreign transaction").await?);
    }
    drop(foreign);
    rows.push(log_reads(&*store, "log read").await?);
    let newcomers = Newcomers::default();
    let scene = Scene { backend, store, newcomers };
    rows.extend(scene.sweep().await?);
    rows.extend(scene.trim(People::SPAN / 2).await?);
    Ok(rows)
}

fn open(store: Arc<dyn Store>) -> Arc<dyn Store> {
    let max_staleness = Options::default().max_staleness;
    store.configure(&Needs { history: store.history_by_default(), max_staleness });
    store
}

/// Reads at the end of the log, where a follower is, with one new entry each time: a store may know
/// without a read that nothing is new.
async fn log_reads(store: &dyn Store, name: &str) -> Result<Row, Failure> {
    let mut cursor = store.log_since(None, Entries::Invalidations, 1).await?.next;
    let mut times = Times::default();
    let scope = PolicyScope::User(UserKey::new("of-the-policy".parse()?));
    let policy = PolicyChange { scope, policy: None, at: now(), by: Actor::Application };
    for _ in 0..READS {
        store.set_policy(&policy).await?;
        let begun = Instant::now();
        cursor = store.log_since(Some(&cursor), Entries::All, LogPage::MAX_LIMIT).await?.next;
        times.add(begun.elapsed());
    }
    Ok(Row::plain(name, times.median(), "ms"))
}

/// A full store, and users who sign in beside the cleanup.
struct Scene<'a> {
    backend: &'a dyn Backend,
    store: Arc<dyn Store>,
    newcomers: Newcomers,
}

impl Scene<'_> {
    /// Ends all sessions whose deadline has passed.
    async fn sweep(&self) -> Result<Vec<Row>, Failure> {
        let mut after: Option<Continuation> = None;
        self.walk("sessions swept", async |size| {
            let sweep = Sweep { overdue: Duration::ZERO, after: after.take(), at: now() };
            let EndedBatch { ended, next } = self.store.sweep(&sweep, size).await?;
            after = next;
            Ok((ended.len() as u32, after.is_none()))
        })
        .await
    }

    /// Deletes all log entries that are older than this.
    async fn trim(&self, older_than: Duration) -> Result<Vec<Row>, Failure> {
        self.walk("log entries trimmed", async |size| {
            let trimmed = self.store.trim_log(older_than, size).await?;
            Ok((trimmed, trimmed == 0))
        })
        .await
    }

    /// Calls until it is over, as large as the cleanup worker makes them and with its pauses, while users
    /// sign in on another node. A call answers how much it did and whether it was the last.
    async fn walk(
        &self,
        what: &str,
        mut call: impl AsyncFnMut(u32) -> Result<(u32, bool), Failure>,
    ) -> Result<Vec<Row>, Failure> {
        let nodes = nodes::start(self.backend, 1).await?;
        let sign_ins = self.sign_ins(nodes[0].sessions());
        let (begun, mut times, mut count) = (Instant::now(), Times::default(), 0);
        let mut pace = Pace::default();
        loop {
            let (size, call_begun) = (pace.size(EndedBatch::MAX_LIMIT), Instant::now());
            let (done, is_last) = call(size).await?;
            let took = call_begun.elapsed();
            pace.took(size, done, took);
            times.add(took);
            count += u64::from(done);
            if is_last {
                break;
            }
            tokio::time::sleep(Pace::pause(took)).await;
        }
        let elapsed = begun.elapsed();
        let sign_ins = sign_ins.stop().await?;
        nodes::stop(nodes).await;
        Ok(rows(what, count, elapsed, &times, &sign_ins))
    }

    fn sign_ins(&self, manager: &SessionManager) -> Load {
        let (manager, newcomers) = (manager.clone(), self.newcomers.clone());
        Load::start(WORKERS, PAUSE, move |_| {
            let (manager, request) = (manager.clone(), newcomers.sign_in());
            async move {
                manager.sign_in(request?).await?;
                Ok(())
            }
        })
    }
}

fn rows(what: &str, count: u64, elapsed: Duration, times: &Times, sign_ins: &Done) -> Vec<Row> {
    let most = SECONDS_PER_MILLION * (count as f64 / 1e6).max(0.01);
    vec![
        Row::plain(what, Some(count as f64), "in all"),
        Row::at_most(format!("{what}, in all"), Some(millis(elapsed) / 1000.0), "s", most),
        Row::at_most(format!("{what}, a call, median"), times.median(), "ms", MOST),
        Row::plain(format!("{what}, a call, p99"), times.p99(), "ms"),
        Row::at_most(
            format!("{what}, longest stall of a sign-in"),
            sign_ins.times.longest(),
            "ms",
            MOST,
        ),
    ]
}

const SEED: u64 = 1;
const READS: usize = 200;
/// So long ago that every session is past its deadline.
const UNUSED: Duration = Duration::from_secs(60 * 24 * 3600);
/// Few and unhurried sign-ins: what they wait for is the cleanup.
const WORKERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);
/// The most milliseconds of a call, and of a sign-in beside it.
const MOST: f64 = 50.0;
const SECONDS_PER_MILLION: f64 = 180.0;
