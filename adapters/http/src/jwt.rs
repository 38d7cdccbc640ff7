//! Sessions named by a signed token of a login service (feature `jwt`).

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use http::header::AUTHORIZATION;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value;
use session_core::{InvalidField, SessionId};
use session_engine::Trouble;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::head::Head;
use crate::voucher::{Vouch, Vouched, Voucher};

type Failure = Box<dyn Error + Send + Sync>;
type Fetching = Pin<Box<dyn Future<Output = Result<String, Failure>> + Send>>;

/// Which tokens are taken, and how long their keys are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JwtOptions {
    /// Whose tokens: the claim `iss` has to be this.
    pub issuer: String,
    /// For whom they are made: the claim `aud` has to name this.
    pub audience: String,
    /// The signatures that are taken. Default `EdDSA`, `ES256` and `RS256`.
    pub algorithms: Vec<Algorithm>,
    /// The type that a token has to have in its header, such as `at+jwt` (RFC 9068): it tells access
    /// tokens from other documents that the issuer signs, such as ID tokens. Default any but a logout
    /// token.
    pub token_type: Option<String>,
    /// How far the clocks of issuer and node may differ, in `exp` and `nbf`, which are compared with
    /// the system's clock. At most 1 h, in whole seconds. Default 60 s.
    pub leeway: Duration,
    /// Keys that are older are fetched again, beside the requests that they still answer. Default 10
    /// min.
    pub keys_max_age: Duration,
    /// The least time between two fetches, failed ones included: a token with an unknown key asks for
    /// one. Default 30 s.
    pub refetch_after: Duration,
    /// A fetch that takes longer has failed. Default 5 s.
    pub fetch_timeout: Duration,
    /// While they cannot be fetched, keys are good for this long. Default 1 day.
    pub keys_stale: Duration,
}

/// A signature that can be checked without being able to make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// Ed25519 (RFC 8037).
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// RSA PSS with SHA-256.
    Ps256,
}

impl Algorithm {
    const fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
        }
    }
}

impl JwtOptions {
    /// The tokens that this issuer makes for this audience.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            algorithms: vec![Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256],
            token_type: None,
            leeway: Duration::from_secs(60),
            keys_max_age: Duration::from_secs(600),
            refetch_after: Duration::from_secs(30),
            fetch_timeout: Duration::from_secs(5),
            keys_stale: Duration::from_secs(24 * 3600),
        }
    }

    /// The signatures that are taken.
    #[must_use]
    pub fn with_algorithms(mut self, algorithms: impl Into<Vec<Algorithm>>) -> Self {
        self.algorithms = algorithms.into();
        self
    }

    /// The type that a token has to have.
    #[must_use]
    pub fn with_token_type(mut self, token_type: impl Into<String>) -> Self {
        self.token_type = Some(token_type.into());
        self
    }

    /// How far the clocks may differ.
    #[must_use]
    pub const fn with_leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// How long keys are kept.
    #[must_use]
    pub const fn with_keys_max_age(mut self, age: Duration) -> Self {
        self.keys_max_age = age;
        self
    }

    /// The least time between two fetches.
    #[must_use]
    pub const fn with_refetch_after(mut self, pause: Duration) -> Self {
        self.refetch_after = pause;
        self
    }

    /// How long a fetch may take.
    #[must_use]
    pub const fn with_fetch_timeout(mut self, timeout: Duration) -> Self {
        self.fetch_timeout = timeout;
        self
    }

    /// How long keys are good while they cannot be fetched.
    #[must_use]
    pub const fn with_keys_stale(mut self, stale: Duration) -> Self {
        self.keys_stale = stale;
        self
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`InvalidField`] naming the option.
    pub fn validate(&self) -> Result<(), InvalidField> {
        for (field, text) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            if text.is_empty() {
                return Err(InvalidField::malformed(field, "a name: any token would do without"));
            }
        }
        if self.algorithms.is_empty() {
            return Err(InvalidField::malformed("algorithms", "at least one"));
        }
        if self.leeway > Duration::from_secs(3600) {
            return Err(InvalidField::malformed("leeway", "at most an hour"));
        }
        for (field, duration, least) in [
            ("refetch_after", self.refetch_after, Duration::from_secs(1)),
            ("fetch_timeout", self.fetch_timeout, Duration::from_millis(1)),
            ("keys_max_age", self.keys_max_age, self.refetch_after),
            ("keys_stale", self.keys_stale, self.keys_max_age),
        ] {
            if duration < least {
                let expected = "1 s <= refetch_after <= keys_max_age <= keys_stale, and a timeout";
                return Err(InvalidField::malformed(field, expected));
            }
        }
        Ok(())
    }
}

