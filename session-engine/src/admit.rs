//! Begins sessions, or goes on in them: decides by the policy, and commits in one atomic step.

use std::sync::Arc;

use session_core::admission::{self, Admission, Bounds, Newcomer};
use session_core::block::{self, Block};
use session_core::planted::{self, Defect};
use session_core::policy::{Limit, Scope};
use session_core::store::{Change, Commit, Outcome, PageQuery, TenantFilter, UserState};
use session_core::{EndCause, Session, SessionId, StoreError, Timestamp, Token, UserKey};
use tokio::sync::oneshot;

use crate::attempt::{Attempt, New, first_step, happened};
use crate::cache::{Fill, Filled};
use crate::continuation::{Continuation, GoesOn};
use crate::entropy::random;
use crate::entry::{ActiveSession, Entry, Shown};
use crate::error::{Blocked, Error, TooManySessions};
use crate::node::Node;
use crate::options::network;
use crate::sign_in::{SignIn, SignedIn};
use crate::take_back::{Debt, Unheld};
use crate::ticket::Issued;
use crate::{meter, notice, take_back};

impl Node {
    /// Signs in, in a task of its own. A session that it began and whose caller goes away before it has the
    /// answer ends again; one that goes on keeps the token that it had.
    pub(crate) async fn begin(&self, mut newcoming: Newcoming) -> Result<SignedIn, Error> {
        if planted::is(Defect::FormerKept) {
            newcoming.request = newcoming.request.with_replaces(None);
        }
        if planted::is(Defect::TenantLost) {
            newcoming.request.owner.tenant = None;
        }
        if let Err(invalid) = newcoming.request.validate() {
            let error = invalid.into();
            meter::signed_in(Some(&error));
            return Err(error);
        }
        let (sender, receiver) = oneshot::channel();
        let node = self.clone();
        self.shared().spawn(async move {
            let result = node.admit(newcoming, || sender.is_closed()).await;
            meter::signed_in(result.as_ref().err());
            // An answer that is not taken ends its session when it is dropped.
            let untaken = sender.send(result);
            if planted::is(Defect::GoneCallerKept)
                && let Err(Ok((_, Some(unheld)))) = untaken
            {
                unheld.release();
            }
        });
        // The task is gone: the node stops, or the sign-in panicked.
        let gone = |_| Err(StoreError::unavailable("the sign-in was given up").into());
        let (signed_in, unheld) = receiver.await.unwrap_or_else(gone)?;
        if planted::is(Defect::TakenBackFirst) && unheld.is_some() {
            let id = signed_in.session.id();
            take_back::end(self, &Debt::of_commit(id, None)).await?;
        }
        if let Some(unheld) = unheld.filter(|_| !planted::is(Defect::AnsweredTakenBack)) {
            unheld.release();
        }
        Ok(signed_in)
    }

    async fn admit(
        &self,
        mut newcoming: Newcoming,
        is_given_up: impl Fn() -> bool,
    ) -> Result<(SignedIn, Option<Unheld>), Error> {
        self.know_the_time().await?;
        newcoming.continuation = self.continuation(&newcoming.request)?;
        let (shared, request) = (self.shared(), &newcoming.request);
        let new_device = self.is_new_device(request).await;
        // Turns only save conflicts: a store that hangs for one user holds up no other for long.
        let turn = shared.turns[turn_of(&request.owner, shared.turns.len())].lock();
        let turn = tokio::time::timeout(self.options().store_timeout, turn).await;
        let attempt = self.commit_until_done(&newcoming, is_given_up).await?;
        drop(turn);
        let Attempt { token, session, ended, new, .. } = attempt;
        shared.changed(!ended.is_empty() || new.is_none());
        let (slot, session, unheld) = match new {
            Some(New { slot, unheld }) => (slot, session, Some(unheld)),
            None => {
                meter::rotated("begun");
                self.note_proof(session.id, request.ip);
                (None, self.confirmed(&session, &token), None)
            }
        };
        self.end_elsewhere(request, session.id, &ended).await;
        let session = self.install(slot, session).await;
        if new_device == Some(true) {
            let (user, session_id) = (session.user(), session.id());
            let address = self.options().addresses.keep(request.ip).map(tracing::field::display);
            tracing::info!(
                target: "session_kit::security", event = "new_device", %user, %session_id, address,
                kind = %session.device_kind()
            );
        }
        Ok((SignedIn { session, token, ended, new_device }, unheld))
    }

