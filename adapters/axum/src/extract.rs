//! Extractors and what they answer when they refuse.

use axum::body::Body;
use axum::extract::{FromRequestParts, OriginalUri};
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use http::request::Parts;
use serde::de::DeserializeOwned;
use session_http::{Head, RequestSession};

session_http::adapter_types!();

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

impl<S: Sync> FromRequestParts<S> for Ended {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        Ok(Self(RequestSession::of(&parts.extensions)?.ended()))
    }
}

impl<S: Sync, const SECONDS: u64> FromRequestParts<S> for Fresh<SECONDS> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        Ok(Self(RequestSession::of(&parts.extensions)?.fresh(head(parts), Self::WITHIN)?))
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Claims<T> {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        Ok(Self(RequestSession::of(&parts.extensions)?.claims(head(parts))?))
    }
}

impl<S: Sync> FromRequestParts<S> for SameOrigin {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        Ok(Self(RequestSession::of(&parts.extensions)?.same_origin(head(parts))?))
    }
}

impl<S: Sync> FromRequestParts<S> for Live {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        Ok(Self(RequestSession::of(&parts.extensions)?.live(head(parts))?))
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

/// Beside the body, as in `(cookie, Redirect::to("/"))`.
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

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        self.0.into_response().map(Body::new)
    }
}
