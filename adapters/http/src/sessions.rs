//! The HTTP rules of a node.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use session_core::{Store, Token};
use session_engine::clock::Clock;
use session_engine::{
    Access, ClaimsProvider, Engine, Error, Parts, SessionManager, Trouble, TroubleOver,
};

use crate::activity;
use crate::flow::UsedFlows;
use crate::guard::{AdminGuard, deny_all};
use crate::head::{Head, OwnedHead, Peer, TOKEN_HEADERS, mark_sensitive};
use crate::identity::{Asked, Credential, Identified, Identity, PendingIdentity};
use crate::live::FAREWELL;
use crate::options::{Config, HttpOptions};
use crate::origin::{SameOrigin, same_origin};
use crate::presented::bearer;
use crate::problem::Problem;
use crate::streams::Streams;
use crate::voucher::Voucher;

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
    voucher: Option<Arc<dyn Voucher>>,
    voucher_fails: Trouble,
    claims_differ: Trouble,
    flows: UsedFlows,
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
    /// Who says by the application's own means to which session a request belongs. Default: nobody.
    pub voucher: Option<Arc<dyn Voucher>>,
    /// The engine's clock, randomness and claims.
    pub engine: Parts,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { guard: Arc::new(deny_all), voucher: None, engine: Parts::default() }
    }
}

impl Hooks {
    /// Who may administer.
    #[must_use]
    pub fn with_guard(mut self, guard: impl AdminGuard) -> Self {
        self.guard = Arc::new(guard);
        self
    }

    /// Who says by the application's own means to which session a request belongs. Every request but
    /// one with our bearer token then costs a copy of its headers.
    #[must_use]
    pub fn with_voucher(mut self, voucher: impl Voucher) -> Self {
        self.voucher = Some(Arc::new(voucher));
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
            voucher: hooks.voucher,
            voucher_fails: Trouble::new(QUIET),
            claims_differ: Trouble::new(QUIET),
            flows: UsedFlows::default(),
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

    pub(crate) fn voucher(&self) -> Option<&dyn Voucher> {
        self.inner.voucher.as_deref()
    }

    /// Says once that the voucher fails, and once that it works again.
    pub(crate) fn note_voucher(&self, error: Option<&impl fmt::Display>) {
        let trouble = &self.inner.voucher_fails;
        if let Some(error) = error {
            if trouble.begins() {
                tracing::warn!(%error, "the voucher fails");
            }
        } else if let Some(TroubleOver { lasted, calls }) = trouble.ends() {
            tracing::info!(calls, ?lasted, "the voucher works again");
        }
    }

    /// Says once that claims are not what the application takes them for, and once that they are again.
    pub(crate) fn note_claims(&self, error: Option<&serde_json::Error>) {
        let trouble = &self.inner.claims_differ;
        if let Some(error) = error {
            if trouble.begins() {
                tracing::error!(%error, "the claims are of another form");
            }
        } else if let Some(TroubleOver { lasted, calls }) = trouble.ends() {
            tracing::info!(calls, ?lasted, "the claims are of the right form again");
        }
    }

    /// Whether the application identifies requests by its own means, too: then every request is
    /// looked at with all of its headers.
    pub fn has_voucher(&self) -> bool {
        self.inner.voucher.is_some()
    }

    /// Whether a request can have a session at all, by the names of its headers. For frameworks whose
    /// headers have to be copied.
    pub fn may_identify(&self, has_header: impl Fn(&str) -> bool) -> bool {
        self.has_voucher() || TOKEN_HEADERS.iter().any(|name| has_header(name.as_str()))
    }

    pub(crate) fn flows(&self) -> &UsedFlows {
        &self.inner.flows
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

    /// Closes what WebSockets are open, stops the node's workers and waits until what is unstored is
    /// written back. To be called when the server has stopped; a second call returns at once.
    pub async fn shutdown(&self) {
        self.manager().stop_streams();
        // Servers do not wait for connections that have been upgraded.
        let _ = tokio::time::timeout(FAREWELL, self.streams().sockets_closed()).await;
        let engine = self.inner.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(engine) = engine {
            engine.shutdown().await;
        }
    }

    /// Whose request is this? Our bearer token counts first, then the application's [`Voucher`], then
    /// our cookies. Counts as an access of the session, unless the request is none of the user's
    /// doing (see [the crate's page](crate)).
    ///
    /// `peer` is where the connection comes from; none where the server does not say.
    pub fn identify(&self, head: Head<'_>, peer: Option<Peer>) -> Identified {
        let access = || {
            let ip = self.kept(self.options().client_ip.client_ip(head.headers, peer));
            if activity::is_passive(head, &self.options().prefix) {
                Access::passive(ip)
            } else {
                Access::from_ip(ip)
            }
        };
        if let Some(token) = bearer(head.headers) {
            let asked = Asked { credential: Credential::Bearer, access: access() };
            return asked.one(self.manager(), Some(token));
        }
        if self.has_voucher() {
            let (method, uri) = (head.method.clone(), head.uri.clone());
            let mut headers = head.headers.clone();
            mark_sensitive(&mut headers);
            let owned = OwnedHead::new(method, uri, headers);
            let pending = PendingIdentity::of_application(self, owned, access());
            return Identified::Pending(pending);
        }
        self.identify_by_cookies(head.headers, access)
    }

    pub(crate) fn identify_by_cookies(
        &self,
        headers: &HeaderMap,
        access: impl FnOnce() -> Access,
    ) -> Identified {
        let presented = self.options().cookie.presented(headers);
        let mut tokens = presented.tokens();
        let Some(first) = tokens.next() else { return Identified::Now(Identity::Anonymous) };
        let asked = Asked { credential: Credential::Cookie, access: access() };
        let manager = self.manager();
        if tokens.len() == 0 {
            return asked.one(manager, Token::parse(first));
        }
        // Which of them a stranger planted is found out before any counts as an access.
        let check = |tokens: Vec<&[u8]>| manager.check_all(&tokens, Access::passive(None));
        asked.several(manager, presented.by_session().into_iter().map(check).collect())
    }

    /// What a request proves about the page that made it. Needed only where a browser sends by itself
    /// what shows the session: see [`Credential::is_ambient`].
    pub fn same_origin(&self, head: Head<'_>) -> SameOrigin {
        same_origin(head, &self.options().allowed_origins)
    }

    /// The address that a sign-in came from. Warns once per process where the server does not say who
    /// connects, or where a peer that is not trusted sends a forwarding header.
    pub fn client_ip(&self, headers: &HeaderMap, peer: Option<Peer>) -> Option<IpAddr> {
        let options = &self.options().client_ip;
        options.warn_of_what_is_missing(headers, peer);
        options.client_ip(headers, peer)
    }

    /// What the options let the log and the store know of an address.
    pub(crate) fn kept(&self, address: Option<IpAddr>) -> Option<IpAddr> {
        self.manager().options().addresses.keep(address)
    }
}

impl fmt::Debug for HttpSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSessions").field("options", self.options()).finish_non_exhaustive()
    }
}

/// What failed works again when it has not failed for so long.
const QUIET: Duration = Duration::from_secs(5);
