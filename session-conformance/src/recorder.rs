//! The calls that a case makes, so that a failure can say what came before it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    BlockChange, Commit, Cursor, EndMany, EndedBatch, EndedSession, Entries, Forget, HistoryPage,
    HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange, StoreReport,
    Sweep, Touch, UserState,
};
use session_core::{FleetKey, SessionId, Store, StoreError, Timestamp, UserKey};
use session_engine::Options;

use crate::{Namespace, RestorePoint};

/// A namespace whose connections note their calls.
pub(crate) struct Recorded {
    namespace: Arc<dyn Namespace>,
    calls: Calls,
    nodes: AtomicU32,
}

/// The last calls of a case, and those under way.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    begun: u64,
    under_way: BTreeMap<u64, Call>,
    last: VecDeque<String>,
}

struct Call {
    what: String,
    since: Instant,
}

/// A call that has begun. Dropped without an end, it was given up.
struct Running<'c> {
    calls: &'c Calls,
    number: u64,
}

impl Recorded {
    pub(crate) fn around(namespace: Arc<dyn Namespace>) -> (Arc<Self>, Calls) {
        let calls = Calls::default();
        let nodes = AtomicU32::new(0);
        (Arc::new(Self { namespace, calls: calls.clone(), nodes }), calls)
    }
}

#[async_trait]
impl Namespace for Recorded {
    async fn connect(&self) -> Arc<dyn Store> {
        let node = self.nodes.fetch_add(1, Ordering::SeqCst) + 1;
        let (namespace, calls) = (Arc::clone(&self.namespace), self.calls.clone());
        let running = calls.begin(format!("node {node}: connect()"));
        let store = self.namespace.connect().await;
        running.end("open");
        let (configured, calls) = (Once::new(), self.calls.clone());
        Arc::new(Recorder { store, namespace, node, configured, calls })
    }

    fn options(&self) -> Options {
        self.namespace.options()
    }

    fn many_sessions(&self) -> usize {
        self.namespace.many_sessions()
    }

    async fn restore_point(&self) -> Option<Box<dyn RestorePoint>> {
        self.namespace.restore_point().await
    }

    fn history_ends_by_itself(&self) -> bool {
        self.namespace.history_ends_by_itself()
    }

    async fn damage(&self, id: SessionId) -> bool {
        self.namespace.damage(id).await
    }

    async fn remember_alive(&self, id: SessionId) -> bool {
        self.namespace.remember_alive(id).await
    }

    async fn damage_log(&self, id: SessionId) -> bool {
        self.namespace.damage_log(id).await
    }

    async fn damage_settings(&self, owner: &UserKey) -> bool {
        self.namespace.damage_settings(owner).await
    }

    async fn settle(&self) {
        self.namespace.settle().await;
    }

    async fn complaints(&self) -> Vec<String> {
        self.namespace.complaints().await
    }
}

impl Calls {
    /// What a failure says of the calls: the last ones, and those under way.
    pub(crate) fn told(&self) -> String {
        let inner = self.inner();
        let mut text = String::new();
        if !inner.last.is_empty() {
            text.push_str("\n  the last calls of the store:");
        }
        for call in &inner.last {
            let _ = write!(text, "\n    {call}");
        }
        for Call { what, since } in inner.under_way.values() {
            let _ = write!(text, "\n    {what} ... no answer after {:?}", since.elapsed());
        }
        text
    }

    /// The call that has been under way for the longest time.
    pub(crate) fn slowest(&self) -> Option<String> {
        let inner = self.inner();
        let Call { what, since } = inner.under_way.values().min_by_key(|call| call.since)?;
        Some(format!("`{what}` has been under way for {:?}", since.elapsed()))
    }

    fn begin(&self, what: String) -> Running<'_> {
        let mut inner = self.inner();
        inner.begun += 1;
        let number = inner.begun;
        inner.under_way.insert(number, Call { what, since: Instant::now() });
        Running { calls: self, number }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running<'_> {
    fn end(self, answer: &str) {
        self.note(answer);
    }

    fn note(&self, answer: &str) {
        let mut inner = self.calls.inner();
        let Some(Call { what, since }) = inner.under_way.remove(&self.number) else { return };
        if inner.last.len() == LAST {
            inner.last.pop_front();
        }
        inner.last.push_back(format!("{what} -> {answer} ({:?})", since.elapsed()));
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.note("given up before its answer");
    }
}

/// One node's connection, which notes its calls. Where a case does not say what it needs of the
/// store, it needs what an engine does by default.
struct Recorder {
    store: Arc<dyn Store>,
    namespace: Arc<dyn Namespace>,
    node: u32,
    configured: Once,
    calls: Calls,
}

impl Recorder {
    async fn call<T>(
        &self,
        what: String,
        tell: impl FnOnce(&T) -> String,
        effect: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.configured.call_once(|| {
            let history = self.store.history_by_default();
            let max_staleness = self.namespace.options().max_staleness;
            self.store.configure(&Needs { history, max_staleness });
        });
        let running = self.calls.begin(format!("node {}: {what}", self.node));
        let result = effect.await;
        let answer = match &result {
            Ok(answer) => tell(answer),
            Err(error) => format!("{:?}: {error}", error.kind()),
        };
        running.end(&answer);
        result
    }
}

