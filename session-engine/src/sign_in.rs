//! Begins sessions, one atomic step each.

use std::net::IpAddr;
use std::sync::Arc;

use session_core::admission::{self, Admission, Bounds, Newcomer};
use session_core::block::{self, Block};
use session_core::checker::Timeouts;
use session_core::policy::Limit;
use session_core::store::{Change, Commit, Outcome, PageQuery, TenantFilter, UserState};
use session_core::{
    Actor, ClientId, DeviceInfo, DeviceKind, EndCause, ExtraData, InvalidField, Session, SessionId,
    StoreError, Timestamp, Token, UserId, UserKey,
};
use tokio::sync::oneshot;

use crate::cache::{Fill, Filled};
use crate::entry::{CurrentSession, Entry, Shown};
use crate::error::{Blocked, Error, TooManySessions};
use crate::manager::SessionManager;
use crate::options::{Options, network};
use crate::rotate::Proof;
use crate::{clock, notice};

/// Who signs in, and from where. The application has checked the credentials.
///
/// ```
/// use session_core::{DeviceInfo, DeviceKind, UserId, UserKey};
/// use session_engine::SignIn;
///
/// # fn main() -> Result<(), session_core::InvalidField> {
/// let request = SignIn::new(UserKey::new(UserId::new("alice")?))
///     .with_device_kind(DeviceKind::Mobile)
///     .with_device_info(DeviceInfo::truncated("Alice's phone"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignIn {
    /// Whose session it will be.
    pub owner: UserKey,
    /// What a policy counts as "same type". Default `Web`.
    pub device_kind: DeviceKind,
    /// Readable text about the device.
    pub device_info: Option<DeviceInfo>,
    /// The application that signs the user in.
    pub client_id: Option<ClientId>,
    /// Where the request came from.
    pub ip: Option<IpAddr>,
    /// The application's own data.
    pub data: Option<ExtraData>,
    /// How and when the user proved who they are. Default now, with nothing said of how.
    pub proof: Proof,
    /// Timeouts of this session's own, for a remembered device or for administrators. Default those of
    /// the [`Options`](crate::Options).
    pub timeouts: Option<Timeouts>,
    /// Who acts as the user with this session, where it is not the user. It is shown wherever the
    /// session is, and such a session may not administer.
    pub impersonator: Option<UserId>,
    /// The session that the same browser holds now; the caller has validated its token. The user's own
    /// ends in the same step and takes up no place. Another user's ends soon afterwards, and the
    /// sign-in does not depend on it.
    pub replaces: Option<SessionId>,
}

impl SignIn {
    /// A sign-in of this user from a browser.
    pub const fn new(owner: UserKey) -> Self {
        Self {
            owner,
            device_kind: DeviceKind::Web,
            device_info: None,
            client_id: None,
            ip: None,
            data: None,
            proof: Proof { at: None, level: None, methods: Vec::new() },
            timeouts: None,
            impersonator: None,
            replaces: None,
        }
    }

    /// Sets [`SignIn::device_kind`].
    #[must_use]
    pub fn with_device_kind(mut self, device_kind: DeviceKind) -> Self {
        self.device_kind = device_kind;
        self
    }

    /// Sets [`SignIn::device_info`].
    #[must_use]
    pub fn with_device_info(mut self, device_info: impl Into<Option<DeviceInfo>>) -> Self {
        self.device_info = device_info.into();
        self
    }

    /// Sets [`SignIn::client_id`].
    #[must_use]
    pub fn with_client_id(mut self, client_id: impl Into<Option<ClientId>>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// Sets [`SignIn::ip`].
    #[must_use]
    pub fn with_ip(mut self, ip: impl Into<Option<IpAddr>>) -> Self {
        self.ip = ip.into();
        self
    }

    /// Sets [`SignIn::data`].
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Option<ExtraData>>) -> Self {
        self.data = data.into();
        self
    }

    /// Sets [`SignIn::proof`].
    #[must_use]
    pub fn with_proof(mut self, proof: Proof) -> Self {
        self.proof = proof;
        self
    }

