//! A guard around routes.

use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::future::{Either, Ready, ready};
use session_http::{RequestSession, RequireSession};
use tower_layer::Layer;
use tower_service::Service;

use crate::extract::{Rejection, head};

/// A layer that lets only those requests pass that a [`RequireSession`] allows, for
/// [`Router::route_layer`](axum::Router::route_layer).
#[derive(Clone, Debug)]
pub struct Require(pub RequireSession);

impl<S> Layer<S> for Require {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, require: self.0.clone() }
    }
}

/// The service that [`Require`] makes.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    require: RequireSession,
}

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (parts, body) = request.into_parts();
        let session = RequestSession::of(&parts.extensions);
        match session.and_then(|session| session.require(head(&parts), &self.require)) {
            Ok(()) => Either::Left(self.inner.call(Request::from_parts(parts, body))),
            Err(rejection) => Either::Right(ready(Ok(Rejection(rejection).into_response()))),
        }
    }
}