#[async_trait]
impl Store for Recorder {
    fn session_id(&self, owner: &UserKey, at: Timestamp, random: [u8; 16]) -> SessionId {
        self.store.session_id(owner, at, random)
    }

    fn configure(&self, needs: &Needs) {
        self.configured.call_once(|| self.store.configure(needs));
    }

    fn history_by_default(&self) -> Duration {
        self.store.history_by_default()
    }

    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        self.call("fleet_key()".to_owned(), debug, self.store.fleet_key(proposed)).await
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        let tell = |state: &UserState| {
            format!("version {}, {} sessions", state.version.0, state.sessions.len())
        };
        self.call(format!("user({})", whose(owner)), tell, self.store.user(owner)).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        let shown = commit.changes.iter().take(4);
        let shown = shown.map(|change| format!("{} {}", change.kind(), change.session()));
        let mut changes: Vec<_> = shown.collect();
        if let more @ 1.. = commit.changes.len() - changes.len() {
            changes.push(format!("{more} more"));
        }
        let (owner, version) = (whose(&commit.owner), commit.expected.0);
        let what = format!("commit({owner}, version {version}, [{}])", changes.join(", "));
        self.call(what, debug, self.store.commit(commit)).await
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        let tell = |found: &Option<Loaded>| match found {
            Some(Loaded { version, .. }) => format!("found, version {}", version.0),
            None => "none".to_owned(),
        };
        self.call(format!("load({id})"), tell, self.store.load(id)).await
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        let tell = |found: &Option<EndedSession>| match found {
            Some(ended) => format!("{} at {}", ended.cause, ended.ended),
            None => "none".to_owned(),
        };
        self.call(format!("ended({id})"), tell, self.store.ended(id)).await
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.namespace.settle().await;
        let tell = |page: &HistoryPage| {
            let goes_on = if page.next.is_some() { ", goes on" } else { "" };
            format!("{} ended sessions{goes_on}", page.sessions.len())
        };
        self.call(format!("history({query:?})"), tell, self.store.history(query)).await
    }

    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        self.namespace.settle().await;
        let what = format!("forget({forget:?}, limit {limit})");
        self.call(what, debug, self.store.forget(forget, limit)).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        self.namespace.settle().await;
        let what = format!("page({query:?})");
        let tell = |page: &Page| {
            let goes_on = if page.next.is_some() { ", goes on" } else { "" };
            format!("{} sessions{goes_on}", page.sessions.len())
        };
        self.call(what, tell, self.store.page(query)).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        let what = format!("touch({} sessions)", batch.len());
        let tell = |gone: &Vec<SessionId>| format!("{} are gone", gone.len());
        self.call(what, tell, self.store.touch(batch)).await
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        self.namespace.settle().await;
        let begins = if end.after.is_some() { ", going on" } else { "" };
        let what = format!("end_many({:?}{begins}, limit {limit})", end.selection);
        self.call(what, ended, self.store.end_many(end, limit)).await
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        self.namespace.settle().await;
        let begins = if sweep.after.is_some() { ", going on" } else { "" };
        let what = format!("sweep(overdue {:?}{begins}, limit {limit})", sweep.overdue);
        self.call(what, ended, self.store.sweep(sweep, limit)).await
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        let from = if cursor.is_some() { "a cursor" } else { "no cursor" };
        let what = format!("log_since({from}, {entries:?}, limit {limit})");
        let tell = |page: &LogPage| {
            let mut text = format!("{} entries", page.events.len());
            text.push_str(if page.more { ", more" } else { "" });
            text.push_str(if page.gap { ", a gap" } else { "" });
            text
        };
        self.call(what, tell, self.store.log_since(cursor, entries, limit)).await
    }

    async fn changed(&self) {
        self.store.changed().await;
    }

    fn pushes(&self) -> bool {
        self.store.pushes()
    }

    fn expects_pushes(&self) -> bool {
        self.store.expects_pushes()
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        let what = format!("trim_log(older than {older_than:?}, limit {limit})");
        self.call(what, debug, self.store.trim_log(older_than, limit)).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        let what = format!("lease({name:?}, {holder:?}, {ttl:?})");
        self.call(what, debug, self.store.lease(name, holder, ttl)).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        self.call(format!("policy({scope:?})"), debug, self.store.policy(scope)).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        let what = format!("set_policy({:?}, {:?})", change.scope, change.policy);
        self.call(what, |()| "done".to_owned(), self.store.set_policy(change)).await
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        self.call(format!("block({scope:?})"), debug, self.store.block(scope)).await
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        let what = format!("set_block({:?}, {:?})", change.scope, change.block);
        self.call(what, |()| "done".to_owned(), self.store.set_block(change)).await
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        self.call("report()".to_owned(), debug, self.store.report()).await
    }
}

fn whose(owner: &UserKey) -> String {
    match &owner.tenant {
        Some(tenant) => format!("{:?} of {:?}", owner.user.as_str(), tenant.as_str()),
        None => format!("{:?}", owner.user.as_str()),
    }
}

fn ended(batch: &EndedBatch) -> String {
    let goes_on = if batch.next.is_some() { ", goes on" } else { "" };
    format!("{} ended{goes_on}", batch.ended.len())
}

fn debug<T: std::fmt::Debug>(answer: &T) -> String {
    format!("{answer:?}")
}

/// So many calls lead to a failure in most cases.
const LAST: usize = 12;