    /// Sets [`SignIn::timeouts`].
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: impl Into<Option<Timeouts>>) -> Self {
        self.timeouts = timeouts.into();
        self
    }

    /// Sets [`SignIn::impersonator`].
    #[must_use]
    pub fn with_impersonator(mut self, impersonator: impl Into<Option<UserId>>) -> Self {
        self.impersonator = impersonator.into();
        self
    }

    /// Sets [`SignIn::replaces`].
    #[must_use]
    pub fn with_replaces(mut self, replaces: impl Into<Option<SessionId>>) -> Self {
        self.replaces = replaces.into();
        self
    }
}

/// A session that has begun.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignedIn {
    /// The session.
    pub session: CurrentSession,
    /// Its token, for the client only.
    pub token: Token,
    /// Who had to leave, and why.
    pub ended: Vec<(SessionId, EndCause)>,
    /// Whether the user had no session on this kind of device and in this network (the /24 of an IPv4
    /// address, the /48 of an IPv6 one): for a mail that says so. Sessions that have ended are
    /// forgotten, so it is true for a first sign-in and for one after a sign-out; without an address
    /// the kind alone counts. None where
    /// [`Options::tell_new_devices`](crate::Options::tell_new_devices) is off, or where it could not
    /// be found out.
    pub new_device: Option<bool>,
}

impl SessionManager {
    /// Begins a session under the policy that holds for the user.
    ///
    /// When this returns, the sessions that had to leave have ended in the store, in the same
    /// atomic step, and this node refuses them. If more sessions must leave than one commit may hold
    /// ([`Commit::MAX_CHANGES`]), the first end in earlier commits. Dropping the future ends a session
    /// that has already begun, so none is left without a holder.
    ///
    /// # Errors
    /// [`Error::TooManySessions`] when a limit refuses it: no session has begun, and the error holds a
    /// ticket for [`SessionManager::sign_in_with_ticket`]. [`Error::Blocked`] when the user, the tenant
    /// or the deployment is blocked. [`Error::Invalid`] for too many methods or timeouts of zero.
    /// [`Error::Unavailable`] when the store is away.
    pub async fn sign_in(&self, request: SignIn) -> Result<SignedIn, Error> {
        self.begin(Newcoming { request, ticket: None }).await
    }

    /// Ends one of the user's sessions and begins the one that was refused, in one atomic step: for a
    /// ticket of [`Error::TooManySessions`] and the session that its user has chosen.
    ///
    /// A ticket works once, for five minutes, on every node, and stands for the checked password. A
    /// session that has ended already needs no ending; where the limit refuses the sign-in even so, the
    /// error holds a new ticket.
    ///
    /// # Errors
    /// [`Error::InvalidTicket`] for one that was used, is too old or was not made by this fleet.
    /// Otherwise as [`SessionManager::sign_in`].
    pub async fn sign_in_with_ticket(
        &self,
        ticket: &str,
        end: SessionId,
    ) -> Result<SignedIn, Error> {
        let (request, id) = self.open_ticket(ticket)?;
        self.begin(Newcoming { request, ticket: Some(TicketUse { id, end }) }).await
    }

    async fn begin(&self, newcoming: Newcoming) -> Result<SignedIn, Error> {
        validate(&newcoming.request)?;
        let (sender, receiver) = oneshot::channel();
        let manager = self.clone();
        self.shared().spawn(async move {
            let result = manager.admit(&newcoming, || sender.is_closed()).await;
            if let Err(Ok(unheard)) = sender.send(result) {
                manager.shared().owed.end(unheard.session.id(), EndCause::Revoked, Actor::System);
            }
        });
        // The task is gone: the node stops, or the sign-in panicked.
        let gone = |_| Err(StoreError::unavailable("the sign-in was given up").into());
        receiver.await.unwrap_or_else(gone)
    }

