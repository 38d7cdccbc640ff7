//! What a middleware leaves for extractors and guards.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{CACHE_CONTROL, VARY};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::Value;
use session_core::{AssuranceLevel, EndCause};
use session_engine::{ActiveSession, Ending};

use crate::auth::Auth;
use crate::head::{Head, Peer};
use crate::identity::Identity;
use crate::origin::SameOrigin;
use crate::presented::bearer;
use crate::problem::Problem;
use crate::rejection::Rejection;
use crate::security;
use crate::sessions::HttpSessions;

/// Whose request it is, and the rules that hold for it. An adapter's middleware puts it where the
/// framework's extractors find it.
#[derive(Clone, Debug)]
pub struct RequestSession {
    http: HttpSessions,
    identity: Identity,
    peer: Option<Peer>,
    /// Set where the application asks how the session ended: its response may then tell.
    told: Option<Arc<AtomicBool>>,
}

impl RequestSession {
    /// What was found out about a request.
    pub fn new(http: HttpSessions, identity: Identity, peer: Option<Peer>) -> Self {
        let told = matches!(identity, Identity::Ended(_)).then(Arc::default);
        Self { http, identity, peer, told }
    }

    /// What the middleware left in a request's extensions.
    ///
    /// # Errors
    /// 500 when there is no such middleware around the service.
    pub fn of(extensions: &Extensions) -> Result<&Self, Rejection> {
        extensions.get().ok_or(Problem::misconfigured().into())
    }

    /// The node.
    pub const fn http(&self) -> &HttpSessions {
        &self.http
    }

    /// Whose request it is.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where the connection comes from.
    pub const fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// The session.
    ///
    /// # Errors
    /// 401 without one, 503 while nothing can be said about the token.
    pub fn session(&self, head: Head<'_>) -> Result<ActiveSession, Rejection> {
        self.maybe_session()?.ok_or_else(|| self.http.refuse(head, Problem::unauthorized()))
    }

    /// The session, if there is one.
    ///
    /// # Errors
    /// 503 while nothing can be said about the token.
    pub fn maybe_session(&self) -> Result<Option<ActiveSession>, Rejection> {
        Ok(self.identity.known()?.cloned())
    }

    /// How the session ended whose token the request carries, for a sign-in page that says why. None for
    /// a request with a session, without a token, or with one that is not a token of that session.
    ///
    /// None, too, where the session's own user signed out: their browser has given up the cookie, and
    /// a client that still shows it holds a copy.
    pub fn ended(&self) -> Option<Arc<Ending>> {
        let Identity::Ended(ending) = &self.identity else { return None };
        if ending.cause == EndCause::SignedOut {
            return None;
        }
        if let Some(told) = &self.told {
            told.store(true, Ordering::Release);
        }
        Some(Arc::clone(ending))
    }

    /// The session, if its user has proved who they are within this time.
    ///
    /// It goes by the token that the request carries: one that a re-authentication has replaced does not
    /// gain by it, although it is accepted for a while.
    ///
    /// # Errors
    /// As [`RequestSession::session`], and 401 `urn:session-kit:reauthentication-required`.
    pub fn fresh(&self, head: Head<'_>, within: Duration) -> Result<ActiveSession, Rejection> {
        let session = self.session(head)?;
        if self.http.manager().now().since(session.authenticated_at()) > within {
            return Err(self.http.refuse(head, Problem::reauthentication_required()));
        }
        Ok(session)
    }

    /// The session, if its user has proved who they are with at least this assurance.
    ///
    /// # Errors
    /// As [`RequestSession::fresh`].
    pub fn at_level(
        &self,
        head: Head<'_>,
        level: AssuranceLevel,
    ) -> Result<ActiveSession, Rejection> {
        let session = self.session(head)?;
        if session.authentication().level < Some(level) {
            let problem = Problem::reauthentication_required();
            return Err(self.http.refuse(head, problem.with_detail(format!("at level {level}"))));
        }
        Ok(session)
    }

    /// The session's claims as a type of the application.
    ///
    /// # Errors
    /// As [`RequestSession::session`], and 500 when they are of another form.
    pub fn claims<T: DeserializeOwned>(&self, head: Head<'_>) -> Result<T, Rejection> {
        let claims = self.session(head)?.claims_as();
        self.http.note_claims(claims.as_ref().err());
        claims.map_err(|_| Problem::unexpected_claims().into())
    }

    /// Signs in, signs out and rotates for the sender of the request.
    pub fn auth(&self, head: Head<'_>) -> Auth {
        Auth::new(self.clone(), head.to_owned())
    }

    /// Refuses an unsafe method unless `Sec-Fetch-Site`, `Origin` or the `allowed_origins` prove that a
    /// page of this origin asks, or the session was shown by something that browsers do not send by
    /// themselves. Applies without a session, too; safe methods pass. `SameSite` cookies alone do not
    /// suffice: sister hosts get past them.
    ///
    /// # Errors
    /// 403 `urn:session-kit:cross-origin`, 503 while nothing can be said about the token.
    pub fn same_origin(&self, head: Head<'_>) -> Result<(), Rejection> {
        if head.is_safe() {
            return Ok(());
        }
        self.proven_origin(head)
    }

    /// The same for every method.
    pub(crate) fn proven_origin(&self, head: Head<'_>) -> Result<(), Rejection> {
        if !self.is_ambient(head) {
            return Ok(());
        }
        self.identity.known()?;
        match self.http.same_origin(head) {
            SameOrigin::Proven => Ok(()),
            proof => Err(self.cross_origin(head, proof).into()),
        }
    }

    /// Whether a browser may have sent by itself what the request shows, valid or not.
    pub(crate) fn is_ambient(&self, head: Head<'_>) -> bool {
        match self.identity.credential() {
            Some(credential) => credential.is_ambient(),
            None => bearer(head.headers).is_none(),
        }
    }

