//! A store that can be slow, away or broken on demand, and counts what it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Commit, Cursor, EndMany, EndedBatch, EndedSession, Entries, Forget, HistoryPage,
    HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange, StoreReport,
    Sweep, Touch, UserState,
};
use session_core::{FleetKey, SessionId, Store, StoreError, Timestamp, UserKey};
use tokio::sync::Notify;

/// One node's way to a store, for tests of what happens when it is disturbed.
///
/// Clones are the same way. Calls are counted by the name of their method.
#[derive(Clone)]
pub struct Probe(Arc<Inner>);

struct Inner {
    store: Mutex<Arc<dyn Store>>,
    away: AtomicBool,
    answers_lost: Mutex<BTreeSet<&'static str>>,
    failing: Mutex<BTreeSet<&'static str>>,
    refused: Mutex<BTreeSet<&'static str>>,
    pushes: AtomicBool,
    hints: Notify,
    panics: Mutex<BTreeSet<&'static str>>,
    slow: Mutex<BTreeMap<&'static str, Duration>>,
    under_way: Mutex<BTreeMap<&'static str, Crowd>>,
    corrupt: Mutex<BTreeSet<SessionId>>,
    calls: Mutex<BTreeMap<&'static str, u64>>,
    gate: Mutex<Option<(&'static str, Gate)>>,
    gate_before: Mutex<Option<(&'static str, Gate)>>,
    delayed: Mutex<Option<Gate>>,
    wanted: Mutex<Option<Entries>>,
    events: AtomicU64,
    problems: Mutex<Vec<String>>,
    clock: Mutex<Option<Box<dyn Fn() -> Timestamp + Send>>>,
}

/// Calls of one method that are under way.
#[derive(Clone, Copy, Debug, Default)]
struct Crowd {
    now: u64,
    most: u64,
}

/// Holds one call back: between its effect and its answer, or before its effect.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Passage>);

#[derive(Debug, Default)]
struct Passage {
    reached: Notify,
    opened: Notify,
}

impl Gate {
    /// Waits until the call is held back.
    pub async fn reached(&self) {
        self.0.reached.notified().await;
    }

    /// Lets the call go on.
    pub fn open(&self) {
        self.0.opened.notify_one();
    }

    async fn passed(&self) {
        self.0.reached.notify_one();
        self.0.opened.notified().await;
    }
}

impl Probe {
    /// An undisturbed way to a store, without pushes.
    pub fn over(store: impl Store) -> Self {
        Self::around(Arc::new(store))
    }

    /// An undisturbed way to a store of any kind, without pushes.
    pub fn around(store: Arc<dyn Store>) -> Self {
        Self(Arc::new(Inner {
            store: Mutex::new(store),
            away: AtomicBool::default(),
            answers_lost: Mutex::default(),
            failing: Mutex::default(),
            refused: Mutex::default(),
            pushes: AtomicBool::default(),
            hints: Notify::new(),
            panics: Mutex::default(),
            slow: Mutex::default(),
            under_way: Mutex::default(),
            corrupt: Mutex::default(),
            calls: Mutex::default(),
            gate: Mutex::default(),
            gate_before: Mutex::default(),
            delayed: Mutex::default(),
            wanted: Mutex::default(),
            events: AtomicU64::default(),
            problems: Mutex::default(),
            clock: Mutex::default(),
        }))
    }

    /// Leads to another content from now on, as after a restored backup.
    pub fn replace(&self, store: impl Store) {
        *lock(&self.0.store) = Arc::new(store);
    }

    /// Whether every call fails as unavailable.
    pub fn away(&self, away: bool) {
        self.0.away.store(away, Ordering::SeqCst);
    }

    /// Whether commits happen but their answers get lost.
    pub fn lose_answers(&self, lose: bool) {
        self.lose_answers_of("commit", lose);
    }

    /// Whether calls of this method happen but their answers get lost.
    pub fn lose_answers_of(&self, method: &'static str, lose: bool) {
        let mut lost = lock(&self.0.answers_lost);
        let _ = if lose { lost.insert(method) } else { lost.remove(method) };
    }

    /// Tells the time of this clock in place of the store's. What the store deletes by age goes by
    /// its own.
    pub fn set_clock(&self, clock: impl Fn() -> Timestamp + Send + 'static) {
        *lock(&self.0.clock) = Some(Box::new(clock));
    }

    /// Whether calls of this method fail as unavailable.
    pub fn fail(&self, method: &'static str, fail: bool) {
        let mut failing = lock(&self.0.failing);
        let _ = if fail { failing.insert(method) } else { failing.remove(method) };
    }

    /// Whether the store refuses calls of this method, as for a missing permission.
    pub fn refuse(&self, method: &'static str, refuse: bool) {
        let mut refused = lock(&self.0.refused);
        let _ = if refuse { refused.insert(method) } else { refused.remove(method) };
    }

    /// Passes the store's hints on.
    pub fn push(&self) {
        self.0.pushes.store(true, Ordering::SeqCst);
    }

    /// Passes no more hints on, as when the connection that brings them is lost.
    pub fn unpush(&self) {
        self.0.pushes.store(false, Ordering::SeqCst);
    }

    /// Adds a problem to what the store reports.
    pub fn complain(&self, problem: &str) {
        lock(&self.0.problems).push(problem.to_owned());
    }

    /// Takes these problems away again.
    pub fn uncomplain(&self) {
        lock(&self.0.problems).clear();
    }

    /// Gives one hint, which waits for whoever asks next.
    pub fn hint(&self) {
        self.0.hints.notify_one();
    }

    /// Makes the next call of this method panic.
    pub fn panic_once(&self, method: &'static str) {
        lock(&self.0.panics).insert(method);
    }

    /// Makes every call of this method take so long.
    pub fn slow(&self, method: &'static str, by: Duration) {
        lock(&self.0.slow).insert(method, by);
    }

    /// How many calls of this method were under way at the same time, at most.
    pub fn most_at_once(&self, method: &'static str) -> u64 {
        lock(&self.0.under_way).get(method).map_or(0, |crowd| crowd.most)
    }

    /// Makes the record of this session unreadable: it can be neither loaded nor ended by its id, every
    /// write-back of it is refused, and once it has ended, how cannot be read. `user` still reads it.
    pub fn corrupt(&self, id: SessionId) {
        lock(&self.0.corrupt).insert(id);
    }

    /// Holds the next call of this method back.
    pub fn hold(&self, method: &'static str) -> Gate {
        let gate = Gate::default();
        *lock(&self.0.gate) = Some((method, gate.clone()));
        gate
    }

    /// Holds the next call of this method back before it has any effect.
    pub fn hold_before(&self, method: &'static str) -> Gate {
        let gate = Gate::default();
        *lock(&self.0.gate_before) = Some((method, gate.clone()));
        gate
    }

    /// Holds the next commit on its way to the store: it arrives there when the gate is opened, also
    /// where its caller has given it up by then.
    pub fn delay_commit(&self) -> Gate {
        let gate = Gate::default();
        *lock(&self.0.delayed) = Some(gate.clone());
        gate
    }

    /// How often each method was called.
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.0.calls).clone()
    }

