//! The path that every request takes.
//!
//! A cached session is answered by a plain function: no await, no boxed future, no lock held
//! across anything. What the cache cannot or may not answer becomes a [`Lookup`], which asks
//! the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use session_core::planted::{self, Defect};
use session_core::rotation::Recognition;
use session_core::{EndCause, SessionId, StoreError, Timestamp, Token};
use tokio::time::Instant;

use crate::ending::{Ending, Over, Past, Record, Remembered};
use crate::entry::{Access, CurrentSession, Entry, Shown};
use crate::error::Error;
use crate::follower;
use crate::load::Load;
use crate::manager::SessionManager;
use crate::meter;
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

/// Why a token is worth nothing. For logs and metrics; a client learns none of it but, with one of the
/// session's own tokens, how the session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Not of a token's form, or made by no node of this fleet.
    Malformed,
    /// No such session.
    Unknown,
    /// A session of this id, but not its token.
    WrongSecret,
    /// The session ended.
    Ended(Arc<Ending>),
    /// The session is past its idle timeout, as far as this node knows, and ends so within seconds. It
    /// goes on if a use of it arrives that another node has accepted before.
    Idle(Arc<Ending>),
    /// Replaced by a rotation, too old to be used, too young to prove theft.
    Superseded,
}

impl Refusal {
    /// Why the session ended, where that is the reason.
    pub fn end_cause(&self) -> Option<EndCause> {
        match self {
            Self::Ended(ending) => Some(ending.cause),
            _ => None,
        }
    }
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
    /// When the request came: reading its session takes nothing from the grace of its token.
    asked: Instant,
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

    /// The best that is shown, and what it is worth.
    fn recognise(&self, entry: &Entry, grace: Duration, now: Timestamp) -> Recognition {
        let judge = |token: &Token| entry.session.token.recognise(token, grace, now);
        match self {
            Self::Token(token) => judge(token),
            Self::Tokens(tokens) => {
                let found = tokens.iter().map(judge);
                found.min_by_key(|found| worth(*found)).unwrap_or(Recognition::Unknown)
            }
            Self::Id(_) => Recognition::Current,
        }
    }

    fn tokens(&self) -> &[Token] {
        match self {
            Self::Token(token) => std::slice::from_ref(token),
            Self::Tokens(tokens) => tokens,
            Self::Id(_) => &[],
        }
    }
}

/// The best first.
const fn worth(recognition: Recognition) -> u8 {
    match recognition {
        Recognition::StepUp => 0,
        Recognition::Successor => 1,
        Recognition::Current => 2,
        Recognition::InGrace => 3,
        Recognition::Superseded => 4,
        Recognition::Reused => 5,
        Recognition::Unknown => 6,
    }
}

