//! The face of a node: everything that requests and admin tools ask for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use session_core::block::Block;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{HistoryPage, HistoryQuery, Page, PageQuery, Selection, TenantFilter};
use session_core::{Actor, DeviceName, ExtraData, Session, SessionId, Timestamp, Token, UserKey};

use crate::block::NewBlock;
use crate::check::{Check, Verdict};
use crate::entropy::random;
use crate::entry::{Access, ActiveSession};
use crate::error::Error;
use crate::health::Health;
use crate::held::Held;
use crate::history::{Erased, UserExport};
use crate::node::Node;
use crate::notice::Events;
use crate::options::Options;
use crate::policies::EffectivePolicy;
use crate::rotate::{RotateReason, Rotation};
use crate::shared::Shared;
use crate::sign_in::{SignIn, SignedIn};
use crate::wait::WaitEnd;

/// Checks, begins, lists and ends sessions on one node. Cheap to clone.
#[derive(Clone)]
pub struct SessionManager {
    node: Node,
}

impl SessionManager {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { node: Node::new(shared) }
    }

    pub(crate) const fn node(&self) -> &Node {
        &self.node
    }
}

/// Requests.
impl SessionManager {
    /// Judges a token from the cache.
    pub fn check(&self, token: &[u8], access: Access) -> Check {
        self.node.check(token, access)
    }

    /// As [`SessionManager::check`], for a token that has been parsed.
    pub fn check_token(&self, token: Token, access: Access) -> Check {
        self.node.check_token(token, access)
    }

    /// Judges, from the cache, tokens that one client shows together, as a browser does that holds two
    /// cookies of one name. Those of another session than the first one's do not count.
    pub fn check_all(&self, tokens: &[&[u8]], access: Access) -> Check {
        self.node.check_all(tokens, access)
    }

    /// Judges, from the cache, a session of which the application knows by its own means that the
    /// request belongs to it: by a signed document that names the session id, say. An id alone
    /// proves nothing: never take one that a client sent as it is.
    pub fn check_id(&self, id: SessionId, access: Access) -> Check {
        self.node.check_id(id, access)
    }

    /// The session of an earlier answer as it is now, for a connection that outlives its request. A
    /// re-authentication since then was made with another token, and makes it no fresher.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when only the store could tell and it is away.
    pub async fn validate_again(
        &self,
        before: &ActiveSession,
        access: Access,
    ) -> Result<Verdict, Error> {
        self.node.validate_again(before, access).await
    }

    /// Counts an access of a session that has been judged without one.
    pub fn note_access(&self, session: &ActiveSession, access: &Access) {
        self.node.note_access(session, access);
    }

    /// Judges a token from the cache or, where that does not suffice, from the store.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when only the store could tell and it is away.
    pub async fn validate(&self, token: &[u8], access: Access) -> Result<Verdict, Error> {
        self.check(token, access).resolve().await
    }

    /// As [`SessionManager::check_id`], from the store where the cache does not suffice.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when only the store could tell and it is away.
    pub async fn validate_id(&self, id: SessionId, access: Access) -> Result<Verdict, Error> {
        self.check_id(id, access).resolve().await
    }
}

/// Sign-in and tokens.
impl SessionManager {
    /// Begins a session under the policy that holds for the user, or goes on in the one that the browser
    /// shows ([`SignIn::with_held`]).
    ///
    /// When this returns, the sessions that had to leave have ended in the store, in the same
    /// atomic step, and this node refuses them. If more sessions must leave than one commit may hold
    /// ([`Commit::MAX_CHANGES`](session_core::store::Commit::MAX_CHANGES)), the first end in earlier
    /// commits. Dropping the future ends a session that has already begun, so none is left without a
    /// holder; one that goes on stays as it was.
    ///
    /// # Errors
    /// [`Error::TooManySessions`] when a limit refuses it: no session has begun, and the error holds a
    /// ticket for [`SessionManager::sign_in_with_ticket`]. [`Error::Blocked`] when the user, the tenant
    /// or the deployment is blocked. [`Error::Invalid`] for too many methods or timeouts of zero. [`Error::Unavailable`] when the store is away, and while
    /// [`Health::take_backs`](crate::Health::take_backs) is at its limit.
    pub async fn sign_in(&self, request: SignIn) -> Result<SignedIn, Error> {
        self.node.sign_in(request).await
    }

