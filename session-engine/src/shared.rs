//! The state of a node.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::Value;
use session_core::planted::{self, Defect};
use session_core::policy::Policy;
use session_core::{FleetKey, Session, Store, StoreError, StoreErrorKind, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, oneshot, watch};
use tokio::time::Instant;

use crate::cache::Cache;
use crate::claims::ClaimsProvider;
use crate::entropy::Entropy;
use crate::error::Error;
use crate::follower::Position;
use crate::health::HealthBoard;
use crate::load::Found;
use crate::meter::{self, Checks};
use crate::notice::Notices;
use crate::options::{Options, WhenStale};
use crate::queue::Queue;
use crate::reads::Reads;
use crate::take_back::Owed;
use crate::time::FleetTime;
use crate::trouble::{Over, Trouble};
use crate::watchers::Watchers;

pub(crate) struct Shared {
    /// Where the engine was started.
    pub(crate) runtime: Handle,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) options: Arc<Options>,
    pub(crate) time: FleetTime,
    /// The secret that all nodes share, for the check in every token.
    pub(crate) fleet_key: FleetKey,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) claims: Option<Arc<dyn ClaimsProvider>>,
    pub(crate) cache: Cache,
    pub(crate) reads: Reads<Found>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) notices: Notices,
    pub(crate) watchers: Watchers,
    pub(crate) health: HealthBoard,
    /// What checks have answered, for the metrics.
    pub(crate) checks: Checks,
    /// Whether calls of the store get no answer.
    pub(crate) outage: Trouble,
    /// Whether the store answers with defects.
    pub(crate) defect: Trouble,
    /// Whether the claims provider fails.
    pub(crate) claims_fail: Trouble,
    /// Whether policies are of a newer version.
    pub(crate) newer_policies: Trouble,
    /// Where this node is in the log.
    pub(crate) position: tokio::sync::Mutex<Position>,
    /// Whether the last read of the log failed.
    pub(crate) unheard: AtomicBool,
    /// Whether the node has not heard the log for so long that it answers nothing.
    pub(crate) cut_off: watch::Sender<bool>,
    /// Limits the reads of sessions that requests wait for.
    pub(crate) loads_under_way: Semaphore,
    /// Limits the calls of the claims provider that come with these reads.
    pub(crate) claims_under_way: Semaphore,
    /// Limits the reads of sessions for open connections.
    pub(crate) waits_under_way: Semaphore,
    /// Asks the follower to read the log now.
    pub(crate) poke: Notify,
    /// Sessions that this node still has to end.
    pub(crate) owed: Owed,
    /// One lock per group of users: sign-ins of one user take turns within a node.
    pub(crate) turns: Vec<tokio::sync::Mutex<()>>,
    /// Stops the workers.
    pub(crate) stop: watch::Sender<bool>,
    /// Stops what waits for the end of a session.
    pub(crate) stop_waits: watch::Sender<bool>,
}

impl Shared {
    /// The fleet's time.
    pub(crate) fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// Calls the store, with the time limit of the options.
    pub(crate) async fn store_call<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Error> {
        self.store_call_within(name, self.options.store_timeout, call).await
    }