    async fn admit(
        &self,
        newcoming: &Newcoming,
        is_given_up: impl Fn() -> bool,
    ) -> Result<SignedIn, Error> {
        let (shared, request) = (self.shared(), &newcoming.request);
        let new_device = self.is_new_device(request).await;
        let turn = shared.turns[turn_of(&request.owner, shared.turns.len())].lock().await;
        let mut in_doubt = Vec::new();
        let committed = self.commit_until_done(newcoming, &mut in_doubt, is_given_up).await;
        drop(turn);
        // A commit whose answer was lost may have begun a session that no client will ever hold.
        for attempt in in_doubt {
            shared.owed.end(attempt.session.id, EndCause::Revoked, Actor::System);
        }
        let Attempt { token, slot, session, ended } = committed?;
        self.end_elsewhere(request, &ended);
        shared.poke.notify_one();
        let session = self.install(slot, session).await;
        if new_device == Some(true) {
            let (user, session_id) = (session.user(), session.id());
            let address = request.ip.map(tracing::field::display);
            tracing::info!(
                target: "session_kit::security", event = "new_device", %user, %session_id, address,
                kind = %session.device_kind()
            );
        }
        Ok(SignedIn { session, token, ended, new_device })
    }

    /// The session that the browser held until now, where it was another user's.
    fn end_elsewhere(&self, request: &SignIn, ended: &[(SessionId, EndCause)]) {
        let replaced = request.replaces.filter(|id| ended.iter().all(|(ended, _)| ended != id));
        if let Some(id) = replaced {
            let by = Actor::User(request.owner.user.clone());
            self.shared().owed.end(id, EndCause::Replaced, by);
        }
    }