    /// Ends one of the user's sessions and begins the one that was refused, in one atomic step: for a
    /// ticket of [`Error::TooManySessions`] and the session that its user has chosen.
    ///
    /// A ticket works once, for five minutes, on every node, and stands for the checked password. It is
    /// no longer valid once every session that the limit had counted has ended: so
    /// [`SessionManager::revoke_user`], called where a password is changed, invalidates it, and
    /// [`SessionManager::revoke_others`] does not. While one of them stands, the chosen session may have
    /// ended already.
    ///
    /// If the limit still refuses the sign-in, the error holds a ticket again, with the time that is left.
    /// Where the history is kept for less than a ticket's time, a use that fails with
    /// [`Error::Unavailable`] may have used the ticket up.
    ///
    /// # Errors
    /// [`Error::InvalidTicket`] for one that was used, is too old or was not made by this fleet, and where
    /// every session that the limit had counted has ended.
    /// Otherwise as [`SessionManager::sign_in`].
    pub async fn sign_in_with_ticket(
        &self,
        ticket: &str,
        end: SessionId,
    ) -> Result<SignedIn, Error> {
        self.node.sign_in_with_ticket(ticket, end).await
    }

    /// Replaces the presented token by a new one of the same session.
    ///
    /// # Errors
    /// [`Error::Invalid`] for too many methods, [`Error::Unavailable`] when the store is away.
    pub async fn rotate(&self, token: &[u8], reason: RotateReason) -> Result<Rotation, Error> {
        self.node.rotate(token, reason, Duration::ZERO).await
    }

    /// As [`SessionManager::rotate`], of the token that a request has shown for this session. However long
    /// the request takes, for a second factor or a slow page, takes nothing from the token's grace.
    ///
    /// # Errors
    /// As there.
    pub async fn rotate_shown(
        &self,
        shown: &ActiveSession,
        token: &[u8],
        reason: RotateReason,
    ) -> Result<Rotation, Error> {
        self.node.rotate(token, reason, shown.age(self.now())).await
    }

    /// Renews the token that a request has shown if it is older than
    /// [`Options::renew_after`](crate::Options::renew_after): the next token then has to go to the
    /// client, in a response that cannot meet a newer sign-in's on its way. None while the answer to a
    /// re-authentication may be on its way.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn renew_if_due(
        &self,
        current: &ActiveSession,
        token: &[u8],
    ) -> Result<Option<Token>, Error> {
        self.node.renew_if_due(current, token).await
    }
}

/// What there is, and what has been.
impl SessionManager {
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
        self.node.get(id, tenant).await
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
        self.node.list(query).await
    }

    /// The number of a user's live sessions, by what the store knows of their use.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn count(&self, owner: &UserKey) -> Result<u64, Error> {
        self.node.count(owner).await
    }

    /// One page of ended sessions, latest end first; as [`SessionManager::list`] in everything else.
    ///
    /// # Errors
    /// As [`SessionManager::list`].
    pub async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, Error> {
        self.node.history(query).await
    }

    /// Everything that is kept of one user: for the user's right of access.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn export_user(&self, owner: &UserKey) -> Result<UserExport, Error> {
        self.node.export_user(owner).await
    }

    /// Ends all sessions of a user and deletes what is kept of them, and the user's own policy: for the
    /// user's right to erasure. A block stays, or the user could come back; lift it if that is meant.
    /// The log names the user for as long as log entries are kept.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away; the call can be repeated.
    pub async fn erase_user(&self, owner: &UserKey, by: Actor) -> Result<Erased, Error> {
        self.node.erase_user(owner, by).await
    }
}

