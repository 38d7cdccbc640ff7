//! Sign-ins as an application asks for them.

use std::net::IpAddr;

use session_core::planted::{self, Defect};
use session_core::usage::Timeouts;
use session_core::{
    Actor, ClientId, DeviceInfo, DeviceKind, EndCause, ExtraData, InvalidField, Session, SessionId,
    Timestamp, Token, UserKey,
};

use crate::admit::Newcoming;
use crate::entry::ActiveSession;
use crate::error::Error;
use crate::held::{Held, ShownToken};
use crate::meter;
use crate::node::Node;
use crate::options::{Options, validate_timeouts};
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
    /// session is, and such a session may not administer. It belongs to the user: what ends or blocks who
    /// acts leaves it, so give it [`SignIn::timeouts`] of its own.
    pub impersonator: Option<UserKey>,
    /// The session that the same browser holds now; the caller has validated its token. The user's own
    /// takes up no place, and ends in the same step or goes on ([`SignIn::with_held`]). Another user's ends
    /// soon afterwards, and the sign-in does not depend on it.
    pub replaces: Option<SessionId>,
    /// The token of `replaces`, where the browser showed it: the session may go on.
    pub(crate) shown: Option<ShownToken>,
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
            shown: None,
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

    /// Sets [`SignIn::replaces`] by its id alone. That session always ends.
    #[must_use]
    pub fn with_replaces(mut self, replaces: impl Into<Option<SessionId>>) -> Self {
        (self.replaces, self.shown) = (replaces.into(), None);
        self
    }

    /// Sets [`SignIn::replaces`] to a session whose token the browser shows. None removes it.
    ///
    /// If user, kind of device, client and impersonator are the same, that session goes on: it keeps its id and
    /// gets a new [token](SignedIn::token). Data, timeouts, device text and proof of the sign-in apply from the
    /// first use of that token; data and device text stay where the sign-in has none. Until then the old token
    /// stays valid, so a lost answer signs nobody out. The time of its first sign-in stays, and a limit that
    /// evicts the oldest goes by it. Any other session ends, and so does one that would end sooner by the
    /// timeouts of the sign-in.
    #[must_use]
    pub fn with_held(mut self, held: impl Into<Option<Held>>) -> Self {
        let held = held.into();
        self.replaces = held.as_ref().map(|held| held.id);
        self.shown = held.and_then(|held| held.shown);
        self
    }

    /// Who signs in, for the log.
    pub(crate) fn actor(&self) -> Actor {
        Actor::User(self.impersonator.as_ref().unwrap_or(&self.owner).clone())
    }

    pub(crate) fn validate(&self) -> Result<(), InvalidField> {
        self.timeouts.as_ref().map_or(Ok(()), validate_timeouts)
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
            absolute_expiry: timeouts
                .absolute_expiry(now)
                .filter(|_| !planted::is(Defect::NoAbsoluteExpiry)),
            timeouts: self.timeouts,
            impersonator: self.impersonator.clone(),
            data: self.data.clone(),
            ..Session::new(self.owner.clone(), token, now)
        };
        session.deadline = session.deadline_at(&options.timeouts, &options.cleanup, now, false);
        Ok(session)
    }
}

/// A session that has begun, or goes on with a new proof.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SignedIn {
    /// The session, as its new token shows it.
    pub session: ActiveSession,
    /// Its token, for the client only.
    pub token: Token,
    /// The sessions that the sign-in has ended, each with its cause.
    pub ended: Vec<(SessionId, EndCause)>,
    /// Whether the user had no session on this kind of device and in this network (the /24 of an IPv4
    /// address, the /48 of an IPv6 one): for a mail that says so. Sessions that have ended are
    /// forgotten, so it is true for a first sign-in and for one after a sign-out; without an address
    /// the kind alone counts. None where
    /// [`Options::tell_new_devices`](crate::Options::tell_new_devices) is off, or where it could not
    /// be found out.
    pub new_device: Option<bool>,
}

impl Node {
    pub(crate) async fn sign_in(&self, request: SignIn) -> Result<SignedIn, Error> {
        self.begin(Newcoming::new(request, None)).await
    }

    pub(crate) async fn sign_in_with_ticket(
        &self,
        ticket: &str,
        end: SessionId,
    ) -> Result<SignedIn, Error> {
        self.know_the_time().await?;
        let opened = self.open_ticket(ticket, end).await;
        let (request, ticket) = opened.inspect_err(|error| meter::signed_in(Some(error)))?;
        self.begin(Newcoming::new(request, Some(ticket))).await
    }
}
