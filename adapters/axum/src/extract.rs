//! Extractors and what they answer when they refuse.

use std::ops::Deref;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, OriginalUri};
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use http::request::Parts;
use serde::de::DeserializeOwned;
use session_engine::{RotateReason, SignedIn};
use session_http::{Auth, Head, NewSession, Problem, RequestSession};

/// The session that the request belongs to; 401 without one, 503 while nothing can be said about
/// the token. A browser that asks for a page is sent to sign in and back.
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

impl<S: Sync> FromRequestParts<S> for CurrentSession {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        Ok(Self(RequestSession::of(&parts.extensions)?.session(head(parts))?))
    }
}

impl<S: Sync> FromRequestParts<S> for MaybeSession {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        Ok(Self(RequestSession::of(&parts.extensions)?.maybe_session()?))
    }
}

impl<S: Sync, const SECONDS: u64> FromRequestParts<S> for Fresh<SECONDS> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        let within = Duration::from_secs(SECONDS);
        Ok(Self(RequestSession::of(&parts.extensions)?.fresh(head(parts), within)?))
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Claims<T> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        Ok(Self(RequestSession::of(&parts.extensions)?.claims(head(parts))?))
    }
}

impl<S: Sync> FromRequestParts<S> for SessionAuth {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        Ok(Self(RequestSession::of(&parts.extensions)?.auth(head(parts))))
    }
}

/// The head with the URI as the client sent it, wherever the route is nested.
pub(crate) fn head(parts: &Parts) -> Head<'_> {
    let original = parts.extensions.get::<OriginalUri>();
    let uri = original.map_or(&parts.uri, |OriginalUri(uri)| uri);
    Head::new(&parts.method, uri, &parts.headers)
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

/// The cookie of a response: put it beside the body, as in `(cookie, Redirect::to("/"))`.
#[derive(Clone, Debug)]
#[must_use = "the browser learns of it only through a response"]
pub struct SessionCookie(pub session_http::SessionCookie);

impl IntoResponseParts for SessionCookie {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        self.0.apply(parts.headers_mut());
        Ok(parts)
    }
}

impl IntoResponse for SessionCookie {
    fn into_response(self) -> Response {
        (self, ()).into_response()
    }
}

/// A refusal, answered as `application/problem+json` or, for a browser that asks for a page, with the
/// way to sign in. Never with a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection(pub session_http::Rejection);

impl<E: Into<session_http::Rejection>> From<E> for Rejection {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Rejection {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        self.0.into_response().map(Body::new)
    }
}