/// Ends of sessions, and changes of their records.
impl SessionManager {
    /// Ends one session of this user. False if there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away; the call can be repeated.
    pub async fn revoke(&self, id: SessionId, owner: &UserKey, by: Actor) -> Result<bool, Error> {
        self.node.revoke(id, owner, by).await
    }

    /// Ends every selected session and answers how many there were.
    ///
    /// Once this returns, this node refuses all of them, and every other node does within the propagation
    /// bound. Sessions end in batches of one atomic step each, and the rest of them even if the future is
    /// dropped.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away; some batches may have ended, and the call
    /// can be repeated. [`Error::Invalid`] for more than [`Selection::MAX_IDS`] ids.
    pub async fn revoke_selected(&self, selection: Selection, by: Actor) -> Result<u64, Error> {
        self.node.revoke_selected(selection, by).await
    }

    /// Ends all sessions of a user, and with them the tickets of sign-ins that they refused. What a changed
    /// password calls for; the user signs in again afterwards.
    ///
    /// # Errors
    /// As [`SessionManager::revoke_selected`].
    pub async fn revoke_user(&self, owner: UserKey, by: Actor) -> Result<u64, Error> {
        self.node.revoke_user(owner, by).await
    }

    /// Ends all sessions of the user but this one. A [`Ticket`](crate::Ticket) of a sign-in that this one
    /// refused stays good for its five minutes.
    ///
    /// # Errors
    /// As [`SessionManager::revoke_selected`].
    pub async fn revoke_others(&self, current: &ActiveSession) -> Result<u64, Error> {
        self.node.revoke_others(current).await
    }

    /// Ends every selected session on behalf of the user of this one: the history notes the user and
    /// the device.
    ///
    /// # Errors
    /// As [`SessionManager::revoke_selected`].
    pub async fn revoke_by(
        &self,
        selection: Selection,
        current: &ActiveSession,
    ) -> Result<u64, Error> {
        self.node.revoke_by(selection, current).await
    }

    /// Ends a session because its own user signs out.
    ///
    /// # Errors
    /// As [`SessionManager::revoke_selected`].
    pub async fn sign_out(&self, current: &ActiveSession) -> Result<(), Error> {
        self.node.sign_out(current).await
    }

    /// The session that a client shows with these tokens, to sign out or to sign in again in it. Also returned
    /// for an idle session, and while the claims provider fails. Does not count as an access. None for tokens
    /// that are not valid, and where the record cannot be read.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when only the store could tell and it is away.
    pub async fn held(&self, tokens: &[&[u8]]) -> Result<Option<Held>, Error> {
        self.node.held(tokens).await
    }

    /// As [`SessionManager::sign_out`], for a session that a client gives up: no use of it that is still on its
    /// way keeps it.
    ///
    /// # Errors
    /// As [`SessionManager::revoke_selected`].
    pub async fn sign_out_held(&self, held: &Held) -> Result<(), Error> {
        self.node.sign_out_held(held).await
    }

    /// Changes the application's data of a session. `change` gets what is stored and returns what is to
    /// be stored; it runs again where another change came first, so none is lost, and a second time for data
    /// that a sign-in has brought whose token is still to be used. Every node sees the
    /// new data within the propagation bound, this one at once.
    ///
    /// Returns the session as it is now, or none if there is no such session, or it is past a timeout.
    ///
    /// # Errors
    /// Those of `change`; [`Error::Unavailable`] when the store is away: the change may or may not have
    /// happened, and a second try could change twice what the first one did.
    pub async fn update_data(
        &self,
        id: SessionId,
        by: Actor,
        change: impl FnMut(Option<&ExtraData>) -> Result<Option<ExtraData>, Error> + Send,
    ) -> Result<Option<Session>, Error> {
        self.node.update_data(id, by, change).await
    }

