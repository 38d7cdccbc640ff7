//! Extractors.

use std::ops::Deref;
use std::time::Duration;

use poem::{FromRequest, Request, RequestBody};
use serde::de::DeserializeOwned;
use session_engine::{RotateReason, SignedIn};
use session_http::{Auth, Head, NewSession, Problem, RequestSession};

use crate::response::{Rejection, SessionCookie};

/// The session that the request belongs to; 401 without one, 503 while nothing can be said about
/// the token. A browser that asks for a page is sent to sign in and back.
///
/// Take [`MaybeSession`] where a session is optional: poem's `Option<CurrentSession>` drops every
/// error, so that in an outage of the store all users would look signed out.
#[derive(Clone, Debug)]
pub struct CurrentSession(pub session_engine::CurrentSession);

/// The session that the request belongs to, if there is one; 503 while nothing can be said about the
/// token.
#[derive(Clone, Debug)]
pub struct MaybeSession(pub Option<session_engine::CurrentSession>);

/// A session whose user has proved who they are within the last `SECONDS`; 401 with
/// `urn:session-kit:reauthentication-required` otherwise.
///
/// Ask for the password again, then call [`SessionAuth::rotate`] with
/// [`RotateReason::Reauthenticated`].
#[derive(Clone, Debug)]
pub struct Fresh<const SECONDS: u64>(pub session_engine::CurrentSession);

/// The session's claims as a type of the application; 500 when they are of another form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims<T>(pub T);

/// Signs in, signs out and rotates for the sender of the request; see [`Auth`].
#[derive(Clone, Debug)]
pub struct SessionAuth(pub Auth);

impl<'a> FromRequest<'a> for CurrentSession {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(of(request)?.session(head(request)).map_err(Rejection)?))
    }
}

impl<'a> FromRequest<'a> for MaybeSession {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(of(request)?.maybe_session().map_err(Rejection)?))
    }
}

impl<'a, const SECONDS: u64> FromRequest<'a> for Fresh<SECONDS> {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        let within = Duration::from_secs(SECONDS);
        Ok(Self(of(request)?.fresh(head(request), within).map_err(Rejection)?))
    }
}

impl<'a, T: DeserializeOwned> FromRequest<'a> for Claims<T> {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(of(request)?.claims(head(request)).map_err(Rejection)?))
    }
}

impl<'a> FromRequest<'a> for SessionAuth {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(of(request)?.auth(head(request))))
    }
}

/// What the middleware left.
pub(crate) fn of(request: &Request) -> poem::Result<&RequestSession> {
    Ok(RequestSession::of(request.extensions()).map_err(Rejection)?)
}

/// The head with the URI as the client sent it, wherever the route is nested.
pub(crate) fn head(request: &Request) -> Head<'_> {
    // A request that no server made, as in a test, has `/` as its original URI.
    let uri = match request.original_uri() {
        original if *original == *"/" => request.uri(),
        original => original,
    };
    Head::new(request.method(), uri, request.headers())
}

impl Deref for CurrentSession {
    type Target = session_engine::CurrentSession;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<const SECONDS: u64> Deref for Fresh<SECONDS> {
    type Target = session_engine::CurrentSession;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl SessionAuth {
    /// The session that the request belongs to, if there is one.
    pub const fn session(&self) -> Option<&session_engine::CurrentSession> {
        self.0.session()
    }

    /// Begins a session; see [`Auth::sign_in`].
    ///
    /// # Errors
    /// As there.
    pub async fn sign_in<N>(&self, new: N) -> Result<(SignedIn, SessionCookie), Rejection>
    where
        N: TryInto<NewSession>,
        N::Error: Into<Problem>,
    {
        let (signed_in, cookie) = self.0.sign_in(new).await?;
        Ok((signed_in, SessionCookie(cookie)))
    }

    /// Ends the session and takes back the cookie; see [`Auth::sign_out`].
    ///
    /// # Errors
    /// As there.
    pub async fn sign_out(&self) -> Result<SessionCookie, Rejection> {
        Ok(SessionCookie(self.0.sign_out().await?))
    }

    /// Replaces the token; see [`Auth::rotate`].
    ///
    /// # Errors
    /// As there.
    pub async fn rotate(&self, reason: RotateReason) -> Result<SessionCookie, Rejection> {
        Ok(SessionCookie(self.0.rotate(reason).await?))
    }
}
