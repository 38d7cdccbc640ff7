//! A guard around routes.

use std::future::{Ready, ready};

use actix_web::Error;
use actix_web::body::EitherBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use futures_util::future::{LocalBoxFuture, TryFutureExt};
use session_http::RequireSession;

use crate::extract::found;

/// A middleware that lets only those requests pass that a [`RequireSession`] allows, for the `wrap` of
/// a scope, a resource or a route.
///
/// ```
/// use actix_web::web;
/// use session_actix::{Require, RequireSession};
///
/// let admin = RequireSession::signed_in().claims(|claims| claims["admin"] == true);
/// let scope = web::scope("/admin").wrap(Require(admin));
/// ```
#[derive(Clone, Debug)]
pub struct Require(pub RequireSession);

impl<S, B> Transform<S, ServiceRequest> for Require
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    S::Future: 'static,
    B: 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = Guarded<S>;
    type InitError = ();
    type Future = Ready<Result<Guarded<S>, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(Guarded { inner, require: self.0.clone() }))
    }
}

/// The service that [`Require`] makes.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    require: RequireSession,
}

impl<S, B> Service<ServiceRequest> for Guarded<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    S::Future: 'static,
    B: 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let allowed =
            found(request.request(), |session, head| session.require(head, &self.require));
        if let Err(rejection) = allowed {
            return Box::pin(ready(Ok(request.error_response(rejection).map_into_right_body())));
        }
        Box::pin(self.inner.call(request).map_ok(ServiceResponse::map_into_left_body))
    }
}
