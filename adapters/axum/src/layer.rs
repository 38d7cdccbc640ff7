//! Finds out whose request it is.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::ConnectInfo;
use http::{Extensions, Request};
use pin_project_lite::pin_project;
use session_http::{HttpSessions, Identified, Identity, PendingIdentity};
use tower::{Layer, Service};

/// Puts the request's [`Identity`] where the extractors find it.
#[derive(Clone, Debug)]
pub struct SessionLayer {
    http: HttpSessions,
}

impl SessionLayer {
    /// A layer over these rules.
    pub const fn new(http: HttpSessions) -> Self {
        Self { http }
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> SessionService<S> {
        SessionService { inner, http: self.http.clone() }
    }
}

/// The service that [`SessionLayer`] makes.
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    inner: S,
    http: HttpSessions,
}

/// What the layer leaves for the extractors.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) http: HttpSessions,
    pub(crate) identity: Identity,
}

impl<S, B> Service<Request<B>> for SessionService<S>
where
    S: Service<Request<B>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> ResponseFuture<S, B> {
        let http = self.http.clone();
        let peer = peer(request.extensions());
        match http.identify(request.method(), request.headers(), peer) {
            Identified::Now(identity) => {
                request.extensions_mut().insert(Found { http, identity });
                ResponseFuture { step: Step::Answering { answer: self.inner.call(request) } }
            }
            Identified::Pending(pending) => {
                // The service that was polled ready is the one to call.
                let next = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, next);
                let asking = Box::pin(ask(http, pending));
                ResponseFuture { step: Step::Asking { asking, waiting: Some((inner, request)) } }
            }
        }
    }
}

impl<S: Service<Request<B>>, B> std::fmt::Debug for ResponseFuture<S, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

pin_project! {
    /// Calls the inner service at once or, where the store has to be asked, afterwards.
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        step: Step<S, B, S::Future>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<S, B, F> {
        Asking { asking: Pin<Box<dyn Future<Output = Found> + Send>>, waiting: Option<(S, Request<B>)> },
        Answering { #[pin] answer: F },
    }
}

impl<S, B> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut step = self.project().step;
        loop {
            let answer = match step.as_mut().project() {
                StepProjection::Answering { answer } => return answer.poll(context),
                StepProjection::Asking { asking, waiting } => {
                    let found = ready!(asking.as_mut().poll(context));
                    let Some((mut inner, mut request)) = waiting.take() else {
                        return Poll::Pending;
                    };
                    request.extensions_mut().insert(found);
                    inner.call(request)
                }
            };
            step.set(Step::Answering { answer });
        }
    }
}

async fn ask(http: HttpSessions, pending: PendingIdentity) -> Found {
    let identity = pending.resolve().await;
    Found { http, identity }
}

pub(crate) fn peer(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip())
}