/// Takes JSON Web Tokens (RFC 7519) that come as `Authorization: Bearer` and have the id of a session
/// of ours in the claim `sid`: the login service that begins the sessions signs them. (The `sid` of an
/// identity provider is a session of its own, which nobody here knows.)
///
/// The token says which session, and nothing else: whether it lives, whose it is and which claims its
/// user has come from the session itself, as fresh as ever. Once the session has ended, its tokens are
/// refused, even before their `exp`.
///
/// ```
/// use session_http::Hooks;
/// use session_http::jwt::{JwtOptions, JwtVoucher};
///
/// # fn main() -> Result<(), session_core::InvalidField> {
/// let options = JwtOptions::new("https://login.example.com", "orders");
/// let fetch = || async {
///     // With the application's HTTP client.
///     Ok::<_, std::io::Error>(r#"{"keys":[]}"#.to_owned())
/// };
/// let hooks = Hooks::default().with_voucher(JwtVoucher::new(options, fetch)?);
/// # Ok(())
/// # }
/// ```
pub struct JwtVoucher(Arc<Inner>);

struct Inner {
    options: JwtOptions,
    fetch: Box<dyn Fn() -> Fetching + Send + Sync>,
    fetch_fails: Trouble,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<Keys>>,
    /// When the last fetch began.
    asked: Option<Instant>,
    /// Resolves with the end of the one that runs.
    running: Option<watch::Receiver<()>>,
}

impl fmt::Debug for JwtVoucher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVoucher").field("options", &self.0.options).finish_non_exhaustive()
    }
}

struct Keys {
    by_id: HashMap<String, Key>,
    /// A set with one key needs no names.
    only: Option<Key>,
    fetched: Instant,
}

#[derive(Clone)]
struct Key {
    decoding: Arc<DecodingKey>,
    /// The one algorithm that it is for, where the set says so.
    algorithm: Option<jsonwebtoken::Algorithm>,
}

/// What a token has to say; the rest is checked by the library or not looked at.
#[derive(Deserialize)]
struct Claims {
    sid: SessionId,
    /// The library takes one that is no number for none.
    #[serde(default, rename = "nbf")]
    _not_before: Option<f64>,
    /// What makes a document of the issuer a logout token.
    events: Option<Value>,
}

/// What the library does not read of a header.
#[derive(Deserialize)]
struct Extensions {
    /// Names extensions that have to be understood (RFC 7515, 4.1.11). None is.
    crit: Option<Value>,
}

impl JwtVoucher {
    /// Takes the tokens that fit, with the keys of a JWK set (RFC 7517) that this future brings. It is
    /// asked for when the first token comes, when the keys grow old, and when a token names a key that
    /// is not among them. A key that the issuer withdraws is refused within `keys_max_age` and the time
    /// of one fetch.
    ///
    /// # Errors
    /// [`InvalidField`] for an option out of bounds.
    pub fn new<F, Fut, E>(options: JwtOptions, fetch: F) -> Result<Self, InvalidField>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Failure>,
    {
        options.validate()?;
        let fetch = move || -> Fetching {
            let fetching = fetch();
            Box::pin(async move { fetching.await.map_err(Into::into) })
        };
        let (fetch, fetch_fails) = (Box::new(fetch), Trouble::new(Duration::ZERO));
        Ok(Self(Arc::new(Inner { options, fetch, fetch_fails, state: Mutex::default() })))
    }

    /// The session that a token names.
    async fn judge(&self, token: &str) -> Result<Vouch, Failure> {
        let options = &self.0.options;
        let Ok(header) = decode_header(token) else { return Ok(Vouch::Refused("no JWT")) };
        if !options.algorithms.iter().any(|taken| taken.of_library() == header.alg) {
            return Ok(Vouch::Refused("a JWT with an algorithm that is not taken"));
        }
        if !self.is_of_type(header.typ.as_deref()) {
            return Ok(Vouch::Refused("a JWT of another type"));
        }
        if has_extensions(token) {
            return Ok(Vouch::Refused("a JWT with critical extensions"));
        }
        let Some(key) = self.key(header.kid.as_deref()).await? else {
            return Ok(Vouch::Refused("a JWT with an unknown key"));
        };
        if key.algorithm.is_some_and(|algorithm| algorithm != header.alg) {
            return Ok(Vouch::Refused("a JWT with another algorithm than its key's"));
        }
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&options.issuer]);
        validation.set_audience(&[&options.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.leeway = options.leeway.as_secs();
        validation.validate_nbf = true;
        Ok(match decode::<Claims>(token, &key.decoding, &validation) {
            Ok(document) if document.claims.events.is_some() => {
                Vouch::Refused("a logout token, not one to sign in with")
            }
            Ok(document) => Vouch::For(Vouched::explicit(document.claims.sid)),
            Err(error) => Vouch::Refused(reason(&error)),
        })
    }

    fn is_of_type(&self, typ: Option<&str>) -> bool {
        let typ = typ.unwrap_or_default().to_ascii_lowercase();
        let short = |typ: &str| typ.trim_start_matches("application/").to_owned();
        match &self.0.options.token_type {
            Some(wanted) => short(&typ) == short(&wanted.to_ascii_lowercase()),
            None => short(&typ) != "logout+jwt",
        }
    }

    /// The key of this name. Keys that are here answer at once, and old ones are fetched beside; only
    /// for a key that is unknown a request waits.
    async fn key(&self, id: Option<&str>) -> Result<Option<Key>, Failure> {
        let options = &self.0.options;
        let keys = self.0.keys().filter(|keys| keys.fetched.elapsed() < options.keys_stale);
        if let Some(keys) = &keys
            && let Some(key) = keys.get(id)
        {
            if keys.fetched.elapsed() >= options.keys_max_age {
                drop(self.0.fetch_beside());
            }
            return Ok(Some(key));
        }
        if let Some(mut running) = self.0.fetch_beside() {
            // It has ended when nobody sends any more.
            while running.changed().await.is_ok() {}
        }
        match self.0.keys().filter(|keys| keys.fetched.elapsed() < options.keys_stale) {
            Some(keys) => Ok(keys.get(id)),
            None => Err("there are no keys of the JWT issuer".into()),
        }
    }
}