    /// Which entries the last read of the log asked for.
    pub fn wanted(&self) -> Option<Entries> {
        *lock(&self.0.wanted)
    }

    /// How many events the reads of the log have answered with.
    pub fn events(&self) -> u64 {
        self.0.events.load(Ordering::SeqCst)
    }

    /// How many calls there were.
    pub fn total(&self) -> u64 {
        lock(&self.0.calls).values().sum()
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&lock(&self.0.store))
    }

    async fn call<T>(
        &self,
        method: &'static str,
        effect: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        *lock(&self.0.calls).entry(method).or_default() += 1;
        assert!(!lock(&self.0.panics).remove(method), "a planted panic");
        if self.0.away.load(Ordering::SeqCst) || lock(&self.0.failing).contains(method) {
            return Err(StoreError::unavailable("away"));
        }
        if lock(&self.0.refused).contains(method) {
            return Err(StoreError::internal("refused"));
        }
        let _under_way = UnderWay::begin(&self.0.under_way, method);
        pass(&self.0.gate_before, method).await;
        let slow = lock(&self.0.slow).get(method).copied();
        if let Some(slow) = slow {
            tokio::time::sleep(slow).await;
        }
        let result = effect.await;
        pass(&self.0.gate, method).await;
        if lock(&self.0.answers_lost).contains(method) {
            return Err(StoreError::unavailable("the answer was lost"));
        }
        result
    }

    fn check_readable(&self, ids: &[SessionId]) -> Result<(), StoreError> {
        let corrupt = lock(&self.0.corrupt);
        if ids.iter().any(|id| corrupt.contains(id)) {
            return Err(StoreError::corrupt("a planted defect"));
        }
        Ok(())
    }
}

