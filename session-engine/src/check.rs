//! The path that every request takes.
//!
//! A cached session is answered by a plain function: no await, no boxed future, no lock held
//! across anything. Whatever the cache cannot or may not answer becomes a [`Lookup`], which asks
//! the store.

use std::sync::Arc;

use session_core::rotation::Recognition;
use session_core::store::{Selection, TenantFilter};
use session_core::{Actor, EndCause, SessionId, Timestamp, Token};

use crate::entry::{Access, CurrentSession, Entry};
use crate::error::Error;
use crate::load::Load;
use crate::manager::SessionManager;
use crate::shared::Shared;

/// What a token is worth.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The request belongs to this session.
    Active(CurrentSession),
    /// The request is anonymous.
    Refused(Refusal),
}

impl Verdict {
    /// The session, where there is one.
    pub fn session(self) -> Option<CurrentSession> {
        match self {
            Self::Active(session) => Some(session),
            Self::Refused(_) => None,
        }
    }
}

/// Why a token is worth nothing. For logs and metrics; a client learns none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Not of a token's form.
    Malformed,
    /// No such session.
    Unknown,
    /// A session of this id, but not its token.
    WrongSecret,
    /// The session ended.
    Ended(EndCause),
    /// Replaced by a rotation, too old to be used, too young to prove theft.
    Superseded,
}

/// The answer of the cache.
#[derive(Debug)]
#[must_use = "a lookup has to be resolved"]
pub enum Check {
    /// Answered.
    Answered(Verdict),
    /// The store has to be asked.
    NotCached(Lookup),
}

impl Check {
    /// The verdict, from the store where the cache does not suffice.
    ///
    /// # Errors
    /// As [`Lookup::resolve`].
    pub async fn resolve(self) -> Result<Verdict, Error> {
        match self {
            Self::Answered(verdict) => Ok(verdict),
            Self::NotCached(lookup) => lookup.resolve().await,
        }
    }
}

/// A check that has to ask the store.
#[derive(Debug)]
#[must_use = "a lookup has to be resolved"]
pub struct Lookup {
    manager: SessionManager,
    claim: Claim,
    access: Access,
}

/// What a request shows for its session.
#[derive(Clone, Debug)]
enum Claim {
    Token(Token),
    /// Tokens of one session that one client shows together. The best of them counts: a client that
    /// holds the current token did not steal the others.
    Tokens(Vec<Token>),
    /// The application has made sure that the request belongs to it.
    Id(SessionId),
}

impl Claim {
    fn session_id(&self) -> SessionId {
        match self {
            Self::Token(token) => token.session_id(),
            Self::Tokens(tokens) => tokens[0].session_id(),
            Self::Id(id) => *id,
        }
    }

    fn recognise(&self, entry: &Entry, shared: &Shared, now: Timestamp) -> Recognition {
        let judge = |token: &Token| {
            entry.session.token.recognise(token, shared.options.rotation_grace, now)
        };
        match self {
            Self::Token(token) => judge(token),
            Self::Tokens(tokens) => {
                let mut found = tokens.iter().map(judge);
                let good = |found: &Recognition| {
                    matches!(found, Recognition::Current | Recognition::InGrace)
                };
                found.clone().find(good).or_else(|| found.next()).unwrap_or(Recognition::Unknown)
            }
            Self::Id(_) => Recognition::Current,
        }
    }
}

impl SessionManager {
    /// Judges a token from the cache.
    pub fn check(&self, token: &[u8], access: Access) -> Check {
        match Token::parse(token) {
            Some(token) => self.check_token(token, access),
            None => Check::Answered(Verdict::Refused(Refusal::Malformed)),
        }
    }

    /// As [`SessionManager::check`], for a token that has been parsed.
    pub fn check_token(&self, token: Token, access: Access) -> Check {
        self.judge(Claim::Token(token), access)
    }

    /// Judges, from the cache, tokens that one client shows together, as a browser does that holds two
    /// cookies of one name. Those of another session than the first one's do not count.
    pub fn check_all(&self, tokens: &[&[u8]], access: Access) -> Check {
        let mut tokens: Vec<_> = tokens.iter().filter_map(|token| Token::parse(token)).collect();
        let Some(id) = tokens.first().map(Token::session_id) else {
            return Check::Answered(Verdict::Refused(Refusal::Malformed));
        };
        tokens.retain(|token| token.session_id() == id);
        self.judge(Claim::Tokens(tokens), access)
    }

    /// Judges, from the cache, a session of which the application knows by its own means that the
    /// request belongs to it: by a signed document that names the session id, say. An id alone
    /// proves nothing: never take one that a client sent as it is.
    pub fn check_id(&self, id: SessionId, access: Access) -> Check {
        self.judge(Claim::Id(id), access)
    }

    fn judge(&self, claim: Claim, access: Access) -> Check {
        match judge_cached(self.shared(), &claim, &access) {
            Some(verdict) => Check::Answered(verdict),
            None => Check::NotCached(Lookup { manager: self.clone(), claim, access }),
        }
    }

    /// Judges a token from the cache or, where that does not suffice, from the store.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when only the store could tell and it is away.
    pub async fn validate(&self, token: &[u8], access: Access) -> Result<Verdict, Error> {
        self.check(token, access).resolve().await
    }