impl SessionManager {
    /// Judges a token from the cache.
    pub fn check(&self, token: &[u8], access: Access) -> Check {
        match Token::parse(token) {
            Some(token) => self.check_token(token, access),
            None => self.malformed(),
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
            return self.malformed();
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

    /// The session of an earlier answer as it is now, for a connection that outlives its request. A
    /// re-authentication since then was made with another token, and makes it no fresher.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when only the store could tell and it is away.
    pub async fn validate_again(
        &self,
        before: &CurrentSession,
        access: Access,
    ) -> Result<Verdict, Error> {
        Ok(match self.validate_id(before.id(), access).await? {
            Verdict::Active(now) => Verdict::Active(now.by_token_of(before)),
            refused @ Verdict::Refused(_) => refused,
        })
    }

    /// Counts an access of a session that has been judged without one.
    pub fn note_access(&self, session: &CurrentSession, access: &Access) {
        let (shared, entry) = (self.shared(), &session.entry);
        let now = shared.now();
        shared.queue.apply(entry.access(access, now), entry, now);
    }

    fn judge(&self, claim: Claim, access: Access) -> Check {
        match judge_cached(self.shared(), &claim, &access) {
            Some(verdict) => {
                self.shared().checks.answered(&verdict);
                Check::Answered(verdict)
            }
            None => {
                let (manager, asked) = (self.clone(), Instant::now());
                Check::NotCached(Lookup { manager, claim, access, asked })
            }
        }
    }

    fn malformed(&self) -> Check {
        let verdict = Verdict::Refused(Refusal::Malformed);
        self.shared().checks.answered(&verdict);
        Check::Answered(verdict)
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

    /// Asks the store. Lookups of one session that run side by side ask once. This takes no longer than
    /// [`Options::store_timeout`](crate::Options::store_timeout) and, with a claims provider,
    /// [`Options::claims_timeout`](crate::Options::claims_timeout).
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away and the cache may not answer in its place.
    pub async fn resolve(self) -> Result<Verdict, Error> {
        let verdict = self.ask().await;
        meter::resolved(&verdict);
        verdict
    }

    async fn ask(self) -> Result<Verdict, Error> {
        let Self { manager, claim, access, asked } = self;
        let shared = manager.shared();
        let deadline = shared.request_deadline();
        if let Some(verdict) = manager.hear_and_judge(&claim, &access).await {
            return Ok(verdict);
        }
        let id = claim.session_id();
        if shared.cache.ended(&id).is_some() {
            return manager.why_gone(&claim, deadline).await.map(Verdict::Refused);
        }
        let read = || async {
            let load = shared.before(deadline, "load", manager.load(id)).await?;
            // What the store has of the session cannot be judged by a time that may be hours behind.
            if !shared.is_fresh() && shared.time.may_be_wrong() {
                return Err(Error::from(StoreError::unavailable("the fleet's time is not known")));
            }
            Ok(load)
        };
        let mut load = match read().await {
            Err(error) if error.is_unavailable() => {
                let unknown = Verdict::Refused(Refusal::Unknown);
                let refused = planted::is(Defect::OutageIsRefusal).then_some(unknown);
                return stale(shared, &claim, &access).or(refused).ok_or(error);
            }
            load => load?,
        };
        let trusts_joined = planted::is(Defect::JoinedReadTrusted);
        // What a shared load read may be older than this request.
        if load.joined
            && !trusts_joined
            && !matches!(judge_loaded(shared, &load, &claim, asked), Finding::Good(_))
        {
            load = read().await?;
        }
        let mut finding = judge_loaded(shared, &load, &claim, asked);
        let mut ends = 0;
        loop {
            match finding {
                // Where it cannot be confirmed, the token is good; its next use is tried again.
                Finding::Good(Shown::Successor | Shown::StepUp) => {
                    if planted::is(Defect::ConfirmSkipped) {
                        break;
                    }
                    let (own, tokens) = (manager.clone(), claim.tokens().to_vec());
                    let confirm = async move { own.confirm(id, &tokens).await };
                    let confirm = shared.detached(confirm);
                    match shared.before(deadline, "commit", confirm).await {
                        Err(error) if error.is_unavailable() => break,
                        confirmed => confirmed?,
                    }
                }
                Finding::Over(over) => {
                    ends += 1;
                    let own = manager.clone();
                    let end = shared.detached(async move { own.end_over(id, over, ends).await });
                    if shared.before(deadline, "end_many", end).await? {
                        break;
                    }
                    // It was used since it was read, or is gone.
                }
                _ => break,
            }
            load = match read().await {
                // Confirmed: it is good whatever else can be read.
                Err(error) if error.is_unavailable() && matches!(finding, Finding::Good(_)) => {
                    break;
                }
                load => load?,
            };
            finding = judge_loaded(shared, &load, &claim, asked);
        }
        match (finding, load.entry) {
            (Finding::Good(shown), Some(entry)) => {
                Ok(active(shared, entry, shown, &access, shared.now()))
            }
            (Finding::Bad(refusal), _) => Ok(Verdict::Refused(refusal)),
            (Finding::Over(_) | Finding::Gone | Finding::Good(_), _) => {
                Ok(Verdict::Refused(manager.why_gone(&claim, deadline).await?))
            }
        }
    }
}

impl SessionManager {
    /// A node that may not trust its cache reads the log first; then the cache may answer again.
    async fn hear_and_judge(&self, claim: &Claim, access: &Access) -> Option<Verdict> {
        let shared = self.shared();
        if shared.is_fresh() {
            return None;
        }
        // While the store is known to be away, no request has to wait for it.
        let away = shared.unheard.load(Ordering::Acquire);
        if away && let Some(verdict) = stale(shared, claim, access) {
            return Some(verdict);
        }
        // The other half is for reading the session, where the log cannot be read.
        let half = Instant::now() + shared.options.store_timeout / 2;
        shared.before(half, "log_since", follower::hear(shared)).await.ok()?;
        judge_cached(shared, claim, access)
    }

    /// What a client with this token may be told of a session that is not there.
    pub(crate) async fn why_ended(&self, token: &Token) -> Result<Refusal, Error> {
        self.why_gone(&Claim::Token(token.clone()), self.shared().request_deadline()).await
    }

    /// What a client with this claim may be told of a session that is not there. How it has ended, the
    /// history says; where it does not answer soon, the client is told nothing.
    async fn why_gone(&self, claim: &Claim, deadline: Instant) -> Result<Refusal, Error> {
        let shared = self.shared();
        if let Some(refusal) = remembered(shared, claim) {
            return Ok(refusal);
        }
        let soon = Instant::now() + shared.options.store_timeout / 4;
        let read = self.read_ending(claim.session_id());
        match shared.before(soon.min(deadline), "ended", read).await {
            Err(error) if error.is_unavailable() => Ok(Refusal::Unknown),
            record => Ok(record?.map_or(Refusal::Unknown, |record| tell(&record, claim))),
        }
    }
}

/// The cache's own answer; none where the store has to be asked.
fn judge_cached(shared: &Shared, claim: &Claim, access: &Access) -> Option<Verdict> {
    let id = claim.session_id();
    let Some(now) = shared.fresh_now() else {
        return is_foreign(shared, claim).then_some(Verdict::Refused(Refusal::Malformed));
    };
    let Some(entry) = shared.cache.get(&id) else {
        return absent(shared, claim, now).map(Verdict::Refused);
    };
    match judge(&entry, claim, shared.options.rotation_grace, now) {
        Finding::Good(Shown::Successor | Shown::StepUp) => None,
        Finding::Good(shown) => Some(active(shared, entry, shown, access, now)),
        // A guess is refused at once; a token of the family may be newer than this copy.
        Finding::Bad(Refusal::WrongSecret) if !is_of_family(&entry, claim) => {
            Some(Verdict::Refused(Refusal::WrongSecret))
        }
        Finding::Bad(Refusal::Idle(_)) | Finding::Over(_)
            if planted::is(Defect::IdleUnverified) && entry.expired(now) =>
        {
            Some(Verdict::Refused(Refusal::Unknown))
        }
        Finding::Bad(_) | Finding::Over(_) | Finding::Gone => None,
    }
}

fn is_of_family(entry: &Entry, claim: &Claim) -> bool {
    claim.tokens().iter().any(|token| entry.session.token.same_family(token))
}

/// Whether no node of this fleet has made any of the tokens.
fn is_foreign(shared: &Shared, claim: &Claim) -> bool {
    let tokens = claim.tokens();
    !tokens.is_empty() && !tokens.iter().any(|token| token.is_of_fleet(&shared.fleet_key))
}

/// What is known of a session that is not in the cache.
fn absent(shared: &Shared, claim: &Claim, now: Timestamp) -> Option<Refusal> {
    if is_foreign(shared, claim) {
        return Some(Refusal::Malformed);
    }
    let unknown = || shared.cache.is_unknown(&claim.session_id(), now).then_some(Refusal::Unknown);
    remembered(shared, claim).or_else(unknown)
}

/// How the session ended, where this node remembers it and the claim may know.
fn remembered(shared: &Shared, claim: &Claim) -> Option<Refusal> {
    match shared.cache.ended(&claim.session_id())? {
        Remembered::Record(record) => Some(tell(&record, claim)),
        Remembered::Cause(_) => None,
    }
}

/// What the claim may know of how the session ended.
fn tell(record: &Record, claim: &Claim) -> Refusal {
    let told = match claim {
        Claim::Id(_) => Some(record.tell_known()),
        Claim::Token(_) | Claim::Tokens(_) => record.tell(claim.tokens()),
    };
    told.map_or(Refusal::Unknown, Refusal::Ended)
}

/// What a record says about a token.
enum Finding {
    Good(Shown),
    Bad(Refusal),
    /// The session is not there.
    Gone,
    /// The session has to end.
    Over(Over),
}

fn judge(entry: &Entry, claim: &Claim, grace: Duration, now: Timestamp) -> Finding {
    let shown = match claim.recognise(entry, grace, now) {
        Recognition::Current => Shown::Current,
        Recognition::Successor => Shown::Successor,
        Recognition::StepUp => Shown::StepUp,
        Recognition::InGrace => Shown::Retired,
        Recognition::Reused => return Finding::Over(Over::THEFT),
        Recognition::Superseded => return Finding::Bad(Refusal::Superseded),
        Recognition::Unknown => return Finding::Bad(Refusal::WrongSecret),
    };
    match entry.past(now) {
        None => Finding::Good(shown),
        Some(Past::Idle(ending)) => Finding::Bad(Refusal::Idle(ending)),
        Some(Past::Over(over)) => Finding::Over(over),
    }
}

fn judge_loaded(shared: &Shared, load: &Load, claim: &Claim, asked: Instant) -> Finding {
    let grace = shared.options.rotation_grace + asked.elapsed();
    let judge = |entry: &Arc<Entry>| judge(entry, claim, grace, shared.now());
    load.entry.as_ref().map_or(Finding::Gone, judge)
}

fn active(
    shared: &Shared,
    entry: Arc<Entry>,
    shown: Shown,
    access: &Access,
    now: Timestamp,
) -> Verdict {
    let effect = entry.access(access, now);
    shared.queue.apply(effect, &entry, now);
    Verdict::Active(CurrentSession::new(entry, shown))
}

/// The store is away: the cache answers if the options say so, and only for good tokens.
fn stale(shared: &Shared, claim: &Claim, access: &Access) -> Option<Verdict> {
    let entry = shared.cache.get(&claim.session_id()).filter(|_| shared.may_serve_stale())?;
    let now = shared.now();
    match judge(&entry, claim, shared.options.rotation_grace, now) {
        Finding::Good(shown) => Some(active(shared, entry, shown, access, now)),
        _ => None,
    }
}
