//! The HTTP rules of a node.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method};
use session_core::Store;
use session_engine::clock::Clock;
use session_engine::{Access, Check, ClaimsProvider, Engine, Error, Parts, SessionManager};

use crate::guard::{AdminGuard, deny_all};
use crate::head::{Head, Peer};
use crate::identity::{Identified, Identity, PendingIdentity};
use crate::options::{Config, HttpOptions};
use crate::problem::Problem;
use crate::streams::Streams;

/// A node with its HTTP rules; cheap to clone. The node's workers stop with the last clone, or with
/// [`HttpSessions::shutdown`].
#[derive(Clone)]
pub struct HttpSessions {
    inner: Arc<Inner>,
}

struct Inner {
    manager: SessionManager,
    /// None after a shutdown.
    engine: Mutex<Option<Engine>>,
    options: HttpOptions,
    guard: Arc<dyn AdminGuard>,
    streams: Arc<Streams>,
    /// The API's description; it is the same for every request.
    description: OnceLock<Bytes>,
}

/// What an application supplies besides a store and options.
#[derive(Clone)]
#[non_exhaustive]
pub struct Hooks {
    /// Who may administer. Default: no one.
    pub guard: Arc<dyn AdminGuard>,
    /// The engine's clock, randomness and claims.
    pub engine: Parts,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { guard: Arc::new(deny_all), engine: Parts::default() }
    }
}

impl Hooks {
    /// Who may administer.
    #[must_use]
    pub fn with_guard(mut self, guard: impl AdminGuard) -> Self {
        self.guard = Arc::new(guard);
        self
    }

    /// The claims of a session.
    #[must_use]
    pub fn with_claims(mut self, claims: impl ClaimsProvider) -> Self {
        self.engine = self.engine.with_claims(claims);
        self
    }

    /// The wall clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.engine = self.engine.with_clock(clock);
        self
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl HttpSessions {
    /// Starts a node on a store, on the current tokio runtime. Every caller is denied the admin API.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an option out of bounds, [`Error::Unavailable`] when the store's log
    /// cannot be read.
    pub async fn start(store: impl Store, config: Config) -> Result<Self, Error> {
        Self::start_with(Arc::new(store), config, Hooks::default()).await
    }

    /// Starts a node with a guard, claims or a clock of the application.
    ///
    /// # Errors
    /// As [`HttpSessions::start`].
    pub async fn start_with(
        store: Arc<dyn Store>,
        config: Config,
        hooks: Hooks,
    ) -> Result<Self, Error> {
        config.http.validate()?;
        let engine = Engine::start_with(store, config.engine, hooks.engine).await?;
        let inner = Inner {
            manager: engine.sessions().clone(),
            engine: Mutex::new(Some(engine)),
            options: config.http,
            guard: hooks.guard,
            streams: Arc::default(),
            description: OnceLock::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The node's sessions, for everything that is not a request's.
    pub fn manager(&self) -> &SessionManager {
        &self.inner.manager
    }

    /// The options.
    pub fn options(&self) -> &HttpOptions {
        &self.inner.options
    }

    pub(crate) fn guard(&self) -> &dyn AdminGuard {
        self.inner.guard.as_ref()
    }

    pub(crate) fn streams(&self) -> &Arc<Streams> {
        &self.inner.streams
    }

    /// The API's description, made with the first request for it.
    pub(crate) fn description(
        &self,
        make: impl FnOnce(&str) -> Result<Bytes, Problem>,
    ) -> Result<Bytes, Problem> {
        if let Some(description) = self.inner.description.get() {
            return Ok(description.clone());
        }
        let description = make(&self.options().prefix)?;
        Ok(self.inner.description.get_or_init(|| description).clone())
    }

    /// Waits for the signal, then ends all event streams and all waits for the end of a session. For
    /// a server's graceful shutdown, which waits for open responses.
    pub async fn graceful(&self, signal: impl Future) {
        signal.await;
        self.manager().stop_streams();
    }

    /// Stops the node's workers and waits until what is unstored is written back. To be called when
    /// the server has stopped; a second call returns at once.
    pub async fn shutdown(&self) {
        let engine = self.inner.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(engine) = engine {
            engine.shutdown().await;
        }
    }

    /// Whose request is this? Counts as an access of the session, unless the request is a
    /// prefetch or an `OPTIONS` request: those are not the user's doing.
    ///
    /// `peer` is where the connection comes from; none where the server does not say.
    pub fn identify(&self, head: Head<'_>, peer: Option<Peer>) -> Identified {
        let Some(token) = self.options().cookie.token(head.headers) else {
            return Identified::Now(Identity::Anonymous);
        };
        let access = if is_activity(head.method, head.headers) {
            Access::from_ip(self.options().client_ip.client_ip(head.headers, peer))
        } else {
            Access::passive()
        };
        match self.manager().check(token, access) {
            Check::Answered(verdict) => Identified::Now(verdict.into()),
            Check::NotCached(lookup) => Identified::Pending(PendingIdentity(lookup)),
        }
    }

    /// The address that a sign-in came from. Warns once per process where the server does not say who
    /// connects, or where a peer that is not trusted sends a forwarding header.
    pub fn client_ip(&self, headers: &HeaderMap, peer: Option<Peer>) -> Option<IpAddr> {
        let options = &self.options().client_ip;
        options.warn_of_what_is_missing(headers, peer);
        options.client_ip(headers, peer)
    }
}

impl fmt::Debug for HttpSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSessions").field("options", self.options()).finish_non_exhaustive()
    }
}

fn is_activity(method: &Method, headers: &HeaderMap) -> bool {
    let prefetch =
        |name| headers.get(name).is_some_and(|value| value.as_bytes().starts_with(b"prefetch"));
    method != Method::OPTIONS && !prefetch("sec-purpose") && !prefetch("purpose")
}
