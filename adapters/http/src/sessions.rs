//! What an adapter calls: who is this request, sign in, rotate, sign out.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use session_core::{ClientId, DeviceInfo, DeviceKind, ExtraData, InvalidField, UserKey};
use session_engine::{
    Access, Check, CurrentSession, Error, Lookup, RotateReason, Rotation, SessionManager, SignIn,
    SignedIn, Verdict,
};

use crate::client_ip::ClientIpOptions;
use crate::cookie::{CookieOptions, SessionCookie};
use crate::device::device;
use crate::guard::{AdminGuard, DenyAll};

/// The HTTP rules of a node; cheap to clone.
#[derive(Clone)]
pub struct HttpSessions {
    inner: Arc<Inner>,
}

struct Inner {
    manager: SessionManager,
    options: HttpOptions,
    guard: Arc<dyn AdminGuard>,
}

/// Options of the HTTP layer, readable with serde.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpOptions {
    /// The cookie that carries the token.
    pub cookie: CookieOptions,
    /// How the client's address is found.
    pub client_ip: ClientIpOptions,
    /// Where the API and the pages live. Default `/sessions`.
    pub prefix: String,
    /// Where the pages send a visitor who is not signed in. Default nowhere: they answer 401.
    pub sign_in_path: Option<String>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            cookie: CookieOptions::default(),
            client_ip: ClientIpOptions::default(),
            prefix: "/sessions".to_owned(),
            sign_in_path: None,
        }
    }
}

impl HttpOptions {
    /// Checks the prefix and the cookie's name.
    ///
    /// # Errors
    /// [`InvalidField`] naming the option.
    pub fn validate(&self) -> Result<(), InvalidField> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
        let prefix = self.prefix.strip_prefix('/').filter(|rest| !rest.is_empty());
        if !prefix.is_some_and(|rest| !rest.ends_with('/') && rest.chars().all(plain)) {
            let expected = "a plain path that begins with a slash and ends without one";
            return Err(InvalidField::malformed("prefix", expected));
        }
        self.cookie.validate()
    }
}

/// Whom a request belongs to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Identity {
    /// To nobody.
    Anonymous,
    /// To a session.
    Session(CurrentSession),
    /// It carries a token of which nothing can be said right now: answer 503, never 401.
    Unavailable,
}

impl Identity {
    /// The session, if there is one.
    pub const fn session(&self) -> Option<&CurrentSession> {
        match self {
            Self::Session(session) => Some(session),
            Self::Anonymous | Self::Unavailable => None,
        }
    }
}

/// The answer to "whose request is this?".
#[derive(Debug)]
#[must_use = "a pending identity has to be resolved"]
pub enum Identified {
    /// Known without asking the store.
    Now(Identity),
    /// The store has to be asked.
    Pending(PendingIdentity),
}

/// An identity for which the store has to be asked.
#[derive(Debug)]
#[must_use = "a pending identity has to be resolved"]
pub struct PendingIdentity(Lookup);

impl PendingIdentity {
    /// Asks the store.
    pub async fn resolve(self) -> Identity {
        match self.0.resolve().await {
            Ok(verdict) => identity(verdict),
            Err(error) => {
                tracing::warn!(%error, "a session could not be checked");
                Identity::Unavailable
            }
        }
    }
}

/// What the application says of a sign-in; the rest is read off the request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewSession {
    /// Whose session it will be.
    pub owner: UserKey,
    /// The kind of device; by default what the `User-Agent` says.
    pub device_kind: Option<DeviceKind>,
    /// Readable text about the device; by default what the `User-Agent` says.
    pub device_info: Option<DeviceInfo>,
    /// The application that signs the user in.
    pub client_id: Option<ClientId>,
    /// The application's own data.
    pub data: Option<ExtraData>,
}

impl NewSession {
    /// A session of this user on the device that the request comes from.
    pub const fn of(owner: UserKey) -> Self {
        Self { owner, device_kind: None, device_info: None, client_id: None, data: None }
    }
}

impl HttpSessions {
    /// The HTTP rules over a node; nobody may administer.
    ///
    /// # Errors
    /// As [`HttpOptions::validate`].
    pub fn new(manager: SessionManager, options: HttpOptions) -> Result<Self, InvalidField> {
        Self::with_guard(manager, options, DenyAll)
    }

    /// The HTTP rules over a node, with the application's word on who may administer.
    ///
    /// # Errors
    /// As [`HttpOptions::validate`].
    pub fn with_guard(
        manager: SessionManager,
        options: HttpOptions,
        guard: impl AdminGuard,
    ) -> Result<Self, InvalidField> {
        options.validate()?;
        Ok(Self { inner: Arc::new(Inner { manager, options, guard: Arc::new(guard) }) })
    }

