//! Finds out whose request it is.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Extensions, Request, Response};
use pin_project_lite::pin_project;
use session_http::{
    CookieHeaders, Head, HttpSessions, Identified, Peer, PrivateHeaders, Renewal, RequestSession,
    mark_sensitive,
};
use tower_layer::Layer;
use tower_service::Service;

/// Puts a [`RequestSession`] into the request's extensions, and marks the responses to requests that
/// had a session as private.
#[derive(Clone, Debug)]
pub struct SessionLayer {
    http: HttpSessions,
    find_peer: FindPeer,
}

/// Finds where the connection comes from in the extensions of a request.
pub type FindPeer = fn(&Extensions) -> Option<Peer>;

impl SessionLayer {
    /// A layer over these rules. A [`Peer`] or a [`SocketAddr`] in the request's extensions says where
    /// the connection comes from.
    pub const fn new(http: HttpSessions) -> Self {
        Self { http, find_peer }
    }

    /// The same for a server that leaves the address as a type of its own.
    #[must_use]
    pub const fn with_peer(mut self, find_peer: FindPeer) -> Self {
        self.find_peer = find_peer;
        self
    }
}

/// What [`SessionLayer::new`] looks for: a [`Peer`], or a [`SocketAddr`].
pub fn find_peer(extensions: &Extensions) -> Option<Peer> {
    let address = || extensions.get::<SocketAddr>().copied().map(Peer::from);
    extensions.get::<Peer>().copied().or_else(address)
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> SessionService<S> {
        SessionService { inner, layer: self.clone() }
    }
}

/// The service that [`SessionLayer`] makes.
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    inner: S,
    layer: SessionLayer,
}

impl<S, B, R> Service<Request<B>> for SessionService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, R>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, B, R> {
        let http = self.layer.http.clone();
        let peer = (self.layer.find_peer)(request.extensions());
        let head = Head::new(request.method(), request.uri(), request.headers());
        match http.identify(head, peer) {
            Identified::Now(identity) => {
                let found = RequestSession::new(http, identity, peer);
                ResponseFuture { step: answer(&mut self.inner, request, found) }
            }
            Identified::Pending(pending) => {
                // The service that was polled ready is the one to call.
                let next = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, next);
                let asking =
                    Box::pin(
                        async move { RequestSession::new(http, pending.resolve().await, peer) },
                    );
                ResponseFuture { step: Step::Asking { asking, waiting: Some((inner, request)) } }
            }
        }
    }
}

fn answer<S, B, R>(
    inner: &mut S,
    mut request: Request<B>,
    found: RequestSession,
) -> Step<S, B, R, S::Future>
where
    S: Service<Request<B>>,
{
    let head = Head::new(request.method(), request.uri(), request.headers());
    let (private, renewal) = (found.private_headers(), found.renewal(head));
    mark_sensitive(request.headers_mut());
    request.extensions_mut().insert(found);
    Step::Answering { answer: inner.call(request), private, renewal }
}

/// Renews the token, where the response has no newer one.
fn renewing(renewal: Option<Renewal>, response: &Response<impl Sized>) -> Option<Renewing> {
    let renewal = renewal.filter(|renewal| !renewal.is_overtaken_by(response.headers()))?;
    Some(Box::pin(renewal.renew()))
}

type Renewing = Pin<Box<dyn Future<Output = CookieHeaders> + Send>>;

pin_project! {
    /// Calls the inner service at once or, where the store has to be asked, afterwards.
    pub struct ResponseFuture<S, B, R>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        step: Step<S, B, R, S::Future>,
    }
}

impl<S: Service<Request<B>>, B, R> std::fmt::Debug for ResponseFuture<S, B, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<S, B, R, F> {
        Asking {
            asking: Pin<Box<dyn Future<Output = RequestSession> + Send>>,
            waiting: Option<(S, Request<B>)>,
        },
        Answering { #[pin] answer: F, private: PrivateHeaders, renewal: Option<Renewal> },
        Renewing { renewing: Renewing, response: Option<Response<R>> },
    }
}

impl<S, B, R> Future for ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            let next = match step.as_mut().project() {
                StepProjection::Answering { answer, private, renewal } => {
                    let mut response = ready!(answer.poll(context))?;
                    private.apply(response.headers_mut());
                    match self::renewing(renewal.take(), &response) {
                        Some(renewing) => Step::Renewing { renewing, response: Some(response) },
                        None => return Poll::Ready(Ok(response)),
                    }
                }
                StepProjection::Renewing { renewing, response } => {
                    let cookie = ready!(renewing.as_mut().poll(context));
                    let Some(mut response) = response.take() else { return Poll::Pending };
                    cookie.apply(response.headers_mut());
                    return Poll::Ready(Ok(response));
                }
                StepProjection::Asking { asking, waiting } => {
                    let found = ready!(asking.as_mut().poll(context));
                    let Some((mut inner, request)) = waiting.take() else {
                        return Poll::Pending;
                    };
                    self::answer(&mut inner, request, found)
                }
            };
            step.set(next);
        }
    }
}
