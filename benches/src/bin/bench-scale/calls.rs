//! Every call of the trait.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use session_benches::fill::Written;
use session_benches::people::{KINDS, People, TENANTS};
use session_benches::times::Times;
use session_benches::{Failure, now};
use session_core::pace::Pace;
use session_core::store::{
    Cursor, Entries, LogPage, PageCursor, PageQuery, Selection, TenantFilter, Touch,
};
use session_core::{DeviceKind, SessionId, Store, UserKey};

use crate::Plan;
use crate::beside::{Beside, load, next, sign_in};
use crate::results::{Call, Changed, Measured};

/// Makes calls and keeps how long they took.
pub(crate) struct Calls {
    plan: Plan,
    store: Arc<dyn Store>,
    pub(crate) people: People,
    pub(crate) written: Written,
    pub(crate) seed: Arc<AtomicU64>,
    done: Vec<Call>,
}

impl Calls {
    pub(crate) fn new(plan: Plan, store: Arc<dyn Store>, people: People, written: Written) -> Self {
        // Newcomers of an earlier run are known to the store.
        let seed = Arc::new(AtomicU64::new(now().as_micros().cast_unsigned()));
        Self { plan, store, people, written, seed, done: Vec::new() }
    }

    pub(crate) fn measured(self) -> Measured {
        Measured { sessions: self.written.sessions, calls: self.done }
    }

    /// All of them: first what only reads, last what deletes.
    pub(crate) async fn all(&mut self, begin: Cursor) -> Result<(), Failure> {
        self.quiet().await?;
        self.one_session().await?;
        self.one_user().await?;
        self.pages().await?;
        self.nothing().await?;
        self.log(begin).await?;
        self.policies().await?;
        self.ends().await?;
        self.sweeps().await?;
        self.history().await?;
        self.deletes().await
    }

    /// What readers and sign-ins take with nothing beside them.
    async fn quiet(&mut self) -> Result<(), Failure> {
        self.measure("nothing", None, async |_| {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(true)
        })
        .await
    }

    async fn one_session(&mut self) -> Result<(), Failure> {
        let (store, people, written) = (self.store(), self.people, self.written);
        let seed = Arc::clone(&self.seed);
        self.measure("load", None, async |_| {
            load(&*store, people, written, next(&seed)).await?;
            Ok(true)
        })
        .await?;
        self.touch().await
    }

    async fn touch(&mut self) -> Result<(), Failure> {
        let store = self.store();
        let mut batches = Vec::new();
        for _ in 0..self.plan.calls {
            batches.push(self.touches()?);
        }
        let mut batches = batches.into_iter();
        self.measure("touch of 500", None, async |_| {
            let Some(batch) = batches.next() else { return Ok(false) };
            store.touch(&batch).await?;
            Ok(true)
        })
        .await
    }

    fn touches(&self) -> Result<Vec<Touch>, Failure> {
        let mut random = next(&self.seed);
        let touch = |_| {
            let (user, n) = self.people.any(self.written.users, &mut random);
            let id = self.people.id(&*self.store, user, n)?;
            let [a, b, ..] = random.bytes();
            Ok(Touch {
                id,
                last_accessed: now(),
                deadline: now().plus(People::SPAN),
                claimed: true,
                ip_addresses: vec![[10, 9, a, b].into()],
            })
        };
        (0..Touch::MAX_BATCH).map(touch).collect()
    }

    async fn one_user(&mut self) -> Result<(), Failure> {
        let (store, people, written) = (self.store(), self.people, self.written);
        let seed = Arc::clone(&self.seed);
        self.measure("user", None, async |_| {
            store.user(&people.owner(next(&seed).below(written.users))?).await?;
            Ok(true)
        })
        .await?;
        let heavy = people.owner(0)?;
        self.measure("user with 1,000 sessions", BOUND, async |_| {
            store.user(&heavy).await?;
            Ok(true)
        })
        .await?;
        self.measure("sign-in (user, commit)", None, async |_| {
            let mut random = next(&seed);
            let owner = people.owner(random.below(written.users))?;
            sign_in(&*store, owner, &mut random).await?;
            Ok(true)
        })
        .await?;
        self.measure("sign-in of a user with 1,000", BOUND, async |_| {
            sign_in(&*store, heavy.clone(), &mut next(&seed)).await?;
            Ok(true)
        })
        .await
    }

