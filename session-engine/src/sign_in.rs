//! Begins sessions, one atomic step each.

use std::net::IpAddr;

use session_core::admission::{self, Admission, Newcomer, Standing};
use session_core::rotation::TokenState;
use session_core::store::{Change, Commit, Outcome, PageQuery, Selection, TenantFilter, UserState};
use session_core::{
    Actor, ClientId, DeviceInfo, DeviceKind, EndCause, ExtraData, Session, SessionId, StoreError,
    Timestamp, Token, UserKey,
};
use tokio::sync::oneshot;

use crate::cache::{Fill, Filled};
use crate::entry::{CurrentSession, Entry};
use crate::error::Error;
use crate::manager::SessionManager;
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
    /// The session that the same browser holds now. If it is the user's own, it ends in the same
    /// step and takes up no place.
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
    /// [`Error::TooManySessions`] when a limit refuses it: no session has begun.
    /// [`Error::Unavailable`] when the store is away.
    pub async fn sign_in(&self, request: SignIn) -> Result<SignedIn, Error> {
        let (sender, receiver) = oneshot::channel();
        let manager = self.clone();
        self.shared().spawn(async move {
            let result = manager.admit(request).await;
            if let Err(Ok(unheard)) = sender.send(result) {
                manager.take_back(&unheard).await;
            }
        });
        // The task is gone: the node stops, or the sign-in panicked.
        let gone = |_| Err(StoreError::unavailable("the sign-in was given up").into());
        receiver.await.unwrap_or_else(gone)
    }

    async fn admit(&self, request: SignIn) -> Result<SignedIn, Error> {
        let shared = self.shared();
        let new_device = self.is_new_device(&request).await;
        let turn = shared.turns[turn_of(&request.owner, shared.turns.len())].lock().await;
        let mut in_doubt = Vec::new();
        let committed = self.commit_until_done(&request, &mut in_doubt).await;
        drop(turn);
        let Attempt { token, slot, session, ended } = match committed {
            Ok(attempt) => attempt,
            Err(error) => {
                self.take_back_in_doubt(in_doubt.iter().map(|attempt| attempt.session.id));
                return Err(error);
            }
        };
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

    /// Looks at the sessions that are there before the sign-in ends any of them.
    async fn is_new_device(&self, request: &SignIn) -> Option<bool> {
        if !self.options().tell_new_devices {
            return None;
        }
        let mut query = self.query(TenantFilter::Is(request.owner.tenant.clone()));
        query.user = Some(request.owner.user.clone());
        query.device_kind = Some(request.device_kind.clone());
        query.limit = PageQuery::MAX_LIMIT;
        let here = request.ip.map(network);
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
        request: &SignIn,
        in_doubt: &mut Vec<Attempt<'s>>,
    ) -> Result<Attempt<'s>, Error> {
        let shared = self.shared();
        let mut conflicts = 0;
        let mut patience = self.patience();
        let mut left = Vec::new();
        loop {
            let state = match shared.store_call("user", shared.store.user(&request.owner)).await {
                Ok(state) => state,
                Err(error) => {
                    patience.may_try_again(error).await?;
                    continue;
                }
            };
            let known = |attempt: &Attempt<'_>| {
                state.sessions.iter().any(|standing| standing.id == attempt.session.id)
            };
            if let Some(done) = in_doubt.iter().position(known) {
                let attempt = in_doubt.swap_remove(done);
                self.note_ended(&attempt.commit(request, &state));
                return Ok(attempt.after(left));
            }
            let attempt = self.attempt(request, &state)?;
            let (commit, complete) = first_step(attempt.commit(request, &state));
            match shared.store_call("commit", shared.store.commit(&commit)).await {
                Ok(Outcome::Done) => {
                    self.note_ended(&commit);
                    if complete {
                        return Ok(attempt.after(left));
                    }
                    left.extend(attempt.ended.into_iter().take(commit.changes.len()));
                }
                Ok(Outcome::Conflict) => self.back_off(&mut conflicts).await,
                Err(error) => {
                    if complete {
                        in_doubt.push(attempt);
                    }
                    patience.may_try_again(error).await?;
                }
            }
        }
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

    fn attempt(&self, request: &SignIn, state: &UserState) -> Result<Attempt<'_>, Error> {
        let shared = self.shared();
        let now = self.now();
        let ended = self.decide(request, state, now)?;
        let entropy = shared.entropy.as_ref();
        let id = shared.store.session_id(&request.owner, clock::random(entropy));
        let token = clock::new_token(id, entropy);
        let slot = shared.cache.begin_fill(token.session_id());
        let session = session(request, &token, self, now);
        Ok(Attempt { token, slot, session, ended })
    }

    fn decide(
        &self,
        request: &SignIn,
        state: &UserState,
        now: Timestamp,
    ) -> Result<Vec<(SessionId, EndCause)>, Error> {
        let options = self.options();
        let policy = state.policies.clone().resolve(&options.default_policy);
        let newcomer = Newcomer {
            device_kind: &request.device_kind,
            client_id: request.client_id.as_ref(),
            replaces: request.replaces,
        };
        // What this node has not written back yet counts too.
        let mut sessions = state.sessions.clone();
        sessions.iter_mut().for_each(|standing| {
            if let Some(entry) = self.shared().cache.get(&standing.id) {
                let used = CurrentSession(entry).last_accessed();
                standing.last_accessed = standing.last_accessed.max(used);
            }
        });
        let expired = |standing: &Standing| {
            options.timeouts.expired(standing.last_accessed, standing.absolute_expiry, now)
        };
        match admission::decide(&policy, &newcomer, &sessions, expired) {
            Admission::Admit { end } => Ok(end),
            Admission::Reject { limit } => Err(Error::TooManySessions(limit)),
        }
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
        let entry = || Entry::new(session.clone(), claims.clone());
        match slot.filter(|_| complete).map(|slot| slot.finish(entry())) {
            Some(Filled::Installed(entry)) => CurrentSession(entry),
            Some(Filled::Ended | Filled::Again) | None => CurrentSession(entry().into()),
        }
    }

    /// Ends a session whose caller went away before hearing of it.
    async fn take_back(&self, unheard: &SignedIn) {
        let session = &unheard.session;
        let ended = self.revoke(session.id(), session.owner(), Actor::System).await;
        if let Err(error) = ended {
            tracing::warn!(%error, session_id = %session.id(), "an unheard session stays");
        }
    }

    /// A commit whose answer was lost may have begun a session that nobody will ever hold.
    fn take_back_in_doubt(&self, ids: impl Iterator<Item = SessionId>) {
        let ids: Vec<_> = ids.collect();
        if ids.is_empty() {
            return;
        }
        let manager = self.clone();
        self.shared().spawn(async move {
            let selection = Selection::within(TenantFilter::Any).among(ids);
            // The store is probably still away; then policy and cleanup see to it.
            let _ = manager.end_all(selection, EndCause::Revoked, Actor::System).await;
        });
    }
}

