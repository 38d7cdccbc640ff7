//! Sign in, rotate, sign out.

use session_core::{ClientId, DeviceInfo, DeviceKind, ExtraData, InvalidField, UserId, UserKey};
use session_engine::{CurrentSession, RotateReason, Rotation, SignIn, SignedIn};

use crate::cookie::SessionCookie;
use crate::device::device;
use crate::head::OwnedHead;
use crate::identity::Identity;
use crate::origin::{SameOrigin, same_origin};
use crate::problem::Problem;
use crate::rejection::Rejection;
use crate::request::RequestSession;

/// What the application says of a sign-in; the rest is read off the request.
///
/// A user's name alone will do, wherever one is taken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewSession {
    /// Whose session it will be.
    pub owner: UserKey,
    /// The kind of device; by default what the headers say.
    pub device_kind: Option<DeviceKind>,
    /// Readable text about the device; by default what the headers say.
    pub device_info: Option<DeviceInfo>,
    /// The application that signs the user in.
    pub client_id: Option<ClientId>,
    /// The application's own data. The API shows it to the session's user, and to admins.
    pub data: Option<ExtraData>,
}

impl NewSession {
    /// A session of this user on the device that the request comes from.
    pub const fn of(owner: UserKey) -> Self {
        Self { owner, device_kind: None, device_info: None, client_id: None, data: None }
    }

    /// The kind of device.
    #[must_use]
    pub fn with_device_kind(mut self, kind: impl Into<Option<DeviceKind>>) -> Self {
        self.device_kind = kind.into();
        self
    }

    /// Readable text about the device.
    #[must_use]
    pub fn with_device_info(mut self, info: impl Into<Option<DeviceInfo>>) -> Self {
        self.device_info = info.into();
        self
    }

    /// The application that signs the user in.
    #[must_use]
    pub fn with_client_id(mut self, client: impl Into<Option<ClientId>>) -> Self {
        self.client_id = client.into();
        self
    }

    /// The application's own data. The API shows it to the session's user, and to admins.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Option<ExtraData>>) -> Self {
        self.data = data.into();
        self
    }

    /// The engine's request, on this device unless the application knows better.
    pub(crate) fn into_sign_in(self, kind: DeviceKind, info: Option<DeviceInfo>) -> SignIn {
        SignIn::new(self.owner)
            .with_device_kind(self.device_kind.unwrap_or(kind))
            .with_device_info(self.device_info.or(info))
            .with_client_id(self.client_id)
            .with_data(self.data)
    }
}

impl From<UserKey> for NewSession {
    fn from(owner: UserKey) -> Self {
        Self::of(owner)
    }
}

impl From<UserId> for NewSession {
    fn from(user: UserId) -> Self {
        Self::of(UserKey::new(user))
    }
}

impl TryFrom<&str> for NewSession {
    type Error = InvalidField;

    /// A session of this user, outside all tenants.
    fn try_from(user: &str) -> Result<Self, InvalidField> {
        UserId::new(user).map(Self::from)
    }
}

impl TryFrom<&String> for NewSession {
    type Error = InvalidField;

    fn try_from(user: &String) -> Result<Self, InvalidField> {
        user.as_str().try_into()
    }
}

/// Signs in, signs out and rotates for the sender of one request.
///
/// Each answers a [`SessionCookie`] that has to go out with the response. A request that a page of
/// another origin made is refused with 403.
#[derive(Clone, Debug)]
pub struct Auth {
    request: RequestSession,
    head: OwnedHead,
}

impl Auth {
    pub(crate) const fn new(request: RequestSession, head: OwnedHead) -> Self {
        Self { request, head }
    }

    /// The session that the request belongs to, if there is one.
    pub const fn session(&self) -> Option<&CurrentSession> {
        self.request.identity().session()
    }

    /// Begins a session. The one that the same browser holds is replaced if it is the same user's,
    /// and signed out otherwise, if the store can be reached.
    ///
    /// # Errors
    /// 409 when a policy refuses it, 503 when the store is away, 403 across origins, 400 for a user
    /// that does not fit.
    pub async fn sign_in<N>(&self, new: N) -> Result<(SignedIn, SessionCookie), Rejection>
    where
        N: TryInto<NewSession>,
        N::Error: Into<Problem>,
    {
        self.refuse_cross_origin()?;
        let new = new.try_into().map_err(Into::into)?;
        let http = self.request.http();
        let (same, other) = match self.session() {
            Some(current) if *current.owner() == new.owner => (Some(current.id()), None),
            current => (None, current),
        };
        let signed_in = http.manager().sign_in(self.sign_in_request(new, same)).await?;
        if let Some(other) = other
            && let Err(error) = http.manager().sign_out(other).await
        {
            // The new session has begun: without its cookie no client could use or end it.
            tracing::warn!(%error, session_id = %other.id(), "the browser's former session stays");
        }
        let cookie = http.options().cookie.set(&signed_in.token);
        Ok((signed_in, cookie))
    }

    fn sign_in_request(
        &self,
        new: NewSession,
        replaces: Option<session_core::SessionId>,
    ) -> SignIn {
        let headers = self.head.head().headers;
        let (device_kind, device_info) = device(headers);
        let ip = self.request.http().client_ip(headers, self.request.peer());
        new.into_sign_in(device_kind, device_info).with_ip(ip).with_replaces(replaces)
    }

    /// Ends the session, if there is one, and removes the cookie even if its token is unknown. A second
    /// sign-out does no harm.
    ///
    /// # Errors
    /// 503 when the store is away, 403 across origins.
    pub async fn sign_out(&self) -> Result<SessionCookie, Rejection> {
        self.refuse_cross_origin()?;
        let http = self.request.http();
        match self.request.identity() {
            Identity::Session(session) => http.manager().sign_out(session).await?,
            Identity::Unavailable => return Err(Problem::unavailable().into()),
            Identity::Anonymous if !http.options().cookie.is_in(self.head.head().headers) => {
                return Ok(SessionCookie::keep());
            }
            Identity::Anonymous => {}
        }
        Ok(http.options().cookie.remove())
    }

    /// Replaces the token that the request carries. Where a request beside this one has just done
    /// so, or the token is worth nothing, the browser keeps the cookie it has.
    ///
    /// # Errors
    /// 503 when the store is away, 403 across origins.
    pub async fn rotate(&self, reason: RotateReason) -> Result<SessionCookie, Rejection> {
        self.refuse_cross_origin()?;
        let http = self.request.http();
        let cookie = &http.options().cookie;
        let Some(token) = cookie.token(self.head.head().headers) else {
            return Ok(SessionCookie::keep());
        };
        match http.manager().rotate(token, reason).await? {
            Rotation::Rotated { token, .. } => Ok(cookie.set(&token)),
            _ => Ok(SessionCookie::keep()),
        }
    }

    fn refuse_cross_origin(&self) -> Result<(), Problem> {
        match same_origin(self.head.head()) {
            SameOrigin::Refuted => Err(Problem::cross_origin()),
            SameOrigin::Proven | SameOrigin::Unproven => Ok(()),
        }
    }
}