    async fn pages(&mut self) -> Result<(), Failure> {
        let heavy = self.people.owner(0)?;
        self.page("first page", self.live()).await?;
        self.page("first page of a tenant", tenant(self.live(), TENANTS[0])?).await?;
        self.page("page at half the depth", self.deep(0.5)).await?;
        self.page("page near the end", self.deep(0.99)).await?;
        self.page("a user's page", of_user(self.live(), heavy)).await?;
        let kind = Some(DeviceKind::new(KINDS[KINDS.len() - 1])?);
        self.page("page of a rare kind", PageQuery { device_kind: kind, ..self.live() }).await
    }

    /// Pages and a selection that match nothing.
    async fn nothing(&mut self) -> Result<(), Failure> {
        let kind = DeviceKind::new("no such kind")?;
        let unknown = PageQuery { device_kind: Some(kind.clone()), ..self.live() };
        self.page("page of no such kind", unknown).await?;
        let unknown = PageQuery { client_id: Some("no such client".parse()?), ..self.live() };
        self.page("page of no such client", unknown).await?;
        let later = now().plus(People::SPAN);
        let later = PageQuery { active_since: Some(later), ..self.live() };
        self.page("page of none so recent", later).await?;
        self.page("page of no such tenant", tenant(self.live(), "no such tenant")?).await?;
        let selection = Selection::within(TenantFilter::Any).on(kind);
        self.end("end by no such kind, each call", BOUND, selection).await
    }

    /// Follows a query for as many pages as there are; one that matches nothing is so over in the calls
    /// that it takes to look at everything.
    async fn page(&mut self, name: &'static str, first: PageQuery) -> Result<(), Failure> {
        let store = self.store();
        let mut query = first.clone();
        self.measure(name, BOUND, async |_| {
            let page = store.page(&query).await?;
            // A full page is asked for again: what is measured is this place, not the walk.
            query.after = if page.sessions.is_empty() { page.next } else { first.after };
            Ok(true)
        })
        .await
    }

    /// All sessions, those past their deadline among them: they are there until the cleanup ends them.
    fn live(&self) -> PageQuery {
        PageQuery::live(TenantFilter::Any, self.people.now().minus(People::SPAN))
    }

    /// The page that begins after this share of the time of all sign-ins.
    fn deep(&self, share: f64) -> PageQuery {
        let at = self.people.now().minus(People::SPAN.mul_f64(share));
        let id = SessionId::from_bytes([0; 16]);
        PageQuery { after: Some(PageCursor { at, id }), ..self.live() }
    }

    async fn log(&mut self, begin: Cursor) -> Result<(), Failure> {
        let store = self.store();
        let mut cursor = store.log_since(None, Entries::Invalidations, 1).await?.next;
        self.measure("log at its end", BOUND, async |_| {
            let entries = Entries::Invalidations;
            cursor = store.log_since(Some(&cursor), entries, LogPage::MAX_LIMIT).await?.next;
            Ok(true)
        })
        .await?;
        self.follow("log from its beginning, a page", Entries::All, begin.clone()).await?;
        self.follow("invalidations from the beginning, a page", Entries::Invalidations, begin).await
    }