    /// Calls the store, with this time limit.
    pub(crate) async fn store_call_within<T>(
        &self,
        name: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Error> {
        let measured = meter::StoreCall::begin(name);
        let answer = self.on_runtime(|| tokio::time::timeout(limit, call)).await;
        let result = answer.unwrap_or_else(|_| Err(StoreError::timed_out(name, limit)));
        measured.end(&result);
        self.note_answer(name, result.as_ref().err());
        Ok(result?)
    }

    /// When a request that came then, and has to ask the store, is given up.
    pub(crate) fn request_deadline(&self, asked: Instant) -> Instant {
        let claims = self.claims.as_ref().map(|_| self.options.claims_timeout);
        asked + self.options.store_timeout + claims.unwrap_or_default()
    }

    /// Awaits the answer; [`Error::Unavailable`] at the deadline. What must not stop half-way runs in a
    /// task of its own: [`Shared::detached`].
    pub(crate) async fn before<T>(
        &self,
        deadline: Instant,
        name: &'static str,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit = deadline.saturating_duration_since(Instant::now());
        let answer = self.on_runtime(|| tokio::time::timeout_at(deadline, answer)).await;
        let late = || StoreError::timed_out(name, limit);
        answer.unwrap_or_else(|_| Err(late().into()))
    }

    /// Says once that the store does not answer, or answers with defects, and once that this is over.
    fn note_answer(&self, method: &'static str, error: Option<&StoreError>) {
        let Some(error) = error else {
            if let Some(Over { lasted, calls }) = self.outage.ends() {
                tracing::info!(calls, ?lasted, "the store answers again");
            }
            if let Some(Over { lasted, calls }) = self.defect.ends() {
                tracing::info!(calls, ?lasted, "the store answers without defects again");
            }
            return;
        };
        if error.kind() == StoreErrorKind::Unavailable {
            if self.outage.begins() {
                tracing::warn!(method, %error, "the store does not answer");
            }
        } else if self.defect.begins() {
            tracing::error!(
                method,
                error = error as &dyn std::error::Error,
                "the store answers with a defect"
            );
        }
    }

    /// Says once that a policy is of a newer version, and once that none is any more.
    pub(crate) fn note_policy(&self, policy: &Policy) {
        if policy.newer {
            if self.newer_policies.begins() {
                let policy = policy.to_stored();
                tracing::warn!(policy, "{NEWER_POLICY}");
                self.health.note("policies", Some(NEWER_POLICY.to_owned()));
            }
        } else if let Some(Over { lasted, .. }) = self.newer_policies.ends() {
            tracing::info!(?lasted, "no sign-in has met a policy of a newer version for a while");
            self.health.note("policies", None);
        }
    }

    /// Starts a task on the engine's runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Runs a call in a task of its own. A caller may be dropped, or never polled again; what the call
    /// holds is let go all the same.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        self.spawn(async move {
            if let Err(Err(error)) = sender.send(call.await) {
                tracing::warn!(%error, "a call failed whose caller has gone");
            }
        });
        let gone = |_| Err(StoreError::unavailable("the call was given up").into());
        receiver.await.unwrap_or_else(gone)
    }

    /// Waits for a place among the reads of sessions that requests wait for.
    pub(crate) async fn load_permit(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.permit("load", &self.loads_under_way).await
    }

    /// Waits for a place among the calls of the claims provider that come with such reads.
    pub(crate) async fn claims_permit(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.permit("claims", &self.claims_under_way).await
    }

    async fn permit<'s>(
        &self,
        name: &'static str,
        places: &'s Semaphore,
    ) -> Result<SemaphorePermit<'s>, Error> {
        let limit = self.options.store_timeout;
        let permit = tokio::time::timeout(limit, places.acquire()).await;
        let late = || StoreError::timed_out(name, limit);
        // The semaphore is never closed.
        permit.ok().and_then(Result::ok).ok_or_else(|| late().into())
    }

    /// Waits by the engine's timer: a caller's runtime need not have one.
    pub(crate) async fn sleep(&self, duration: Duration) {
        self.on_runtime(|| tokio::time::sleep(duration)).await;
    }

    /// Polls a future as the engine's runtime does. A connection that a store opens belongs to the
    /// runtime that it was opened on; a caller's may end before the engine does, as the workers of
    /// actix-web do.
    pub(crate) async fn on_runtime<F: Future>(&self, make: impl FnOnce() -> F) -> F::Output {
        let future = {
            let _entered = self.runtime.enter();
            make()
        };
        let future = std::pin::pin!(Some(future));
        let mut entered = Entered { runtime: &self.runtime, future };
        std::future::poll_fn(move |context| entered.poll(context)).await
    }

    /// What the application knows of the session; null where it supplies no claims.
    pub(crate) async fn claims(&self, session: &Session) -> Result<Value, Error> {
        let Some(provider) = &self.claims else { return Ok(Value::Null) };
        let limit = self.options.claims_timeout;
        let late = || format!("no answer within {} s", limit.as_secs_f64()).into();
        let claims = tokio::time::timeout(limit, provider.claims(session)).await;
        let claims = claims.unwrap_or_else(|_| Err(late()));
        if let Err(error) = &claims {
            if self.claims_fail.begins() {
                tracing::warn!(%error, "the claims provider fails");
            }
        } else if let Some(Over { lasted, calls }) = self.claims_fail.ends() {
            tracing::info!(calls, ?lasted, "the claims provider works again");
        }
        claims.map_err(|error| Error::Claims(error.to_string().into()))
    }

    /// The fleet's time, if the cache may answer.
    pub(crate) fn fresh_now(&self) -> Option<Timestamp> {
        if planted::is(Defect::StaleTrusted) {
            return self.time.trusted(Duration::MAX);
        }
        if planted::is(Defect::StoppedTrusted) {
            return self.time.trusted(self.options.max_staleness);
        }
        self.time.followed(self.options.max_staleness)
    }

    /// Whether the cache may answer.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh_now().is_some()
    }

    /// How long it takes yet until no use is on its way that a node has accepted while the store was away,
    /// where none takes longer than `lag` once it is back.
    pub(crate) fn unsettled_for(&self, lag: Duration) -> Duration {
        if planted::is(Defect::OutageForgotten) {
            return Duration::ZERO;
        }
        lag.saturating_sub(self.time.since_break())
    }

    /// How long a use near the idle timeout may be on its way from another node. There is no end to it while
    /// the store is away, and shortly after that.
    pub(crate) fn in_flight(&self) -> Duration {
        self.settled_or_ever(self.options.in_flight())
    }

    /// As [`Shared::in_flight`], for any use.
    pub(crate) fn max_lag(&self) -> Duration {
        self.settled_or_ever(self.options.max_lag())
    }

    fn settled_or_ever(&self, lag: Duration) -> Duration {
        if self.unsettled_for(lag).is_zero() { lag } else { Duration::MAX }
    }

    /// Whether the cache may answer although the log is silent and the store is away.
    pub(crate) fn may_serve_stale(&self) -> bool {
        self.stale_limit().is_some_and(|limit| self.time.trusted(limit).is_some())
    }

    /// Whether the log has been silent for longer than the cache may answer in any case. A wall clock that
    /// jumps is no reason: the next read of the log is near.
    pub(crate) fn is_cut_off(&self) -> bool {
        let limit = self.stale_limit().unwrap_or_default().max(self.options.max_staleness);
        self.time.silence().is_none_or(|silence| silence > limit)
    }

    fn stale_limit(&self) -> Option<Duration> {
        match self.options.when_stale {
            WhenStale::FailClosed => None,
            WhenStale::ServeStale(limit) => Some(limit),
        }
    }

    pub(crate) fn stopping(&self) -> Stopping {
        Stopping(self.stop.subscribe())
    }

    pub(crate) fn stopping_waits(&self) -> Stopping {
        Stopping(self.stop_waits.subscribe())
    }
}

/// A future that is polled and dropped on a runtime: what it opened may need the runtime to close.
struct Entered<'r, F> {
    runtime: &'r Handle,
    future: Pin<&'r mut Option<F>>,
}

impl<F: Future> Entered<'_, F> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = self.runtime.enter();
        match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(context),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Entered<'_, F> {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        self.future.set(None);
    }
}

/// Resolves when the engine or its streams stop.
pub(crate) struct Stopping(watch::Receiver<bool>);

impl Stopping {
    pub(crate) async fn stopped(&mut self) {
        // A sender that is gone means the same.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}

const NEWER_POLICY: &str =
    "a policy is of a newer version: what this one does not know has its strictest meaning";