    /// As [`SessionManager::check_id`], from the store where the cache does not suffice.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when only the store could tell and it is away.
    pub async fn validate_id(&self, id: SessionId, access: Access) -> Result<Verdict, Error> {
        self.check_id(id, access).resolve().await
    }
}

impl Lookup {
    /// The session that was asked for.
    pub fn session_id(&self) -> SessionId {
        self.claim.session_id()
    }

    /// Asks the store. Lookups of one session that run side by side ask once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away and the cache may not answer in its place.
    pub async fn resolve(self) -> Result<Verdict, Error> {
        let Self { manager, claim, access } = self;
        let shared = manager.shared();
        let mut load = match manager.load(claim.session_id()).await {
            Err(error) if error.is_unavailable() => return serve_stale(shared, &claim, error),
            load => load?,
        };
        // What a shared load read may be older than this request.
        if load.joined && !matches!(judge_loaded(shared, &load, &claim), Finding::Good(_)) {
            load = manager.load(claim.session_id()).await?;
        }
        match judge_loaded(shared, &load, &claim) {
            Finding::Good(entry) => Ok(active(shared, entry, &access, shared.now())),
            Finding::Bad(refusal) => Ok(Verdict::Refused(refusal)),
            Finding::Over(cause) => {
                let selection = Selection::session(claim.session_id(), TenantFilter::Any);
                manager.end_all(selection, cause, Actor::System).await?;
                Ok(Verdict::Refused(Refusal::Ended(cause)))
            }
        }
    }
}

/// The cache's own answer; none where the store has to be asked.
fn judge_cached(shared: &Shared, claim: &Claim, access: &Access) -> Option<Verdict> {
    let id = claim.session_id();
    let now = shared.now();
    if !shared.is_fresh(now) {
        return None;
    }
    let Some(entry) = shared.cache.get(&id) else {
        return absent(shared, claim, now).map(Verdict::Refused);
    };
    match judge(shared, &entry, claim, now) {
        Finding::Good(()) => Some(active(shared, entry, access, now)),
        // A guess is refused at once; a token of the family may be newer than this copy.
        Finding::Bad(Refusal::WrongSecret) if !is_of_family(&entry, claim) => {
            Some(Verdict::Refused(Refusal::WrongSecret))
        }
        Finding::Bad(_) | Finding::Over(_) => None,
    }
}

fn is_of_family(entry: &Entry, claim: &Claim) -> bool {
    match claim {
        Claim::Token(token) => entry.session.token.same_family(token),
        Claim::Tokens(tokens) => tokens.iter().any(|token| entry.session.token.same_family(token)),
        Claim::Id(_) => false,
    }
}

fn absent(shared: &Shared, claim: &Claim, now: Timestamp) -> Option<Refusal> {
    let id = claim.session_id();
    let ended = shared.cache.end_cause(&id).map(Refusal::Ended);
    ended.or_else(|| shared.cache.is_unknown(&id, now).then_some(Refusal::Unknown))
}

/// What a record says about a token.
enum Finding<T> {
    Good(T),
    Bad(Refusal),
    /// The session has to end for this cause.
    Over(EndCause),
}

fn judge(shared: &Shared, entry: &Entry, claim: &Claim, now: Timestamp) -> Finding<()> {
    let options = &shared.options;
    match claim.recognise(entry, shared, now) {
        Recognition::Current | Recognition::InGrace if entry.expired(options, now) => {
            Finding::Over(EndCause::Expired)
        }
        Recognition::Current | Recognition::InGrace => Finding::Good(()),
        Recognition::Reused => Finding::Over(EndCause::TokenReused),
        Recognition::Superseded => Finding::Bad(Refusal::Superseded),
        Recognition::Unknown => Finding::Bad(Refusal::WrongSecret),
    }
}

fn judge_loaded(shared: &Shared, load: &Load, claim: &Claim) -> Finding<Arc<Entry>> {
    let Some(entry) = &load.entry else {
        let cause = shared.cache.end_cause(&claim.session_id());
        return Finding::Bad(cause.map_or(Refusal::Unknown, Refusal::Ended));
    };
    match judge(shared, entry, claim, shared.now()) {
        Finding::Good(()) => Finding::Good(Arc::clone(entry)),
        Finding::Bad(refusal) => Finding::Bad(refusal),
        Finding::Over(cause) => Finding::Over(cause),
    }
}

fn active(shared: &Shared, entry: Arc<Entry>, access: &Access, now: Timestamp) -> Verdict {
    let effect = entry.access(access, &shared.options, now);
    shared.queue.apply(effect, &entry);
    Verdict::Active(CurrentSession(entry))
}

/// The store is away: the cache answers if the options say so, and only for good tokens.
fn serve_stale(shared: &Shared, claim: &Claim, error: Error) -> Result<Verdict, Error> {
    let now = shared.now();
    let entry = shared.cache.get(&claim.session_id()).filter(|_| shared.may_serve_stale(now));
    match entry.map(|entry| (judge(shared, &entry, claim, now), entry)) {
        Some((Finding::Good(()), entry)) => Ok(Verdict::Active(CurrentSession(entry))),
        _ => Err(error),
    }
}
