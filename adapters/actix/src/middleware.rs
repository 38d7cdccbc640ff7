//! Finds out whose request it is.

use std::future::{Ready, ready};
use std::rc::Rc;

use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::http::header::{CACHE_CONTROL, HeaderMap, SET_COOKIE};
use actix_web::{Error, HttpMessage};
use futures_util::future::LocalBoxFuture;
use session_http::{HttpSessions, Identity, Peer, Renewal, RequestSession};

use crate::convert::{header, mark_sensitive, read_head};
use crate::extract::Rejection;

/// Puts a [`RequestSession`] into the request's extensions, and marks the responses to requests that
/// had a session as private. Made by [`Sessions::middleware`](crate::Sessions::middleware).
#[derive(Clone, Debug)]
pub struct SessionMiddleware(pub(crate) HttpSessions);

impl<S, B> Transform<S, ServiceRequest> for SessionMiddleware
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Transform = SessionService<S>;
    type InitError = ();
    type Future = Ready<Result<SessionService<S>, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(SessionService { inner: Rc::new(service), http: self.0.clone() }))
    }
}

/// The service that [`SessionMiddleware`] makes.
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    inner: Rc<S>,
    http: HttpSessions,
}

impl<S, B> Service<ServiceRequest> for SessionService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<ServiceResponse<B>, Error>>;

    forward_ready!(inner);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let (inner, http) = (Rc::clone(&self.inner), self.http.clone());
        Box::pin(async move {
            let (session, renewal) = identify(http, &request).await?;
            mark_sensitive(request.headers_mut());
            let private = session.private_headers();
            request.extensions_mut().insert(session);
            let mut response = inner.call(request).await?;
            let headers = response.headers_mut();
            let private = private.unless(headers.contains_key(CACHE_CONTROL)).iter();
            for (name, value) in private.filter_map(|(name, value)| header((name, value))) {
                headers.append(name, value);
            }
            renew(renewal, headers).await;
            Ok(response)
        })
    }
}

async fn renew(renewal: Option<Renewal>, headers: &mut HeaderMap) {
    let overtaken = |renewal: &Renewal| {
        renewal.is_overtaken(headers.get_all(SET_COOKIE).map(|cookie| cookie.as_bytes()))
    };
    let Some(renewal) = renewal.filter(|renewal| !overtaken(renewal)) else { return };
    let cookie = renewal.renew().await;
    let pair = |(name, value)| header((&name, &value));
    if let Some((name, value)) = cookie.replace().and_then(pair) {
        headers.insert(name, value);
    }
    for (name, value) in cookie.append().filter_map(pair) {
        headers.append(name, value);
    }
}

async fn identify(
    http: HttpSessions,
    request: &ServiceRequest,
) -> Result<(RequestSession, Option<Renewal>), Rejection> {
    let peer = Some(request.peer_addr().map_or(Peer::Unix, Peer::from));
    if !http.may_identify(|name| request.headers().contains_key(name)) {
        return Ok((RequestSession::new(http, Identity::Anonymous, peer), None));
    }
    let head = read_head(request.head(), http.has_voucher())?;
    let identity = http.identify(head.head(), peer).resolve().await;
    let session = RequestSession::new(http, identity, peer);
    let renewal = session.renewal(head.head());
    // For the extractors, which would have to convert it again.
    request.extensions_mut().insert(head);
    Ok((session, renewal))
}
