//! Finds out whose request it is.

use poem::web::RemoteAddr;
use poem::{Addr, Endpoint, Middleware, Request, Response};
use session_http::{HttpSessions, Peer, RequestSession, mark_sensitive};

use crate::extract::head;

/// Leaves a [`RequestSession`] in the request's data, and marks the responses to requests that had a
/// session as private.
///
/// Errors of the endpoint become responses here, so that they are marked too: put
/// [`catch_error`](poem::EndpointExt::catch_error) inside of it.
#[derive(Clone, Debug)]
pub struct SessionMiddleware {
    http: HttpSessions,
}

impl SessionMiddleware {
    pub(crate) const fn new(http: HttpSessions) -> Self {
        Self { http }
    }
}

impl<E: Endpoint> Middleware<E> for SessionMiddleware {
    type Output = SessionEndpoint<E>;

    fn transform(&self, inner: E) -> SessionEndpoint<E> {
        SessionEndpoint { inner, http: self.http.clone() }
    }
}

/// The endpoint that [`SessionMiddleware`] makes.
#[derive(Clone, Debug)]
pub struct SessionEndpoint<E> {
    inner: E,
    http: HttpSessions,
}

impl<E: Endpoint> Endpoint for SessionEndpoint<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let peer = peer(request.remote_addr());
        let identified = self.http.identify(head(&request), peer);
        let session = RequestSession::new(self.http.clone(), identified.resolve().await, peer);
        let (private, renewal) = (session.private_headers(), session.renewal(head(&request)));
        mark_sensitive(request.headers_mut());
        request.set_data(session);
        let mut response = self.inner.get_response(request).await;
        private.apply(response.headers_mut());
        if let Some(renewal) = renewal.filter(|it| !it.is_overtaken_by(response.headers())) {
            renewal.renew().await.apply(response.headers_mut());
        }
        Ok(response)
    }
}

fn peer(address: &RemoteAddr) -> Option<Peer> {
    match &address.0 {
        Addr::SocketAddr(address) => Some((*address).into()),
        #[cfg(unix)]
        Addr::Unix(_) => Some(Peer::Unix),
        Addr::Custom(..) => None,
    }
}