    /// Looks at the sessions that are there before the sign-in ends any of them.
    async fn is_new_device(&self, request: &SignIn) -> Option<bool> {
        if !self.options().tell_new_devices {
            return None;
        }
        let mut query = self.query(TenantFilter::Is(request.owner.tenant.clone()));
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
                tracing::warn!(%error, "whether a device is new cannot be found out");
                None
            }
        }
    }

    /// Decides and commits until the decision meets the state it was made for.
    ///
    /// Every conflict means that somebody else's change went through, so the fleet as a whole
    /// makes progress; the time limit is for an unavailable store. An attempt whose answer was
    /// lost stays in doubt: either a later read finds its session, or it has ended since, or a
    /// later commit makes it fail. So the next attempt has an id of its own.
    async fn commit_until_done<'s>(
        &'s self,
        newcoming: &Newcoming,
        in_doubt: &mut Vec<Attempt<'s>>,
        is_given_up: impl Fn() -> bool,
    ) -> Result<Attempt<'s>, Error> {
        let (shared, request) = (self.shared(), &newcoming.request);
        let mut tries = self.tries();
        let mut left = Vec::new();
        loop {
            if is_given_up() {
                return Err(StoreError::unavailable("the caller has gone").into());
            }
            let state = match shared.store_call("user", shared.store.user(&request.owner)).await {
                Ok(state) => state,
                Err(error) => {
                    tries.patience.may_try_again(error).await?;
                    continue;
                }
            };
            let known = |attempt: &Attempt<'_>| {
                state.sessions.iter().any(|standing| standing.id == attempt.session.id)
            };
            if let Some(done) = in_doubt.iter().position(known) {
                let attempt = in_doubt.swap_remove(done);
                if newcoming.ticket.is_some() && !self.is_stored(&attempt).await? {
                    return Err(Error::InvalidTicket);
                }
                self.note_ended(&attempt.commit(request, &state));
                return Ok(attempt.after(left));
            }
            self.check_unused(newcoming, &state, tries.conflicts > 0).await?;
            let attempt = self.attempt(newcoming, &state).await?;
            let (commit, complete) = first_step(attempt.commit(request, &state));
            if is_given_up() {
                continue;
            }
            match shared.store_call("commit", shared.store.commit(&commit)).await {
                Ok(Outcome::Done) => {
                    self.note_ended(&commit);
                    if complete {
                        return Ok(attempt.after(left));
                    }
                    left.extend(attempt.ended.into_iter().take(commit.changes.len()));
                }
                Ok(Outcome::Conflict) => self.back_off(&mut tries.conflicts).await,
                Err(error) => {
                    if complete {
                        in_doubt.push(attempt);
                    }
                    tries.patience.may_try_again(error).await?;
                }
            }
        }
    }

    /// Whether this very attempt is in the store, and not another with the same ticket.
    async fn is_stored(&self, attempt: &Attempt<'_>) -> Result<bool, Error> {
        let shared = self.shared();
        let stored = shared.store_call("load", shared.store.load(attempt.session.id)).await?;
        Ok(stored
            .is_some_and(|stored| stored.session.token.current == attempt.session.token.current))
    }

    /// A ticket names the session that it begins; where that one is there or has ended, it was used.
    async fn check_unused(
        &self,
        newcoming: &Newcoming,
        state: &UserState,
        had_conflict: bool,
    ) -> Result<(), Error> {
        let Some(TicketUse { id, .. }) = newcoming.ticket else { return Ok(()) };
        let shared = self.shared();
        let used = state.sessions.iter().any(|standing| standing.id == id)
            || (had_conflict
                && shared.store_call("ended", shared.store.ended(id)).await?.is_some());
        if used { Err(Error::InvalidTicket) } else { Ok(()) }
    }

    /// Forgets and logs what a commit that went through has ended, and logs what it began.
    fn note_ended(&self, commit: &Commit) {
        for change in &commit.changes {
            if let Change::End(id, cause) = change {
                self.shared().cache.end(*id, *cause);
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
        if let Some((scope, block)) = block::refusal(&state.blocks, now) {
            let Block { reason, until, .. } = block.clone();
            return Err(Error::Blocked(Box::new(Blocked { scope: scope.clone(), reason, until })));
        }
        let ended = match self.decide(newcoming, state, now) {
            Admission::Admit { end } => end,
            Admission::Reject { limit } => return Err(self.too_many(request, limit).await?),
        };
        let entropy = shared.entropy.as_ref();
        let new_id = || shared.store.session_id(&request.owner, clock::random(entropy));
        let id = newcoming.ticket.as_ref().map_or_else(new_id, |ticket| ticket.id);
        let secrets = (clock::random(entropy), clock::random(entropy));
        let token = Token::new(&shared.fleet_key, id, secrets.0, secrets.1);
        let slot = shared.cache.begin_fill(id);
        let session = session(request, &token, self.options(), now)?;
        Ok(Attempt { token, slot, session, ended })
    }

    /// The refusal, with the sessions that the user may choose from and a ticket for the choice.
    async fn too_many(&self, request: &SignIn, limit: Limit) -> Result<Error, Error> {
        let mut query = self.query(TenantFilter::Is(request.owner.tenant.clone()));
        query.user = Some(request.owner.user.clone());
        query.limit = PageQuery::MAX_LIMIT;
        let sessions = self.list(&query).await?.sessions;
        let ticket = self.seal_ticket(request)?;
        Ok(Error::TooManySessions(Box::new(TooManySessions { limit, sessions, ticket })))
    }

    fn decide(&self, newcoming: &Newcoming, state: &UserState, now: Timestamp) -> Admission {
        let (options, request) = (self.options(), &newcoming.request);
        let policy = state.policies.clone().resolve(&options.default_policy);
        let newcomer = Newcomer {
            device_kind: &request.device_kind,
            client_id: request.client_id.as_ref(),
            replaces: request.replaces,
            ends: newcoming.ticket.as_ref().map(|ticket| ticket.end),
        };
        let bounds = Bounds {
            claim_within: options.claim_within,
            max_sessions: options.max_sessions_per_user,
        };
        // What this node has not written back yet counts too.
        let mut sessions = state.sessions.clone();
        sessions.iter_mut().for_each(|standing| {
            if let Some(entry) = self.shared().cache.seen(&standing.id) {
                entry.overlay_standing(standing);
            }
        });
        admission::decide(&policy, &newcomer, &sessions, &bounds, now)
    }

    /// Installs the new session in the cache; the fill's rule holds for it too. Without claims,
    /// or when the session ended or changed at once, the next check finds out.
    async fn install(&self, slot: Option<Fill<'_>>, session: Session) -> CurrentSession {
        let session_id = session.id;
        let (claims, complete) = match self.shared().claims(&session).await {
            Ok(claims) => (claims, true),
            Err(error) => {
                tracing::warn!(%error, %session_id, "the claims provider failed at sign-in");
                (serde_json::Value::Null, false)
            }
        };
        let options = || Arc::clone(&self.shared().options);
        let entry = || Entry::new(session.clone(), claims.clone(), options());
        match slot.filter(|_| complete).map(|slot| slot.finish(entry(), self.now())) {
            Some(Filled::Installed(entry)) => CurrentSession::new(entry, Shown::Current),
            Some(Filled::Ended | Filled::Again) | None => {
                CurrentSession::new(entry().into(), Shown::Current)
            }
        }
    }
}

/// A sign-in, with the ticket that it uses.
struct Newcoming {
    request: SignIn,
    ticket: Option<TicketUse>,
}

struct TicketUse {
    /// The session that the ticket begins.
    id: SessionId,
    /// The session that the user has chosen to end.
    end: SessionId,
}

/// One try to begin a session.
struct Attempt<'c> {
    token: Token,
    slot: Option<Fill<'c>>,
    session: Session,
    ended: Vec<(SessionId, EndCause)>,
}