    pub(crate) fn cross_origin(&self, head: Head<'_>, proof: SameOrigin) -> Problem {
        security::refused_origin(head.uri.path(), self.address(head), proof.as_str());
        Problem::cross_origin()
    }

    /// Where the request came from, as far as the options let it be known.
    pub(crate) fn address(&self, head: Head<'_>) -> Option<IpAddr> {
        self.http.kept(self.http.client_ip(head.headers, self.peer))
    }

    /// Asks for a fresh session before other sessions are ended or an admin changes something: where the
    /// options have a `reauthenticate_path`, its user has proved who they are within `fresh_within`. An
    /// admin whom the guard knows by something else than a session is not asked.
    pub(crate) fn fresh_for_changes(&self, head: Head<'_>) -> Result<(), Rejection> {
        let options = self.http.options();
        if options.reauthenticate_path.is_some() && self.identity.session().is_some() {
            self.fresh(head, options.fresh_within)?;
        }
        Ok(())
    }

    /// Lets the request pass, or says why not.
    ///
    /// # Errors
    /// As [`RequestSession::same_origin`] and [`RequestSession::fresh`], and 403 when the claims do not
    /// suffice.
    pub fn require(&self, head: Head<'_>, guard: &RequireSession) -> Result<(), Rejection> {
        if guard.same_origin {
            self.same_origin(head)?;
        }
        if !guard.signed_in {
            return Ok(());
        }
        let session = match guard.fresh_within {
            Some(within) => self.fresh(head, within)?,
            None => self.session(head)?,
        };
        if let Some(level) = guard.level {
            self.at_level(head, level)?;
        }
        match &guard.claims {
            Some(suffice) if !suffice(session.claims()) => Err(Problem::forbidden().into()),
            _ => Ok(()),
        }
    }

    /// Headers that keep the application's response out of shared caches and of the browser's history;
    /// none for a request without a session, unless the application asks how it [ended].
    ///
    /// [ended]: RequestSession::ended
    pub fn private_headers(&self) -> PrivateHeaders {
        let wanted = self.http.options().private_responses;
        let is_anonymous = matches!(self.identity, Identity::Anonymous | Identity::Ended(_));
        let told = self.told.clone().filter(|_| wanted);
        PrivateHeaders { needed: !is_anonymous && wanted, told }
    }
}

/// What a response needs so that no cache keeps it.
#[derive(Clone, Debug)]
pub struct PrivateHeaders {
    needed: bool,
    told: Option<Arc<AtomicBool>>,
}

impl PrivateHeaders {
    /// The headers to append; none where the response has a `Cache-Control` of its own.
    pub fn unless(&self, has_cache_control: bool) -> &'static [(HeaderName, HeaderValue)] {
        let told = || self.told.as_ref().is_some_and(|told| told.load(Ordering::Acquire));
        if !has_cache_control && (self.needed || told()) { &PRIVATE } else { &[] }
    }

    /// Appends them to the headers of a response.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in self.unless(headers.contains_key(CACHE_CONTROL)) {
            headers.append(name, value.clone());
        }
    }
}

static PRIVATE: [(HeaderName, HeaderValue); 2] = [
    (CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
    (VARY, HeaderValue::from_static("cookie")),
];

/// What a route asks of a request: a session, perhaps a fresh one, perhaps with certain claims.
///
/// ```
/// use std::time::Duration;
/// use session_http::RequireSession;
///
/// let guard = RequireSession::signed_in()
///     .fresh_within(Duration::from_secs(300))
///     .claims(|claims| claims["admin"] == true);
/// ```
#[derive(Clone)]
pub struct RequireSession {
    signed_in: bool,
    same_origin: bool,
    fresh_within: Option<Duration>,
    level: Option<AssuranceLevel>,
    claims: Option<Arc<Suffice>>,
}

type Suffice = dyn Fn(&Value) -> bool + Send + Sync;

impl RequireSession {
    /// A session: 401 without one, or for a browser that asks for a page the way to sign in.
    pub const fn signed_in() -> Self {
        let mut guard = Self::anybody();
        guard.signed_in = true;
        guard
    }

    /// Anybody, signed in or not.
    pub const fn anybody() -> Self {
        Self { signed_in: false, same_origin: false, fresh_within: None, level: None, claims: None }
    }

    /// Besides, the request is proven to come from this origin; see [`RequestSession::same_origin`].
    #[must_use]
    pub const fn from_same_origin(mut self) -> Self {
        self.same_origin = true;
        self
    }

    /// Besides, the user has proved who they are within this time.
    #[must_use]
    pub const fn fresh_within(mut self, within: Duration) -> Self {
        self.signed_in = true;
        self.fresh_within = Some(within);
        self
    }

    /// Besides, the user has proved who they are with at least this assurance (NIST SP 800-63B-4), as
    /// the [`Proof`](session_engine::Proof) of the sign-in or of the re-authentication says. A session of
    /// which nothing is said has none.
    #[must_use]
    pub const fn at_level(mut self, level: AssuranceLevel) -> Self {
        self.signed_in = true;
        self.level = Some(level);
        self
    }

    /// Besides, the claims suffice: 403 if not.
    #[must_use]
    pub fn claims(mut self, suffice: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Self {
        self.signed_in = true;
        self.claims = Some(Arc::new(suffice));
        self
    }
}

impl fmt::Debug for RequireSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequireSession")
            .field("signed_in", &self.signed_in)
            .field("same_origin", &self.same_origin)
            .field("fresh_within", &self.fresh_within)
            .field("level", &self.level)
            .field("claims", &self.claims.is_some())
            .finish()
    }
}