/// One call that is under way, until this is dropped.
struct UnderWay<'p> {
    crowds: &'p Mutex<BTreeMap<&'static str, Crowd>>,
    method: &'static str,
}

impl<'p> UnderWay<'p> {
    fn begin(crowds: &'p Mutex<BTreeMap<&'static str, Crowd>>, method: &'static str) -> Self {
        let mut all = lock(crowds);
        let crowd = all.entry(method).or_default();
        crowd.now += 1;
        crowd.most = crowd.most.max(crowd.now);
        Self { crowds, method }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(crowd) = lock(self.crowds).get_mut(self.method) {
            crowd.now -= 1;
        }
    }
}

async fn pass(gate: &Mutex<Option<(&'static str, Gate)>>, method: &'static str) {
    let held = lock(gate).take_if(|(held, _)| *held == method);
    if let Some((_, gate)) = held {
        gate.passed().await;
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Probe {
    fn session_id(&self, owner: &UserKey, at: Timestamp, random: [u8; 16]) -> SessionId {
        self.store().session_id(owner, at, random)
    }

    fn configure(&self, needs: &Needs) {
        self.store().configure(needs);
    }

    fn history_by_default(&self) -> Duration {
        self.store().history_by_default()
    }

    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        self.call("fleet_key", self.store().fleet_key(proposed)).await
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        self.call("user", self.store().user(owner)).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        let Some(gate) = lock(&self.0.delayed).take() else {
            return self.call("commit", self.store().commit(commit)).await;
        };
        let (store, commit) = (self.store(), commit.clone());
        let on_its_way = tokio::spawn(async move {
            gate.passed().await;
            store.commit(&commit).await
        });
        let lost = |_| Err(StoreError::unavailable("the commit was lost on its way"));
        self.call("commit", async { on_its_way.await.unwrap_or_else(lost) }).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        self.check_readable(&[id])?;
        self.call("load", self.store().load(id)).await
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        self.check_readable(&[id])?;
        self.call("ended", self.store().ended(id)).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.call("history", self.store().history(query)).await
    }

    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        self.call("forget", self.store().forget(forget, limit)).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        self.call("page", self.store().page(query)).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        let ids: Vec<_> = batch.iter().map(|touch| touch.id).collect();
        self.check_readable(&ids)?;
        self.call("touch", self.store().touch(batch)).await
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        self.check_readable(end.selection.ids.as_deref().unwrap_or_default())?;
        self.call("end_many", self.store().end_many(end, limit)).await
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        self.call("sweep", self.store().sweep(sweep, limit)).await
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        *lock(&self.0.wanted) = Some(entries);
        let mut page =
            self.call("log_since", self.store().log_since(cursor, entries, limit)).await?;
        self.0.events.fetch_add(page.events.len() as u64, Ordering::SeqCst);
        let told = lock(&self.0.clock).as_ref().map(|clock| clock());
        page.clock = told.unwrap_or(page.clock);
        Ok(page)
    }

    async fn changed(&self) {
        if self.0.pushes.load(Ordering::SeqCst) {
            self.store().changed().await;
        } else {
            self.0.hints.notified().await;
        }
    }

    fn pushes(&self) -> bool {
        self.0.pushes.load(Ordering::SeqCst) && self.store().pushes()
    }

    fn expects_pushes(&self) -> bool {
        self.store().expects_pushes()
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        self.call("trim_log", self.store().trim_log(older_than, limit)).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.call("lease", self.store().lease(name, holder, ttl)).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        self.call("policy", self.store().policy(scope)).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        self.call("set_policy", self.store().set_policy(change)).await
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        self.call("block", self.store().block(scope)).await
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        self.call("set_block", self.store().set_block(change)).await
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        let mut report = self.call("report", self.store().report()).await?;
        report.problems.extend_from_slice(&lock(&self.0.problems));
        Ok(report)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
