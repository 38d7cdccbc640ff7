//! Sessions that somebody else's signed token names (feature `jwt`).

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use session_core::{InvalidField, SessionId};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::head::Head;
use crate::voucher::{Vouch, Vouched, Voucher};

pub use jsonwebtoken::Algorithm;

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
    /// The signatures that are taken. Default `EdDSA`, `ES256` and `RS256`. Those with a shared secret
    /// are refused: whoever checks them could make them.
    pub algorithms: Vec<Algorithm>,
    /// How far the clocks of issuer and node may differ, in `exp` and `nbf`. Default 60 s.
    pub leeway: Duration,
    /// Keys are fetched anew after this time. Default 10 min.
    pub keys_max_age: Duration,
    /// A token with an unknown key has the keys fetched anew, but not more often than this. Default
    /// 30 s.
    pub refetch_after: Duration,
    /// While they cannot be fetched, keys are good for this long. Default 1 day.
    pub keys_stale: Duration,
}

impl JwtOptions {
    /// The tokens that this issuer makes for this audience.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            algorithms: vec![Algorithm::EdDSA, Algorithm::ES256, Algorithm::RS256],
            leeway: Duration::from_secs(60),
            keys_max_age: Duration::from_secs(600),
            refetch_after: Duration::from_secs(30),
            keys_stale: Duration::from_secs(24 * 3600),
        }
    }

    /// The signatures that are taken.
    #[must_use]
    pub fn with_algorithms(mut self, algorithms: impl Into<Vec<Algorithm>>) -> Self {
        self.algorithms = algorithms.into();
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

    /// How soon an unknown key may have the keys fetched anew.
    #[must_use]
    pub const fn with_refetch_after(mut self, pause: Duration) -> Self {
        self.refetch_after = pause;
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
        let shared = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        if self.algorithms.is_empty() || self.algorithms.iter().any(|used| shared.contains(used)) {
            let expected = "at least one, and none with a shared secret";
            return Err(InvalidField::malformed("algorithms", expected));
        }
        Ok(())
    }
}

/// Takes JSON Web Tokens (RFC 7519) that come as `Authorization: Bearer` and name a session in the
/// claim `sid`.
///
/// The token says which session, and nothing else: whether it lives, whose it is and which claims its
/// user has come from the session itself, as fresh as ever. Once the session has ended, its tokens are
/// worth nothing, whatever their `exp` says.
///
/// ```
/// use session_http::Hooks;
/// use session_http::jwt::{JwtOptions, JwtVoucher};
///
/// # fn main() -> Result<(), session_core::InvalidField> {
/// let options = JwtOptions::new("https://login.example.com", "orders");
/// let fetch = || async {
///     // With whatever HTTP client the application has.
///     Ok::<_, std::io::Error>(r#"{"keys":[]}"#.to_owned())
/// };
/// let hooks = Hooks::default().with_voucher(JwtVoucher::new(options, fetch)?);
/// # Ok(())
/// # }
/// ```
pub struct JwtVoucher {
    options: JwtOptions,
    fetch: Box<dyn Fn() -> Fetching + Send + Sync>,
    keys: RwLock<Option<Arc<Keys>>>,
    /// One fetch at a time.
    turn: Mutex<Option<Instant>>,
}

impl fmt::Debug for JwtVoucher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVoucher").field("options", &self.options).finish_non_exhaustive()
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
    algorithm: Option<String>,
}

/// What a token has to say; the rest is checked by the library or not looked at.
#[derive(Deserialize)]
struct Claims {
    sid: SessionId,
}

