//! Extractors and what they answer when they refuse.

use std::future::{Ready, ready};
use std::ops::Deref;
use std::time::Duration;

use actix_web::body::{BoxBody, EitherBody};
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{
    CustomizeResponder, FromRequest, HttpMessage, HttpRequest, HttpResponse, Responder,
    ResponseError,
};
use serde::de::DeserializeOwned;
use session_engine::{RotateReason, SignedIn};
use session_http::{Auth, Head, NewSession, OwnedHead, Problem, RequestSession};

use crate::convert::{header, read_head, response};

/// The session that the request belongs to; 401 without one, 503 while nothing can be said about
/// the token. A browser that asks for a page is sent to sign in and back.
///
/// `Option<CurrentSession>` takes an outage of the store for "nobody is signed in", as actix-web turns
/// every refusal of an extractor into `None`. Use [`MaybeSession`] instead.
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

impl FromRequest for CurrentSession {
    type Error = Rejection;
    type Future = Ready<Result<Self, Rejection>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(found(request, RequestSession::session).map(Self))
    }
}

impl FromRequest for MaybeSession {
    type Error = Rejection;
    type Future = Ready<Result<Self, Rejection>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(found(request, |session, _| session.maybe_session()).map(Self))
    }
}

impl<const SECONDS: u64> FromRequest for Fresh<SECONDS> {
    type Error = Rejection;
    type Future = Ready<Result<Self, Rejection>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let within = Duration::from_secs(SECONDS);
        ready(found(request, |session, head| session.fresh(head, within)).map(Self))
    }
}

impl<T: DeserializeOwned> FromRequest for Claims<T> {
    type Error = Rejection;
    type Future = Ready<Result<Self, Rejection>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(found(request, RequestSession::claims).map(Self))
    }
}

impl FromRequest for SessionAuth {
    type Error = Rejection;
    type Future = Ready<Result<Self, Rejection>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(found(request, |session, head| Ok(session.auth(head))).map(Self))
    }
}

/// Finds something in what the middleware left.
pub(crate) fn found<T>(
    request: &HttpRequest,
    find: impl FnOnce(&RequestSession, Head<'_>) -> Result<T, session_http::Rejection>,
) -> Result<T, Rejection> {
    let extensions = request.extensions();
    let session = extensions.get::<RequestSession>().ok_or(Problem::misconfigured())?;
    let found = match extensions.get::<OwnedHead>() {
        Some(head) => find(session, head.head()),
        None => find(session, read_head(request.head())?.head()),
    };
    Ok(found?)
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

/// The cookie of a response: put it [on](Self::on) one, or return it for a response without a body.
#[derive(Clone, Debug)]
#[must_use = "the browser learns of it only through a response"]
pub struct SessionCookie(pub session_http::SessionCookie);

impl SessionCookie {
    /// The response with the cookie. Its other cookies stay, its `Cache-Control` is replaced.
    ///
    /// ```
    /// use actix_web::{Responder, web::Redirect};
    /// use session_actix::{Rejection, SessionAuth};
    ///
    /// async fn logout(auth: SessionAuth) -> Result<impl Responder, Rejection> {
    ///     let cookie = auth.sign_out().await?;
    ///     Ok(cookie.on(Redirect::to("/").see_other()))
    /// }
    /// ```
    pub fn on<R: Responder>(&self, responder: R) -> CustomizeResponder<R> {
        let pair = |(name, value)| header((&name, &value));
        let replace = self.0.replace().and_then(pair).into_iter();
        let append = self.0.append().and_then(pair).into_iter();
        let responder = replace.fold(responder.customize(), CustomizeResponder::insert_header);
        append.fold(responder, CustomizeResponder::append_header)
    }
}

impl Responder for SessionCookie {
    type Body = EitherBody<BoxBody>;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse<Self::Body> {
        self.on(HttpResponse::Ok()).respond_to(request)
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

impl ResponseError for Rejection {
    fn status_code(&self) -> StatusCode {
        self.error_response().status()
    }

    fn error_response(&self) -> HttpResponse {
        response(self.0.clone().into_response())
    }
}
