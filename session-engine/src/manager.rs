//! The face of a node: everything that requests and admin tools ask for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    Change, Commit, Outcome, Page, PageQuery, PolicyChange, TenantFilter, Version,
};
use session_core::{Actor, EndCause, Session, SessionId, Timestamp, UserKey};

use crate::ending::{Over, Past};
use crate::entry::Entry;
use crate::error::Error;
use crate::notice::{self, Events};
use crate::shared::Shared;
use crate::watchers::{Seen, Watch};

/// Checks, begins, lists and ends sessions on one node. Cheap to clone.
#[derive(Clone)]
pub struct SessionManager {
    shared: Arc<Shared>,
}

/// The policy that holds at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EffectivePolicy {
    /// The policy.
    pub policy: Policy,
    /// Where it is set; none for the default of the options.
    pub set_at: Option<PolicyScope>,
}

impl SessionManager {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The options that the node runs with.
    pub fn options(&self) -> &crate::options::Options {
        &self.shared.options
    }

    /// The time of the fleet: the store's clock, as this node has learned it.
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// Sixteen bytes of the node's randomness, fit for secrets.
    pub fn random(&self) -> [u8; 16] {
        crate::clock::random(self.shared.entropy.as_ref())
    }

    /// One session within these walls, with what this node knows of its use. Sessions past a
    /// timeout are not found.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn get(
        &self,
        id: SessionId,
        tenant: &TenantFilter,
    ) -> Result<Option<Session>, Error> {
        let shared = &self.shared;
        let Some(loaded) = shared.store_call("load", shared.store.load(id)).await? else {
            return Ok(None);
        };
        let mut session = loaded.session;
        if !tenant.covers(session.owner.tenant.as_ref()) {
            return Ok(None);
        }
        self.overlay(&mut session);
        let timeouts = session.timeouts_or(&shared.options.timeouts);
        let expired = timeouts.expired(session.last_accessed, session.absolute_expiry, self.now());
        Ok((!expired).then_some(session))
    }

    /// A query for live sessions within these walls; narrow it and hand it to
    /// [`SessionManager::list`].
    pub fn query(&self, tenant: TenantFilter) -> PageQuery {
        PageQuery::live(tenant, self.now())
    }

    /// One page of sessions, newest sign-in first, with what this node knows of their use. Where
    /// the filter leaves out nearly all of a long list, the page may be shorter than its limit and
    /// still not be the last one: [`Page::next`] says so.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a limit out of bounds, [`Error::Unavailable`] when the store is
    /// away.
    pub async fn list(&self, query: &PageQuery) -> Result<Page, Error> {
        PageQuery::check_limit(query.limit)?;
        let shared = &self.shared;
        let limit = query.limit;
        let mut query = query.clone();
        let mut listed = Page::default();
        // Where a filter leaves out nearly everything, a store's page is short.
        for _ in 0..MOST_SHORT_PAGES {
            let page = shared.store_call("page", shared.store.page(&query)).await?;
            listed.sessions.extend(page.sessions);
            listed.next = page.next;
            query.after = listed.next;
            query.limit = (limit as usize).saturating_sub(listed.sessions.len()) as u32;
            if query.limit == 0 || listed.next.is_none() {
                break;
            }
        }
        listed.sessions.iter_mut().for_each(|session| self.overlay(session));
        Ok(listed)
    }

    /// The number of a user's live sessions, by what the store knows of their use.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn count(&self, owner: &UserKey) -> Result<u64, Error> {
        let state = self.shared.store_call("user", self.shared.store.user(owner)).await?;
        let now = self.now();
        Ok(state.sessions.iter().filter(|session| session.deadline > now).count() as u64)
    }

    /// The policy set at one place, if one is.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, Error> {
        self.shared.store_call("policy", self.shared.store.policy(scope)).await
    }

    /// The policy that holds at one place: what is set there or, going outwards, further up.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn effective_policy(&self, scope: &PolicyScope) -> Result<EffectivePolicy, Error> {
        let mut at = Some(scope.clone());
        while let Some(scope) = at {
            if let Some(policy) = self.policy(&scope).await? {
                return Ok(EffectivePolicy { policy, set_at: Some(scope) });
            }
            at = scope.wider();
        }
        let policy = self.shared.options.default_policy.clone();
        Ok(EffectivePolicy { policy, set_at: None })
    }

    /// Sets the policy at one place, or with `None` inherits it again. Ends no session; every
    /// sign-in that begins afterwards, on any node, is decided by it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a policy out of bounds, [`Error::Unavailable`] when the store is
    /// away.
    pub async fn set_policy(
        &self,
        scope: PolicyScope,
        policy: Option<Policy>,
        by: Actor,
    ) -> Result<(), Error> {
        policy.as_ref().map_or(Ok(()), Policy::validate)?;
        let change = PolicyChange { scope, policy, at: self.now(), by };
        self.shared.store_call("set_policy", self.shared.store.set_policy(&change)).await?;
        notice::log(&change.event());
        self.shared.poke.notify_one();
        Ok(())
    }

    /// Makes every node ask the claims provider again for the user's next request.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn claims_changed(&self, owner: &UserKey, by: Actor) -> Result<(), Error> {
        let state = self.shared.store_call("user", self.shared.store.user(owner)).await?;
        let ids: Vec<_> = state.sessions.iter().map(|session| session.id).collect();
        let mut version = Some(state.version);
        // Sessions that begin from now on have the new claims.
        for some in ids.chunks(Commit::MAX_CHANGES) {
            self.tell_claims_changed(owner, version.take(), some, &by).await?;
        }
        Ok(())
    }

    /// Reads the user's version where it is not known.
    async fn tell_claims_changed(
        &self,
        owner: &UserKey,
        mut version: Option<Version>,
        ids: &[SessionId],
        by: &Actor,
    ) -> Result<(), Error> {
        let shared = &self.shared;
        let mut conflicts = 0;
        loop {
            let expected = match version.take() {
                Some(version) => version,
                None => shared.store_call("user", shared.store.user(owner)).await?.version,
            };
            let commit = Commit {
                owner: owner.clone(),
                expected,
                changes: ids.iter().copied().map(Change::ClaimsChanged).collect(),
                at: self.now(),
                by: by.clone(),
                from: None,
            };
            let outcome = shared.store_call("commit", shared.store.commit(&commit)).await;
            // Also where the answer was lost.
            ids.iter().for_each(|id| shared.cache.invalidate(*id));
            match outcome? {
                Outcome::Done => {
                    notice::log_commit(&commit);
                    shared.poke.notify_one();
                    return Ok(());
                }
                Outcome::Conflict => self.back_off(&mut conflicts).await,
            }
        }
    }

    /// Everything that happens from now on, anywhere in the fleet, until the streams stop.
    pub fn events(&self) -> Events {
        self.shared.notices.listen()
    }

    /// Waits until a session ends, on any node. For connections that outlive a request.
    ///
    /// An idle session, which [`Refusal::Idle`](crate::Refusal::Idle) refuses, has not ended yet.
    ///
    /// A node that has not heard the log for longer than it may trust its cache
    /// ([`Options::max_staleness`](crate::Options::max_staleness)) cannot tell any more, and says so. Any
    /// number of open waits costs no polling: the node's one read of the log serves all.
    pub async fn session_ended(&self, id: SessionId) -> WaitEnd {
        let mut stopping = self.shared.stopping_waits();
        let mut cut_off = self.shared.cut_off.subscribe();
        tokio::select! {
            biased;
            () = stopping.stopped() => WaitEnd::Stopping,
            _ = cut_off.wait_for(|cut_off| *cut_off) => WaitEnd::Unknown,
            cause = self.wait_for_end(id) => cause.map_or(WaitEnd::Gone, WaitEnd::Ended),
        }
    }

    /// Ends all [`Events`] and all waits for [`SessionManager::session_ended`] now, for the whole
    /// node; those that begin afterwards end at once. The workers go on. Calling it again changes
    /// nothing.
    ///
    /// Call it when a server begins a graceful shutdown. The server waits for open responses, and
    /// those that follow a stream end only with the stream. [`Engine::shutdown`] comes last and
    /// writes back what is unstored.
    ///
    /// [`Engine::shutdown`]: crate::Engine::shutdown
    pub fn stop_streams(&self) {
        self.shared.notices.close();
        self.shared.stop_waits.send_replace(true);
    }

    /// Whether the streams have stopped, or the whole engine.
    pub fn is_stopping(&self) -> bool {
        *self.shared.stop_waits.borrow()
    }

    /// The cause, where it is known.
    async fn wait_for_end(&self, id: SessionId) -> Option<EndCause> {
        let mut watch = self.shared.watchers.watch(id);
        let mut pause = self.shared.options.propagation_bound;
        loop {
            let wait = match self.wait_of(id).await {
                Ok(Wait::Gone) => return self.why_gone_soon(id, &mut watch).await,
                Ok(Wait::Over(over)) => match self.end_over(id, over, 1).await {
                    Ok(true) => return Some(over.cause()),
                    // It was used since, or is gone, or the store is away.
                    Ok(false) | Err(_) => Some(pause),
                },
                Ok(Wait::For(wait)) => wait,
                Err(_) => {
                    pause = (pause * 2).min(MOST_PAUSE);
                    Some(pause)
                }
            };
            tokio::select! {
                biased;
                seen = watch.next() => if let Seen::Ended(cause) = seen { return Some(cause) },
                () = self.sleep(wait) => {}
            }
        }
    }

    /// How long the session goes on, as far as this node knows. A cached session costs no read, and few
    /// reads are under way at a time.
    async fn wait_of(&self, id: SessionId) -> Result<Wait, Error> {
        let shared = &self.shared;
        let entry = match shared.unexpired(id).filter(|_| shared.is_fresh()) {
            Some(entry) => Some(entry),
            None if shared.cache.end_cause(&id).is_some() => None,
            None => self.load_for_wait(id).await?,
        };
        let Some(entry) = entry else { return Ok(Wait::Gone) };
        let now = self.now();
        if let Some(Past::Over(over)) = entry.past(now) {
            return Ok(Wait::Over(over));
        }
        let wait = |end: Timestamp| end.since(now) + Duration::from_millis(1);
        Ok(Wait::For(entry.end().map(wait)))
    }

    async fn load_for_wait(&self, id: SessionId) -> Result<Option<Arc<Entry>>, Error> {
        let manager = self.clone();
        let load = async move {
            // The semaphore is never closed.
            let _permit = manager.shared.waits_under_way.acquire().await.ok();
            match manager.shared.unexpired(id) {
                Some(entry) => Ok(Some(entry)),
                None => manager.load(id).await.map(|load| load.entry),
            }
        };
        self.shared.detached(load).await
    }

    /// Why a session is gone, where the log tells within the propagation bound.
    async fn why_gone_soon(&self, id: SessionId, watch: &mut Watch) -> Option<EndCause> {
        if let Some(cause) = self.shared.cache.end_cause(&id) {
            return Some(cause);
        }
        let bound = self.shared.options.propagation_bound;
        let next = self.shared.on_runtime(|| tokio::time::timeout(bound, watch.next()));
        match next.await {
            Ok(Seen::Ended(cause)) => Some(cause),
            _ => self.shared.cache.end_cause(&id),
        }
    }

    async fn sleep(&self, duration: Option<Duration>) {
        match duration {
            Some(duration) => self.shared.sleep(duration).await,
            None => std::future::pending().await,
        }
    }

    fn overlay(&self, session: &mut Session) {
        if let Some(entry) = self.shared.cache.seen(&session.id) {
            entry.overlay(session);
        }
    }
}

impl fmt::Debug for SessionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionManager").field("health", &self.health()).finish_non_exhaustive()
    }
}

/// How long a session goes on if it is not used.
enum Wait {
    /// For so long; none for ever.
    For(Option<Duration>),
    /// No longer.
    Over(Over),
    /// There is none.
    Gone,
}

/// How a wait for the end of a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitEnd {
    /// The session ended.
    Ended(EndCause),
    /// There is no such session (any more); why is not known.
    Gone,
    /// This node has been cut off from the store for too long to tell.
    Unknown,
    /// The node stops.
    Stopping,
}

impl WaitEnd {
    /// Why the session ended, where that is known.
    pub const fn cause(self) -> Option<EndCause> {
        match self {
            Self::Ended(cause) => Some(cause),
            Self::Gone | Self::Unknown | Self::Stopping => None,
        }
    }
}

/// Between two tries to read a session that is waited for.
const MOST_PAUSE: Duration = Duration::from_secs(30);
/// Pages of the store that one page of the manager is made of, at most.
pub(crate) const MOST_SHORT_PAGES: u32 = 8;
