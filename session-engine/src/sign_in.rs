//! Sign-ins as an application asks for them.

use std::net::IpAddr;

use session_core::checker::Timeouts;
use session_core::{
    Actor, ClientId, DeviceInfo, DeviceKind, EndCause, ExtraData, InvalidField, Session, SessionId,
    Timestamp, Token, UserKey,
};

use crate::admit::Newcoming;
use crate::entry::CurrentSession;
use crate::error::Error;
use crate::manager::SessionManager;
use crate::meter;
use crate::options::Options;
use crate::rotate::Proof;

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
    pub impersonator: Option<UserKey>,
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
    pub fn with_impersonator(mut self, impersonator: impl Into<Option<UserKey>>) -> Self {
        self.impersonator = impersonator.into();
        self
    }

    /// Sets [`SignIn::replaces`].
    #[must_use]
    pub fn with_replaces(mut self, replaces: impl Into<Option<SessionId>>) -> Self {
        self.replaces = replaces.into();
        self
    }

    /// Who signs in, for the log.
    pub(crate) fn actor(&self) -> Actor {
        Actor::User(self.impersonator.as_ref().unwrap_or(&self.owner).clone())
    }

    pub(crate) fn validate(&self) -> Result<(), InvalidField> {
        let own = self.timeouts.unwrap_or_else(Timeouts::none);
        for (name, timeout) in [("timeouts.idle", own.idle), ("timeouts.absolute", own.absolute)] {
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                return Err(InvalidField::malformed(name, "longer than zero"));
            }
        }
        Ok(())
    }

    /// The record of the session that begins now with this token.
    pub(crate) fn session(
        &self,
        token: &Token,
        options: &Options,
        now: Timestamp,
    ) -> Result<Session, Error> {
        let timeouts = self.timeouts.unwrap_or(options.timeouts);
        let mut session = Session {
            device_kind: self.device_kind.clone(),
            device_info: self.device_info.clone(),
            client_id: self.client_id.clone(),
            ip_addresses: options.addresses.keep(self.ip).into_iter().collect(),
            authentication: self.proof.authentication(now)?,
            absolute_expiry: timeouts.absolute_expiry(now),
            timeouts: self.timeouts,
            impersonator: self.impersonator.clone(),
            data: self.data.clone(),
            ..Session::new(self.owner.clone(), token, now)
        };
        session.deadline = session.deadline_at(&options.timeouts, &options.cleanup, now, false);
        Ok(session)
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
    /// ([`Commit::MAX_CHANGES`](session_core::store::Commit::MAX_CHANGES)), the first end in earlier commits. Dropping the future ends a session
    /// that has already begun, so none is left without a holder.
    ///
    /// # Errors
    /// [`Error::TooManySessions`] when a limit refuses it: no session has begun, and the error holds a
    /// ticket for [`SessionManager::sign_in_with_ticket`]. [`Error::Blocked`] when the user, the tenant
    /// or the deployment is blocked. [`Error::Invalid`] for too many methods or timeouts of zero.
    /// [`Error::Unavailable`] when the store is away, and while
    /// [`Health::take_backs`](crate::Health::take_backs) is at its limit.
    pub async fn sign_in(&self, request: SignIn) -> Result<SignedIn, Error> {
        self.begin(Newcoming { request, ticket: None }).await
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
        self.know_the_time().await?;
        let opened = self.open_ticket(ticket, end).await;
        let (request, ticket) = opened.inspect_err(|error| meter::signed_in(Some(error)))?;
        self.begin(Newcoming { request, ticket: Some(ticket) }).await
    }
}
