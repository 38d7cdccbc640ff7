//! Extractors and what they answer when they refuse.

use std::future::{Ready, ready};

use actix_web::body::{BoxBody, EitherBody};
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::{
    CustomizeResponder, FromRequest, HttpMessage, HttpRequest, HttpResponse, Responder,
    ResponseError,
};
use serde::de::DeserializeOwned;
use session_http::{Head, OwnedHead, Problem, RequestSession};

use crate::convert::{header, read_head, response, status};

session_http::adapter_types!();

/// What the middleware found is there at once.
macro_rules! extract {
    ([$($generics:tt)*] $name:ty, $find:expr) => {
        impl<$($generics)*> FromRequest for $name {
            type Error = Rejection;
            type Future = Ready<Result<Self, Rejection>>;

            fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
                ready(found(request, $find).map(Self))
            }
        }
    };
}

extract!([] CurrentSession, RequestSession::session);
extract!([] MaybeSession, |session, _| session.maybe_session());
extract!([] Ended, |session, _| Ok(session.ended()));
extract!([const SECONDS: u64] Fresh<SECONDS>, |session, head| session.fresh(head, Self::WITHIN));
extract!([T: DeserializeOwned] Claims<T>, RequestSession::claims);
extract!([] SameOrigin, RequestSession::same_origin);
extract!([] Live, RequestSession::live);
extract!([] SessionAuth, |session, head| Ok(session.auth(head)));

/// Finds something in what the middleware left.
pub(crate) fn found<T>(
    request: &HttpRequest,
    find: impl FnOnce(&RequestSession, Head<'_>) -> Result<T, session_http::Rejection>,
) -> Result<T, Rejection> {
    let extensions = request.extensions();
    let session = extensions.get::<RequestSession>().ok_or(Problem::misconfigured())?;
    let found = match extensions.get::<OwnedHead>() {
        Some(head) => find(session, head.head()),
        None => find(session, read_head(request.head(), false)?.head()),
    };
    Ok(found?)
}

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
        let responder = replace.fold(responder.customize(), CustomizeResponder::insert_header);
        self.0.append().filter_map(pair).fold(responder, CustomizeResponder::append_header)
    }
}

impl Responder for SessionCookie {
    type Body = EitherBody<BoxBody>;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse<Self::Body> {
        self.on(HttpResponse::Ok()).respond_to(request)
    }
}

impl ResponseError for Rejection {
    fn status_code(&self) -> StatusCode {
        status(self.0.status())
    }

    fn error_response(&self) -> HttpResponse {
        response(self.0.clone().into_response(), ())
    }
}
