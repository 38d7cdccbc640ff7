//! A guard around endpoints.

use poem::{Endpoint, Middleware, Request};
use session_http::RequireSession;

use crate::extract::{head, of};
use crate::response::Rejection;

/// A middleware that lets only those requests pass that a [`RequireSession`] allows, for one endpoint
/// or a whole route: `get(vault).with(Require(RequireSession::signed_in()))`.
#[derive(Clone, Debug)]
pub struct Require(pub RequireSession);

impl<E: Endpoint> Middleware<E> for Require {
    type Output = Guarded<E>;

    fn transform(&self, inner: E) -> Guarded<E> {
        Guarded { inner, require: self.0.clone() }
    }
}

/// The endpoint that [`Require`] makes.
#[derive(Clone, Debug)]
pub struct Guarded<E> {
    inner: E,
    require: RequireSession,
}

impl<E: Endpoint> Endpoint for Guarded<E> {
    type Output = E::Output;

    async fn call(&self, request: Request) -> poem::Result<E::Output> {
        of(&request)?.require(head(&request), &self.require).map_err(Rejection)?;
        self.inner.call(request).await
    }
}