    /// All pages of the log: `all calls` is what a follower needs that is behind.
    async fn follow(
        &mut self,
        name: &'static str,
        entries: Entries,
        mut from: Cursor,
    ) -> Result<(), Failure> {
        let store = self.store();
        let mut gap = false;
        self.walk(name, None, u64::MAX, async |_| {
            let page = store.log_since(Some(&from), entries, LogPage::MAX_LIMIT).await?;
            from = page.next;
            gap |= page.gap;
            Ok(page.more)
        })
        .await?;
        if let Some(call) = self.done.last_mut().filter(|_| gap) {
            call.failure = Some("a gap: the log does not reach back that far".to_owned());
        }
        Ok(())
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Calls until one answers that it was the last, the calls are enough, or the time is over.
    pub(crate) async fn measure(
        &mut self,
        name: &'static str,
        target: Option<f64>,
        call: impl AsyncFnMut(u64) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        self.walk(name, target, self.plan.calls, call).await
    }

    pub(crate) async fn walk(
        &mut self,
        name: &'static str,
        target: Option<f64>,
        most: u64,
        mut call: impl AsyncFnMut(u64) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let step = async |n| {
            let goes_on = call(n).await?;
            Ok(Step { goes_on, done: 0, pause: Duration::ZERO })
        };
        self.steps(name, target, most, step).await
    }

    /// Calls as the engine makes them: as large as their pace has it, with its pauses. A call is told for
    /// how many records it is, and answers how many it changed, and whether more are left.
    pub(crate) async fn paced(
        &mut self,
        name: &'static str,
        largest: u32,
        most: u64,
        mut call: impl AsyncFnMut(u32) -> Result<(u32, bool), Failure>,
    ) -> Result<(), Failure> {
        let mut pace = Pace::default();
        let step = async |_| {
            let (size, begun) = (pace.size(largest), Instant::now());
            let (done, goes_on) = call(size).await?;
            let took = begun.elapsed();
            pace.took(size, done, took);
            Ok(Step { goes_on, done: done.into(), pause: Pace::pause(took) })
        };
        self.steps(name, BOUND, most, step).await
    }

    async fn steps(
        &mut self,
        name: &'static str,
        target: Option<f64>,
        most: u64,
        mut call: impl AsyncFnMut(u64) -> Result<Step, Failure>,
    ) -> Result<(), Failure> {
        eprintln!("{}: {name}", self.written.sessions);
        let beside = Beside::start(&self.store, self.people, self.written, &self.seed);
        let begun = Instant::now();
        // A walk over everything takes as long as it takes.
        let limit = Duration::from_secs_f64(self.plan.seconds);
        let (mut times, mut done, mut failure) = (Times::default(), 0, None);
        for n in 0..most {
            let call_begun = Instant::now();
            let result = call(n).await;
            times.add(call_begun.elapsed());
            match result {
                Ok(step) => {
                    done += step.done;
                    if !step.goes_on {
                        break;
                    }
                    tokio::time::sleep(step.pause).await;
                }
                Err(error) => {
                    failure = Some(error.to_string());
                    break;
                }
            }
            if most != u64::MAX && begun.elapsed() > limit {
                break;
            }
        }
        let elapsed = begun.elapsed();
        let beside = match beside.stop().await {
            Ok(beside) => Some(beside),
            Err(error) => {
                failure = failure.or(Some(format!("beside it: {error}")));
                None
            }
        };
        let changed = Changed { records: done, elapsed };
        self.done.push(Call { name, target, times, changed, beside, failure });
        Ok(())
    }
}

/// What a call answered.
struct Step {
    goes_on: bool,
    /// Records that it changed, where they are counted.
    done: u64,
    /// How long to wait before the next.
    pause: Duration,
}

fn tenant(query: PageQuery, tenant: &str) -> Result<PageQuery, Failure> {
    Ok(PageQuery { tenant: TenantFilter::Is(Some(tenant.parse()?)), ..query })
}

fn of_user(query: PageQuery, owner: UserKey) -> PageQuery {
    PageQuery { tenant: TenantFilter::Is(owner.tenant), user: Some(owner.user), ..query }
}

/// The most milliseconds of a call that examines or changes many records.
pub(crate) const BOUND: Option<f64> = Some(50.0);