impl JwtVoucher {
    /// Takes the tokens that fit, with the keys of a JWK set (RFC 7517) that this future brings. It is
    /// asked for when the first token comes, when the keys grow old, and when a token names a key that
    /// is not among them.
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
        let (keys, turn) = (RwLock::new(None), Mutex::new(None));
        Ok(Self { options, fetch: Box::new(fetch), keys, turn })
    }

    /// The session that a token names.
    async fn judge(&self, token: &str) -> Result<Vouch, Failure> {
        let Ok(header) = decode_header(token) else { return Ok(Vouch::Refused("no JWT")) };
        if !self.options.algorithms.contains(&header.alg) {
            return Ok(Vouch::Refused("a JWT with an algorithm that is not taken"));
        }
        let Some(key) = self.key(header.kid.as_deref()).await? else {
            return Ok(Vouch::Refused("a JWT with an unknown key"));
        };
        if key.algorithm.is_some_and(|algorithm| algorithm != format!("{:?}", header.alg)) {
            return Ok(Vouch::Refused("a JWT with another algorithm than its key's"));
        }
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.options.issuer]);
        validation.set_audience(&[&self.options.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.leeway = self.options.leeway.as_secs();
        validation.validate_nbf = true;
        Ok(match decode::<Claims>(token, &key.decoding, &validation) {
            Ok(document) => Vouch::For(Vouched::explicit(document.claims.sid)),
            Err(error) => Vouch::Refused(reason(&error)),
        })
    }

    /// The key of this name, from the keys that are here or, where they may have changed, from newer
    /// ones.
    async fn key(&self, id: Option<&str>) -> Result<Option<Key>, Failure> {
        let known = self.known();
        if let Some(keys) = &known
            && keys.fetched.elapsed() < self.options.keys_max_age
            && let Some(key) = keys.get(id)
        {
            return Ok(Some(key));
        }
        let mut fetched = self.turn.lock().await;
        let now = self.known();
        let newer = match (&known, &now) {
            (Some(known), Some(now)) => !Arc::ptr_eq(known, now),
            (None, now) => now.is_some(),
            (Some(_), None) => false,
        };
        let pause = self.options.refetch_after;
        if newer || fetched.is_some_and(|at| at.elapsed() < pause) {
            return self.usable(now.as_deref(), id);
        }
        *fetched = Some(Instant::now());
        match (self.fetch)().await.and_then(|text| Ok(Keys::parse(&text)?)) {
            Ok(keys) => {
                let keys = Arc::new(keys);
                let mut known = self.keys.write().unwrap_or_else(PoisonError::into_inner);
                *known = Some(Arc::clone(&keys));
                Ok(keys.get(id))
            }
            Err(error) => {
                tracing::warn!(%error, "the keys of the JWT issuer cannot be fetched");
                self.usable(now.as_deref(), id)
            }
        }
    }

    fn known(&self) -> Option<Arc<Keys>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A key of those that are here, while they are not too old to be trusted.
    fn usable(&self, keys: Option<&Keys>, id: Option<&str>) -> Result<Option<Key>, Failure> {
        match keys.filter(|keys| keys.fetched.elapsed() < self.options.keys_stale) {
            Some(keys) => Ok(keys.get(id)),
            None => Err("there are no keys of the JWT issuer".into()),
        }
    }
}

impl Keys {
    fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let set: JwkSet = serde_json::from_str(text)?;
        let signs = |jwk: &&Jwk| {
            jwk.common.public_key_use.as_ref().is_none_or(|use_| *use_ == PublicKeyUse::Signature)
        };
        let mut keys = Vec::new();
        for jwk in set.keys.iter().filter(signs) {
            match DecodingKey::from_jwk(jwk) {
                Ok(decoding) => {
                    let algorithm = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
                    let key = Key { decoding: Arc::new(decoding), algorithm };
                    keys.push((jwk.common.key_id.clone(), key));
                }
                Err(error) => tracing::warn!(%error, "a key of the JWT issuer cannot be read"),
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
        ErrorKind::InvalidAudience => "a JWT for somebody else",
        ErrorKind::InvalidSignature => "a JWT whose signature is wrong",
        ErrorKind::Json(_) => "a JWT without a session id in sid",
        _ => "a JWT that does not fit",
    }
}