/// One try to begin a session.
struct Attempt<'c> {
    token: Token,
    slot: Option<Fill<'c>>,
    session: Session,
    ended: Vec<(SessionId, EndCause)>,
}

fn session(request: &SignIn, token: &Token, manager: &SessionManager, now: Timestamp) -> Session {
    Session {
        id: token.session_id(),
        owner: request.owner.clone(),
        device_kind: request.device_kind.clone(),
        device_info: request.device_info.clone(),
        client_id: request.client_id.clone(),
        ip_addresses: request.ip.into_iter().collect(),
        signed_in: now,
        last_accessed: now,
        authenticated_at: now,
        absolute_expiry: manager.options().timeouts.absolute_expiry(now),
        data: request.data.clone(),
        token: TokenState::new(token),
    }
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
            by: Actor::User(request.owner.user.clone()),
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

/// The /24 of an IPv4 address, the /48 of an IPv6 one.
fn network(address: IpAddr) -> (bool, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (true, (address.to_bits() >> 8).into()),
        IpAddr::V6(address) => (false, address.to_bits() >> 80),
    }
}

fn turn_of(owner: &UserKey, turns: usize) -> usize {
    use std::hash::BuildHasher;
    let hash = foldhash::fast::FixedState::default().hash_one(owner);
    usize::try_from(hash % turns as u64).unwrap_or(0)
}