    /// Ends the session that the browser held until now, where it was another user's. One that cannot
    /// be ended now is owed: the sign-in has gone through.
    async fn end_elsewhere(
        &self,
        request: &SignIn,
        signed_in: SessionId,
        ended: &[(SessionId, EndCause)],
    ) {
        let is_there = |id: &SessionId| ended.iter().all(|(ended, _)| ended != id);
        let replaced = request.replaces.filter(|id| *id != signed_in && is_there(id));
        let Some(id) = replaced else { return };
        let debt = Debt::of_session(id, EndCause::Replaced, request.actor());
        let unheld = Unheld::new(self.shared(), debt.clone());
        if take_back::end(self, &debt).await.is_ok() {
            unheld.release();
        }
    }

    /// Looks at the sessions that are there before the sign-in ends any of them.
    async fn is_new_device(&self, request: &SignIn) -> Option<bool> {
        if !self.options().tell_new_devices {
            return None;
        }
        let mut query = PageQuery::live(TenantFilter::Is(request.owner.tenant.clone()), self.now());
        query.user = Some(request.owner.user.clone());
        query.device_kind = Some(request.device_kind.clone());
        query.limit = PageQuery::MAX_LIMIT;
        let here = self.options().addresses.keep(request.ip).map(network);
        let known = |session: &Session| {
            here.is_none_or(|here| {
                session.ip_addresses.iter().any(|address| network(*address) == here)
            })
        };
        match self.list(&query).await {
            Ok(page) => Some(!page.sessions.iter().any(known)),
            Err(error) => {
                tracing::debug!(%error, "whether a device is new cannot be found out");
                None
            }
        }
    }

