//! Extractors.

use poem::{FromRequest, Request, RequestBody};
use serde::de::DeserializeOwned;
use session_http::{Head, RequestSession};

session_http::adapter_types!();

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

impl<'a> FromRequest<'a> for Ended {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(of(request)?.ended()))
    }
}

impl<'a, const SECONDS: u64> FromRequest<'a> for Fresh<SECONDS> {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(of(request)?.fresh(head(request), Self::WITHIN).map_err(Rejection)?))
    }
}

impl<'a, T: DeserializeOwned> FromRequest<'a> for Claims<T> {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(of(request)?.claims(head(request)).map_err(Rejection)?))
    }
}

impl<'a> FromRequest<'a> for SameOrigin {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(of(request)?.same_origin(head(request)).map_err(Rejection)?))
    }
}

impl<'a> FromRequest<'a> for Live {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(of(request)?.live(head(request)).map_err(Rejection)?))
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
