//! Extractors and what they answer when they refuse.

use std::net::IpAddr;
use std::ops::Deref;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use http::HeaderMap;
use http::request::Parts;
use session_engine::{RotateReason, SignedIn};
use session_http::{HttpSessions, Identity, NewSession, Problem, SameOrigin, api, same_origin};

use crate::layer::{Found, peer};

/// The session that the request belongs to; 401 without one. `Option<CurrentSession>` takes
/// anonymous requests too. Both answer 503 while nothing can be said about the token.
#[derive(Clone, Debug)]
pub struct CurrentSession(pub session_engine::CurrentSession);

impl Deref for CurrentSession {
    type Target = session_engine::CurrentSession;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for CurrentSession {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        session(parts)?.ok_or(Rejection(Problem::unauthorized()))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for CurrentSession {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Rejection> {
        session(parts)
    }
}

/// A session whose user has proved who they are within the last `SECONDS`; 401 with
/// `urn:session-kit:reauthentication-required` otherwise.
///
/// Ask for the password again, then call [`SessionAuth::rotate`] with
/// [`RotateReason::Reauthenticated`].
#[derive(Clone, Debug)]
pub struct Fresh<const SECONDS: u64>(pub CurrentSession);

impl<S: Sync, const SECONDS: u64> FromRequestParts<S> for Fresh<SECONDS> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        let session = session(parts)?.ok_or(Rejection(Problem::unauthorized()))?;
        let age = found(parts)?.http.manager().now().since(session.authenticated_at);
        if age > Duration::from_secs(SECONDS) {
            return Err(Rejection(Problem::reauthentication_required()));
        }
        Ok(Self(session))
    }
}

/// Signs in, signs out and rotates for whoever sent the request.
///
/// Each answers a [`SessionCookie`] that has to go out with the response. A request that a page
/// of another origin made is refused with 403.
#[derive(Clone, Debug)]
pub struct SessionAuth {
    http: HttpSessions,
    identity: Identity,
    headers: HeaderMap,
    peer: Option<IpAddr>,
    origin: SameOrigin,
}

impl<S: Sync> FromRequestParts<S> for SessionAuth {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        let Found { http, identity } = found(parts)?.clone();
        let authority = parts.uri.authority().map(|authority| authority.as_str());
        Ok(Self {
            http,
            identity,
            headers: parts.headers.clone(),
            peer: peer(&parts.extensions),
            origin: same_origin(&parts.headers, authority),
        })
    }
}

impl SessionAuth {
    /// The session that the request belongs to, if there is one.
    pub fn session(&self) -> Option<CurrentSession> {
        self.identity.session().cloned().map(CurrentSession)
    }

    /// Begins a session; see [`HttpSessions::sign_in`].
    ///
    /// # Errors
    /// 409 when a policy refuses it, 503 when the store is away, 403 across origins.
    pub async fn sign_in(&self, new: NewSession) -> Result<(SignedIn, SessionCookie), Rejection> {
        self.refuse_cross_origin()?;
        let current = self.identity.session();
        let (signed_in, cookie) = self.http.sign_in(&self.headers, self.peer, current, new).await?;
        Ok((signed_in, SessionCookie(cookie)))
    }

    /// Ends the session, if there is one, and takes the cookie back.
    ///
    /// # Errors
    /// 401 without a session, 503 when the store is away, 403 across origins.
    pub async fn sign_out(&self) -> Result<SessionCookie, Rejection> {
        self.refuse_cross_origin()?;
        match &self.identity {
            Identity::Session(session) => Ok(SessionCookie(self.http.sign_out(session).await?)),
            Identity::Unavailable => Err(Rejection(Problem::unavailable())),
            _ => Err(Rejection(Problem::unauthorized())),
        }
    }

    /// Replaces the token; see [`HttpSessions::rotate`].
    ///
    /// # Errors
    /// 503 when the store is away, 403 across origins.
    pub async fn rotate(&self, reason: RotateReason) -> Result<SessionCookie, Rejection> {
        self.refuse_cross_origin()?;
        Ok(SessionCookie(self.http.rotate(&self.headers, reason).await?))
    }

    fn refuse_cross_origin(&self) -> Result<(), Rejection> {
        match self.origin {
            SameOrigin::Refuted => Err(Rejection(Problem::cross_origin())),
            SameOrigin::Proven | SameOrigin::Unproven => Ok(()),
        }
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

/// A refusal, answered as `application/problem+json`. Never with a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection(pub Problem);

impl<E: Into<Problem>> From<E> for Rejection {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        api::problem_response(&self.0).map(Body::new)
    }
}

fn found(parts: &Parts) -> Result<&Found, Rejection> {
    parts.extensions.get().ok_or(Rejection(Problem::misconfigured()))
}

fn session(parts: &Parts) -> Result<Option<CurrentSession>, Rejection> {
    match &found(parts)?.identity {
        Identity::Session(session) => Ok(Some(CurrentSession(session.clone()))),
        Identity::Unavailable => Err(Rejection(Problem::unavailable())),
        _ => Ok(None),
    }
}