    /// The node.
    pub fn manager(&self) -> &SessionManager {
        &self.inner.manager
    }

    /// The options.
    pub fn options(&self) -> &HttpOptions {
        &self.inner.options
    }

    pub(crate) fn guard(&self) -> &dyn AdminGuard {
        self.inner.guard.as_ref()
    }

    /// Whose request is this? Counts as an access of the session, unless the request is a
    /// prefetch or an `OPTIONS` request: those are not the user's doing.
    pub fn identify(
        &self,
        method: &Method,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Identified {
        let Some(token) = self.inner.options.cookie.token(headers) else {
            return Identified::Now(Identity::Anonymous);
        };
        let access = if is_activity(method, headers) {
            Access::from_ip(self.client_ip(headers, peer))
        } else {
            Access::passive()
        };
        match self.inner.manager.check(token, access) {
            Check::Answered(verdict) => Identified::Now(identity(verdict)),
            Check::NotCached(lookup) => Identified::Pending(PendingIdentity(lookup)),
        }
    }

    /// Begins a session for whoever sent this request. The session that the same browser holds
    /// is replaced if it is the same user's, and signed out otherwise.
    ///
    /// # Errors
    /// As [`SessionManager::sign_in`].
    pub async fn sign_in(
        &self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
        current: Option<&CurrentSession>,
        new: NewSession,
    ) -> Result<(SignedIn, SessionCookie), Error> {
        let (same, other) = match current {
            Some(current) if current.owner == new.owner => (Some(current.id), None),
            current => (None, current),
        };
        let (device_kind, device_info) = device(headers);
        let mut request = SignIn::new(new.owner);
        request.device_kind = new.device_kind.unwrap_or(device_kind);
        request.device_info = new.device_info.or(device_info);
        request.client_id = new.client_id;
        request.data = new.data;
        request.ip = self.client_ip(headers, peer);
        request.replaces = same;
        let signed_in = self.inner.manager.sign_in(request).await?;
        if let Some(other) = other {
            self.inner.manager.sign_out(other).await?;
        }
        let cookie = self.inner.options.cookie.set(&signed_in.token);
        Ok((signed_in, cookie))
    }

    /// Ends the session and takes the cookie back.
    ///
    /// # Errors
    /// As [`SessionManager::sign_out`].
    pub async fn sign_out(&self, current: &CurrentSession) -> Result<SessionCookie, Error> {
        self.inner.manager.sign_out(current).await?;
        Ok(self.inner.options.cookie.remove())
    }

    /// Replaces the token that the request carries. Where a request beside this one has just
    /// done so, or the token is worth nothing, the browser keeps the cookie it has.
    ///
    /// # Errors
    /// As [`SessionManager::rotate`].
    pub async fn rotate(
        &self,
        headers: &HeaderMap,
        reason: RotateReason,
    ) -> Result<SessionCookie, Error> {
        let Some(token) = self.inner.options.cookie.token(headers) else {
            return Ok(SessionCookie::keep());
        };
        match self.inner.manager.rotate(token, reason).await? {
            Rotation::Rotated { token, .. } => Ok(self.inner.options.cookie.set(&token)),
            _ => Ok(SessionCookie::keep()),
        }
    }

    /// The address that the request came from.
    pub fn client_ip(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Option<IpAddr> {
        self.inner.options.client_ip.client_ip(headers, peer)
    }
}

impl std::fmt::Debug for HttpSessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpSessions").field("options", self.options()).finish_non_exhaustive()
    }
}

fn identity(verdict: Verdict) -> Identity {
    match verdict {
        Verdict::Active(session) => Identity::Session(session),
        Verdict::Refused(_) => Identity::Anonymous,
    }
}

fn is_activity(method: &Method, headers: &HeaderMap) -> bool {
    let prefetch =
        |name| headers.get(name).is_some_and(|value| value.as_bytes().starts_with(b"prefetch"));
    method != Method::OPTIONS && !prefetch("sec-purpose") && !prefetch("purpose")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_work_are_named() {
        let of = |prefix: &str, name: &str, secure| {
            let mut options = HttpOptions { prefix: prefix.to_owned(), ..HttpOptions::default() };
            options.cookie.name = name.to_owned();
            options.cookie.secure = secure;
            options.validate().map_err(|error| error.field)
        };
        assert_eq!(of("/auth/sessions", "session", false), Ok(()));
        for prefix in ["", "/", "sessions", "/sessions/", "/{id}", "/a b"] {
            assert_eq!(of(prefix, "session", true), Err("prefix"), "{prefix}");
        }
        assert_eq!(of("/s", "", true), Err("cookie.name"));
        assert_eq!(of("/s", "a;b", true), Err("cookie.name"));
        assert_eq!(of("/s", "__Host-session", false), Err("cookie.secure"));
    }
}