    /// Decides and commits until the decision meets the state it was made for.
    ///
    /// Every conflict means that another change of the user's sessions went through, so the fleet as a
    /// whole makes progress; the time limit is for an unavailable store. An attempt whose answer was
    /// lost stays in doubt: either a later read finds its session, or it has ended since, or a later
    /// commit makes it fail. So the next attempt has an id of its own. Attempts that are still in doubt
    /// at the end are taken back when they are dropped.
    async fn commit_until_done(
        &self,
        newcoming: &Newcoming,
        is_given_up: impl Fn() -> bool,
    ) -> Result<Attempt<'_>, Error> {
        let (shared, request) = (self.shared(), &newcoming.request);
        let (mut tries, mut so_far) = (self.tries(), SoFar::default());
        let is_given_up = || is_given_up() && !planted::is(Defect::CallerGoneCommits);
        loop {
            if is_given_up() {
                return Err(StoreError::unavailable("the caller has gone").into());
            }
            let (attempt, state) =
                match self.next(newcoming, &mut so_far, tries.conflicts > 0).await {
                    Ok(Next::Done(attempt)) => return Ok(attempt.after(so_far.left)),
                    Ok(Next::Try(attempt, state)) => (attempt, state),
                    Err(error) => {
                        self.may_try_again(&mut tries.patience, error).await?;
                        continue;
                    }
                };
            let (commit, complete) = first_step(attempt.commit(request, &state));
            if is_given_up() {
                attempt.release();
                continue;
            }
            match shared.store_call("commit", shared.store.commit(&commit)).await {
                Ok(Outcome::Done) => {
                    self.note_commit(&commit);
                    if complete {
                        return Ok(attempt.after(so_far.left));
                    }
                    so_far.left.extend(attempt.ended.iter().take(commit.changes.len()));
                    attempt.release();
                }
                Ok(Outcome::Conflict) => {
                    attempt.release();
                    if planted::is(Defect::ConflictGivesUp) {
                        return Err(StoreError::unavailable("another change came first").into());
                    }
                    if planted::is(Defect::StaleDecision) {
                        so_far.outdated.get_or_insert(state);
                    }
                    self.back_off(&mut tries.conflicts).await;
                }
                Err(_) if complete && planted::is(Defect::LostCountsAsDone) => {
                    return Ok(attempt.after(so_far.left));
                }
                Err(error) => {
                    // It may have happened.
                    commit.changes.iter().for_each(|it| shared.cache.invalidate(it.session()));
                    if complete {
                        so_far.in_doubt.push(attempt);
                    } else {
                        attempt.release();
                    }
                    self.may_try_again(&mut tries.patience, error).await?;
                }
            }
        }
    }

    /// Reads the user's state, and decides by it.
    async fn next<'s>(
        &'s self,
        newcoming: &Newcoming,
        so_far: &mut SoFar<'s>,
        had_conflict: bool,
    ) -> Result<Next<'s>, Error> {
        let (shared, request) = (self.shared(), &newcoming.request);
        let state = shared.store_call("user", shared.store.user(&request.owner)).await?;
        // Also where an earlier try has gone through: then its session is owed.
        check_block(&state, self.now())?;
        if let Some(done) = self.stored_attempt(newcoming, &state, &mut so_far.in_doubt).await? {
            self.note_commit(&done.commit(request, &state));
            return Ok(Next::Done(done));
        }
        self.check_unused(newcoming, &state, so_far, had_conflict).await?;
        shared.owed.check_room()?;
        let decided_by = so_far.outdated.as_ref().unwrap_or(&state);
        let attempt = self.attempt(newcoming, decided_by).await?;
        Ok(Next::Try(attempt, state))
    }

    /// The attempt in doubt that is in the store, where one is.
    async fn stored_attempt<'s>(
        &'s self,
        newcoming: &Newcoming,
        state: &UserState,
        in_doubt: &mut Vec<Attempt<'s>>,
    ) -> Result<Option<Attempt<'s>>, Error> {
        if planted::is(Defect::OwnAttemptUnseen) {
            return Ok(None);
        }
        if in_doubt.last().is_some_and(Attempt::goes_on) {
            let goes_on = self.goes_on(newcoming, state).await?;
            return Ok(goes_on.filter(|it| it.is_stored).and_then(|_| happened(state, in_doubt)));
        }
        let known = |attempt: &Attempt<'_>| {
            !attempt.goes_on()
                && state.sessions.iter().any(|standing| standing.id == attempt.session.id)
        };
        let Some(mut place) = in_doubt.iter().position(known) else { return Ok(None) };
        if let Some(TicketUse { issued: Issued { id, .. }, .. }) = newcoming.ticket {
            // Another use of the ticket begins a session of the same id.
            let stored = self.shared().store_call("load", self.shared().store.load(id)).await?;
            let token = stored.map(|stored| stored.session.token.current);
            let own = |attempt: &Attempt<'_>| Some(attempt.session.token.current) == token;
            place = in_doubt.iter().position(own).ok_or(Error::InvalidTicket)?;
        }
        Ok(Some(in_doubt.swap_remove(place)))
    }

    /// A ticket names the session that it begins; where that one is there or has ended, it was used. It is
    /// not valid either where every session that the limit had counted has ended, but by this sign-in.
    async fn check_unused(
        &self,
        newcoming: &Newcoming,
        state: &UserState,
        so_far: &SoFar<'_>,
        had_conflict: bool,
    ) -> Result<(), Error> {
        let Some(ticket) = &newcoming.ticket else { return Ok(()) };
        let (shared, id) = (self.shared(), ticket.issued.id);
        let used = (so_far.left.is_empty() && !ticket.issued.holds(&state.sessions))
            || state.sessions.iter().any(|standing| standing.id == id)
            || shared.cache.end_cause(&id).is_some()
            || (had_conflict
                && shared.store_call("ended", shared.store.ended(id)).await?.is_some());
        if used || !self.note_use(ticket).await? { Err(Error::InvalidTicket) } else { Ok(()) }
    }

    /// Forgets and logs what a commit that went through has ended or changed, and logs what it began.
    fn note_commit(&self, commit: &Commit) {
        let cache = &self.shared().cache;
        for change in &commit.changes {
            match change {
                Change::End(id, cause) => cache.end(*id, *cause),
                Change::Update { session, .. } => cache.invalidate(session.id),
                Change::Insert(_) | Change::ClaimsChanged(_) => {}
            }
        }
        notice::log_commit(commit);
    }

    async fn attempt(
        &self,
        newcoming: &Newcoming,
        state: &UserState,
    ) -> Result<Attempt<'_>, Error> {
        let (shared, request) = (self.shared(), &newcoming.request);
        let now = self.now();
        let mut ended = match self.decide(newcoming, state, now) {
            Admission::Admit { end } => end,
            Admission::Reject { limit, by } => {
                return Err(self.too_many(newcoming, limit, by).await?);
            }
        };
        if let Some(GoesOn { record, token, .. }) = self.goes_on(newcoming, state).await? {
            ended.retain(|(id, _)| *id != record.id);
            return Ok(Attempt { token, session: record, at: now, ended, new: None });
        }
        let entropy = shared.entropy.as_ref();
        let new_id = || shared.store.session_id(&request.owner, now, random(entropy));
        let ticket = newcoming.ticket.as_ref().filter(|_| !planted::is(Defect::TicketTwice));
        let id = ticket.map_or_else(new_id, |used| used.issued.id);
        let secrets = (random(entropy), random(entropy));
        let token = Token::new(&shared.fleet_key, id, secrets.0, secrets.1);
        let slot = shared.cache.begin_fill(id);
        let session = request.session(&token, self.options(), now)?;
        let family = newcoming.ticket.as_ref().map(|_| session.token.family);
        let unheld = Unheld::new(shared, Debt::of_commit(id, family));
        let new = Some(New { slot, unheld });
        Ok(Attempt { token, session, at: now, ended, new })
    }

    /// The refusal, with the sessions that the user may choose from, those that the limit counts, and a
    /// ticket for the choice.
    async fn too_many(
        &self,
        newcoming: &Newcoming,
        limit: Limit,
        refused_by: Vec<SessionId>,
    ) -> Result<Error, Error> {
        let Newcoming { request, ticket, .. } = newcoming;
        let mut query = PageQuery::live(TenantFilter::Is(request.owner.tenant.clone()), self.now());
        query.user = Some(request.owner.user.clone());
        match limit.scope {
            Scope::User => {}
            Scope::DeviceKind => query.device_kind = Some(request.device_kind.clone()),
            Scope::Client => query.client_id.clone_from(&request.client_id),
        }
        query.limit = PageQuery::MAX_LIMIT;
        // No query asks for sessions without a client.
        let counts = |session: &Session| {
            limit.scope != Scope::Client || session.client_id == request.client_id
        };
        let mut sessions = Vec::new();
        while sessions.len() < PageQuery::MAX_LIMIT as usize {
            let page = self.list(&query).await?;
            sessions.extend(page.sessions.into_iter().filter(counts));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        sessions.truncate(PageQuery::MAX_LIMIT as usize);
        let ticket = self.ticket(request, refused_by, ticket.as_ref()).await?;
        Ok(Error::TooManySessions(Box::new(TooManySessions { limit, sessions, ticket })))
    }

    fn decide(&self, newcoming: &Newcoming, state: &UserState, now: Timestamp) -> Admission {
        let (options, request) = (self.options(), &newcoming.request);
        let policy = state.policies.clone().resolve(&options.default_policy);
        self.shared().note_policy(&policy);
        let newcomer = Newcomer {
            device_kind: &request.device_kind,
            client_id: request.client_id.as_ref(),
            replaces: request.replaces,
            ends: newcoming.ticket.as_ref().map(|ticket| ticket.end),
        };
        let bounds = Bounds {
            claim_within: options.claim_within,
            max_lag: self.shared().max_lag(),
            max_sessions: options.max_sessions_per_user,
        };
        // What this node has not written back yet counts too.
        let mut sessions = state.sessions.clone();
        sessions.iter_mut().for_each(|standing| {
            if let Some(entry) = self.shared().cache.seen(&standing.id) {
                entry.overlay_standing(standing);
            }
        });
        if planted::is(Defect::TicketSparesChosen) {
            let spares = Newcomer { ends: None, ..newcomer };
            let admission = admission::decide(&policy, &spares, &sessions, &bounds, now);
            if matches!(admission, Admission::Admit { .. }) {
                return admission;
            }
        }
        admission::decide(&policy, &newcomer, &sessions, &bounds, now)
    }

    /// Installs the new session in the cache; the fill's rule holds for it too. Without claims,
    /// or when the session ended or changed at once, the next check finds out.
    async fn install(&self, slot: Option<Fill<'_>>, session: Session) -> ActiveSession {
        let session_id = session.id;
        let (claims, complete) = match self.shared().claims(&session).await {
            Ok(claims) => (claims, true),
            Err(error) => {
                tracing::debug!(%error, %session_id, "the claims provider failed at sign-in");
                (serde_json::Value::Null, false)
            }
        };
        let options = || Arc::clone(&self.shared().options);
        let entry = || Entry::new(session.clone(), claims.clone(), options());
        let now = self.now();
        let entry = match slot.filter(|_| complete).map(|slot| slot.finish(entry(), now)) {
            Some(Filled::Installed(entry)) => entry,
            Some(Filled::Ended | Filled::Again) | None => entry().into(),
        };
        ActiveSession::new(entry, Shown::Current, now)
    }
}