impl Inner {
    fn keys(&self) -> Option<Arc<Keys>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).keys.clone()
    }

    /// The fetch that runs, or a new one in a task of its own, which no request takes along when its
    /// client leaves. None where the last one was a moment ago.
    fn fetch_beside(self: &Arc<Self>) -> Option<watch::Receiver<()>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) =
            state.running.as_ref().filter(|running| running.has_changed().is_ok())
        {
            return Some(running.clone());
        }
        if state.asked.is_some_and(|at| at.elapsed() < self.options.refetch_after) {
            return None;
        }
        state.asked = Some(Instant::now());
        let (ends, running) = watch::channel(());
        state.running = Some(running.clone());
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let _ends = ends;
            let fetched = tokio::time::timeout(inner.options.fetch_timeout, (inner.fetch)()).await;
            let fetched = fetched.unwrap_or_else(|_| Err("the issuer does not answer".into()));
            match fetched.and_then(|text| Ok(Keys::parse(&text)?)) {
                Ok(keys) => {
                    if let Some(over) = inner.fetch_fails.ends() {
                        let calls = over.calls;
                        tracing::info!(calls, "the keys of the JWT issuer can be fetched again");
                    }
                    let mut state = inner.state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.keys = Some(Arc::new(keys));
                }
                Err(error) => {
                    if inner.fetch_fails.begins() {
                        tracing::warn!(%error, "the keys of the JWT issuer cannot be fetched");
                    }
                }
            }
        });
        Some(running)
    }
}

impl Keys {
    /// Keys that are not for signatures, or of a kind that is not known here, are left out (RFC 7517, 5).
    fn parse(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let mut keys = Vec::new();
        for key in serde_json::from_str::<Set>(text)?.keys {
            match serde_json::from_value::<Jwk>(key).map(|key| Key::of(&key)) {
                Ok(key) => keys.extend(key),
                Err(error) => tracing::debug!(%error, "a key of the JWT issuer is of another kind"),
            }
        }
        let only = match keys.as_slice() {
            [(_, key)] => Some(key.clone()),
            _ => None,
        };
        let by_id = keys.into_iter().filter_map(|(id, key)| Some((id?, key))).collect();
        Ok(Self { by_id, only, fetched: Instant::now() })
    }

    fn get(&self, id: Option<&str>) -> Option<Key> {
        match id {
            Some(id) => self.by_id.get(id).cloned(),
            None => self.only.clone(),
        }
    }
}

impl Key {
    /// A key for signatures and its name.
    fn of(jwk: &Jwk) -> Option<(Option<String>, Self)> {
        let common = &jwk.common;
        if common.public_key_use.as_ref().is_some_and(|use_| *use_ != PublicKeyUse::Signature) {
            return None;
        }
        let decoding = Arc::new(DecodingKey::from_jwk(jwk).ok()?);
        let algorithm = match common.key_algorithm {
            Some(algorithm) => Some(algorithm.to_string().parse().ok()?),
            None => None,
        };
        Some((common.key_id.clone(), Self { decoding, algorithm }))
    }
}

/// Whether the header names extensions that have to be understood.
fn has_extensions(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    serde_json::from_slice::<Extensions>(&header).map_or(true, |header| header.crit.is_some())
}

#[async_trait]
impl Voucher for JwtVoucher {
    async fn vouch(&self, head: Head<'_>) -> Result<Vouch, Failure> {
        let mut values = head.headers.get_all(AUTHORIZATION).into_iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Ok(Vouch::Nothing);
        };
        let Ok(text) = value.to_str() else { return Ok(Vouch::Nothing) };
        match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                self.judge(token.trim()).await
            }
            _ => Ok(Vouch::Nothing),
        }
    }
}

fn reason(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::ExpiredSignature => "a JWT that has expired",
        ErrorKind::ImmatureSignature => "a JWT that is not valid yet",
        ErrorKind::InvalidIssuer => "a JWT of another issuer",
        ErrorKind::InvalidAudience => "a JWT for another audience",
        ErrorKind::InvalidSignature => "a JWT whose signature is wrong",
        ErrorKind::Json(_) => "a JWT without a session id in sid",
        _ => "a JWT that does not fit",
    }
}