    /// Names the device of one of this user's sessions, or with none takes the name away. Returns the
    /// session, or none if there is no such session, or it is past a timeout.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn name_device(
        &self,
        id: SessionId,
        owner: &UserKey,
        name: Option<DeviceName>,
        by: Actor,
    ) -> Result<Option<Session>, Error> {
        self.node.name_device(id, owner, name, by).await
    }
}

/// Policies, blocks and claims.
impl SessionManager {
    /// The policy set at one place, if one is.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, Error> {
        self.node.policy(scope).await
    }

    /// The policy that holds at one place: what is set there or, going outwards, further up.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn effective_policy(&self, scope: &PolicyScope) -> Result<EffectivePolicy, Error> {
        self.node.effective_policy(scope).await
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
        self.node.set_policy(scope, policy, by).await
    }

    /// Blocks a user, a tenant or the deployment, and answers how many sessions that has ended. An
    /// earlier block there is replaced.
    ///
    /// When this returns, no sign-in within it succeeds on any node, and its sessions have ended. That goes on
    /// if the future is dropped.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an `until` that is over.
    /// [`Error::Unavailable`] when the store is away; the block may have been set and some sessions may
    /// have ended, and the call can be repeated.
    pub async fn block(
        &self,
        scope: PolicyScope,
        block: NewBlock,
        by: Actor,
    ) -> Result<u64, Error> {
        self.node.block(scope, block, by).await
    }

    /// As [`SessionManager::block`], on behalf of the user of this session: the history notes the user and
    /// the device.
    ///
    /// # Errors
    /// As [`SessionManager::block`].
    pub async fn block_by(
        &self,
        scope: PolicyScope,
        block: NewBlock,
        current: &ActiveSession,
    ) -> Result<u64, Error> {
        self.node.block_by(scope, block, current).await
    }

    /// Lifts the block at one place. Sign-in is possible again; sessions that have ended stay ended.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn unblock(&self, scope: PolicyScope, by: Actor) -> Result<(), Error> {
        self.node.unblock(scope, by).await
    }

    /// The block that is set at one place, also one whose time is over.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn block_at(&self, scope: &PolicyScope) -> Result<Option<Block>, Error> {
        self.node.block_at(scope).await
    }

    /// Makes every node ask the claims provider again for the user's next request.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away.
    pub async fn claims_changed(&self, owner: &UserKey, by: Actor) -> Result<(), Error> {
        self.node.claims_changed(owner, by).await
    }
}

/// The node.
impl SessionManager {
    /// Everything that happens from now on, anywhere in the fleet, until the streams stop.
    pub fn events(&self) -> Events {
        self.node.shared().notices.listen()
    }

    /// Waits until a session ends, on any node. For connections that outlive a request.
    ///
    /// An idle session, which [`Refusal::Idle`](crate::Refusal::Idle) refuses, has not ended yet.
    ///
    /// A node that has not heard the log for longer than it may trust its cache
    /// ([`Options::max_staleness`](crate::Options::max_staleness)) cannot tell any more, and says so. Any
    /// number of open waits costs no polling: the node's one read of the log serves all.
    pub async fn session_ended(&self, id: SessionId) -> WaitEnd {
        self.node.session_ended(id).await
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
        self.node.stop_streams();
    }

    /// Whether the streams have stopped, or the whole engine.
    pub fn is_stopping(&self) -> bool {
        self.node.is_stopping()
    }

    /// How the node is.
    pub fn health(&self) -> Health {
        self.node.health()
    }

    /// The options that the node runs with.
    pub fn options(&self) -> &Options {
        self.node.options()
    }

    /// The time of the fleet: the store's clock, as this node has learned it.
    pub fn now(&self) -> Timestamp {
        self.node.now()
    }

    /// Sixteen bytes of the node's randomness, fit for secrets.
    pub fn random(&self) -> [u8; 16] {
        random(self.node.shared().entropy.as_ref())
    }
}

impl fmt::Debug for SessionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionManager").field(&self.node).finish()
    }
}