/// What the tries of one sign-in have come to.
#[derive(Default)]
struct SoFar<'s> {
    /// Tries whose answer was lost.
    in_doubt: Vec<Attempt<'s>>,
    /// Sessions that have ended in commits before the one that signs in.
    left: Vec<(SessionId, EndCause)>,
    /// What a planted defect decides by.
    outdated: Option<UserState>,
}

enum Next<'s> {
    /// An earlier try is in the store.
    Done(Attempt<'s>),
    /// To be committed, where the user's state is still this.
    Try(Attempt<'s>, UserState),
}

/// A sign-in, with the ticket that it uses.
pub(crate) struct Newcoming {
    pub(crate) request: SignIn,
    pub(crate) ticket: Option<TicketUse>,
    /// Where the browser shows a session, in which it may go on.
    pub(crate) continuation: Option<Continuation>,
}

impl Newcoming {
    pub(crate) const fn new(request: SignIn, ticket: Option<TicketUse>) -> Self {
        Self { request, ticket, continuation: None }
    }
}

pub(crate) struct TicketUse {
    pub(crate) issued: Issued,
    /// The session that the user has chosen to end.
    pub(crate) end: SessionId,
    /// A name for this use.
    pub(crate) user: String,
}

/// Refuses a sign-in where a block holds.
fn check_block(state: &UserState, now: Timestamp) -> Result<(), Error> {
    let Some((scope, block)) = block::refusal(&state.blocks, now) else { return Ok(()) };
    let Block { reason, until, .. } = block.clone();
    Err(Error::Blocked(Box::new(Blocked { scope: scope.clone(), reason, until })))
}

fn turn_of(owner: &UserKey, turns: usize) -> usize {
    use std::hash::BuildHasher;
    let hash = foldhash::fast::FixedState::default().hash_one(owner);
    usize::try_from(hash % turns as u64).unwrap_or(0)
}