fn session(
    request: &SignIn,
    token: &Token,
    options: &Options,
    now: Timestamp,
) -> Result<Session, Error> {
    let timeouts = request.timeouts.unwrap_or(options.timeouts);
    let mut session = Session {
        device_kind: request.device_kind.clone(),
        device_info: request.device_info.clone(),
        client_id: request.client_id.clone(),
        ip_addresses: options.addresses.keep(request.ip).into_iter().collect(),
        authentication: request.proof.authentication(now)?,
        absolute_expiry: timeouts.absolute_expiry(now),
        timeouts: request.timeouts,
        impersonator: request.impersonator.clone(),
        data: request.data.clone(),
        ..Session::new(request.owner.clone(), token, now)
    };
    session.deadline = session.deadline_at(&options.timeouts, &options.cleanup, now, false);
    Ok(session)
}

fn validate(request: &SignIn) -> Result<(), InvalidField> {
    let own = request.timeouts.unwrap_or_else(Timeouts::none);
    for (name, timeout) in [("timeouts.idle", own.idle), ("timeouts.absolute", own.absolute)] {
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(InvalidField::malformed(name, "longer than zero"));
        }
    }
    Ok(())
}

impl Attempt<'_> {
    fn commit(&self, request: &SignIn, state: &UserState) -> Commit {
        let ends = self.ended.iter().map(|(id, cause)| Change::End(*id, *cause));
        let begins = Change::Insert(Box::new(self.session.clone()));
        Commit {
            owner: request.owner.clone(),
            expected: state.version,
            changes: ends.chain([begins]).collect(),
            at: self.session.signed_in,
            by: Actor::User(request.impersonator.as_ref().unwrap_or(&request.owner.user).clone()),
            from: request.device_info.clone(),
        }
    }

    /// The attempt, where these had to leave before it.
    fn after(mut self, left: Vec<(SessionId, EndCause)>) -> Self {
        self.ended.extend(left);
        self.ended.sort_by_key(|(id, _)| *id);
        self
    }
}

/// Cuts the commit to the largest size. Returns whether it is complete.
fn first_step(mut commit: Commit) -> (Commit, bool) {
    let complete = commit.changes.len() <= Commit::MAX_CHANGES;
    commit.changes.truncate(Commit::MAX_CHANGES);
    (commit, complete)
}

fn turn_of(owner: &UserKey, turns: usize) -> usize {
    use std::hash::BuildHasher;
    let hash = foldhash::fast::FixedState::default().hash_one(owner);
    usize::try_from(hash % turns as u64).unwrap_or(0)
}
