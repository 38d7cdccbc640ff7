//! The path that every request takes.
//!
//! A cached session is answered by a plain function: no await, no boxed future, no lock held
//! across anything. What the cache cannot or may not answer becomes a [`Lookup`].

use std::sync::Arc;
use std::time::Duration;

use session_core::planted::{self, Defect};
use session_core::rotation::Recognition;
use session_core::{EndCause, SessionId, Timestamp, Token};

use crate::ending::{Ending, Over, Past, Record, Remembered};
use crate::entry::{Access, ActiveSession, Entry, Shown};
use crate::error::Error;
use crate::lookup::Lookup;
use crate::node::Node;
use crate::shared::Shared;

/// What a token is worth.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The request belongs to this session.
    Active(ActiveSession),
    /// The request is anonymous.
    Refused(Refusal),
}

impl Verdict {
    /// The session, where there is one.
    pub fn session(self) -> Option<ActiveSession> {
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
    /// The session is past its idle timeout, as far as this node knows, and ends within seconds. It goes on
    /// if a use arrives that another node accepted before the timeout. Also a session past any timeout while
    /// the token of a re-authentication waits for its first use: that token is good, and others are refused.
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

/// What a request shows for its session.
#[derive(Clone, Debug)]
pub(crate) enum Claim {
    Token(Token),
    /// Tokens of one session that one client shows together. The best of them counts: a client that
    /// holds the current token did not steal the others.
    Tokens(Vec<Token>),
    /// The application has made sure that the request belongs to it.
    Id(SessionId),
}

impl Claim {
    /// The tokens of the session that the first well-formed one names; none where none is well-formed.
    pub(crate) fn of(tokens: &[&[u8]]) -> Option<Self> {
        let mut tokens: Vec<_> = tokens.iter().filter_map(|token| Token::parse(token)).collect();
        let id = tokens.first()?.session_id();
        tokens.retain(|token| token.session_id() == id);
        Some(Self::Tokens(tokens))
    }

    pub(crate) fn session_id(&self) -> SessionId {
        match self {
            Self::Token(token) => token.session_id(),
            Self::Tokens(tokens) => tokens[0].session_id(),
            Self::Id(id) => *id,
        }
    }

    /// What the best that is shown is worth.
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

    pub(crate) fn tokens(&self) -> &[Token] {
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

impl Node {
    pub(crate) fn check(&self, token: &[u8], access: Access) -> Check {
        match Token::parse(token) {
            Some(token) => self.check_token(token, access),
            None => self.malformed(),
        }
    }

    pub(crate) fn check_token(&self, token: Token, access: Access) -> Check {
        self.judge(Claim::Token(token), access)
    }

    pub(crate) fn check_all(&self, tokens: &[&[u8]], access: Access) -> Check {
        match Claim::of(tokens) {
            Some(claim) => self.judge(claim, access),
            None => self.malformed(),
        }
    }

    pub(crate) fn check_id(&self, id: SessionId, access: Access) -> Check {
        self.judge(Claim::Id(id), access)
    }

    pub(crate) async fn validate_again(
        &self,
        before: &ActiveSession,
        access: Access,
    ) -> Result<Verdict, Error> {
        Ok(match self.check_id(before.id(), access).resolve().await? {
            Verdict::Active(now) => Verdict::Active(now.by_token_of(before)),
            refused @ Verdict::Refused(_) => refused,
        })
    }

    pub(crate) fn note_access(&self, session: &ActiveSession, access: &Access) {
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
            None => Check::NotCached(Lookup::new(self.clone(), claim, access)),
        }
    }

    fn malformed(&self) -> Check {
        let verdict = Verdict::Refused(Refusal::Malformed);
        self.shared().checks.answered(&verdict);
        Check::Answered(verdict)
    }
}

/// The cache's own answer; none where the store has to be asked.
pub(crate) fn judge_cached(shared: &Shared, claim: &Claim, access: &Access) -> Option<Verdict> {
    let id = claim.session_id();
    let Some(now) = shared.fresh_now() else {
        return is_foreign(shared, claim).then_some(Verdict::Refused(Refusal::Malformed));
    };
    let Some(entry) = shared.cache.get(&id) else {
        return absent(shared, claim, now).map(Verdict::Refused);
    };
    match judge(shared, &entry, claim, Duration::ZERO, now) {
        Finding::Good(Shown::Successor | Shown::StepUp(_)) => None,
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
pub(crate) fn remembered(shared: &Shared, claim: &Claim) -> Option<Refusal> {
    match shared.cache.ended(&claim.session_id())? {
        Remembered::Record(record) => Some(tell(&record, claim)),
        Remembered::Cause(_) => None,
    }
}

/// What the claim may know of how the session ended.
pub(crate) fn tell(record: &Record, claim: &Claim) -> Refusal {
    let told = match claim {
        Claim::Id(_) => Some(record.tell_known()),
        Claim::Token(_) | Claim::Tokens(_) => record.tell(claim.tokens()),
    };
    told.map_or(Refusal::Unknown, Refusal::Ended)
}

/// What a record says about a token.
pub(crate) enum Finding {
    Good(Shown),
    Bad(Refusal),
    /// The session is not there.
    Gone,
    /// The session has to end.
    Over(Over),
}

/// The time since the claim was made is added to the grace of its token.
pub(crate) fn judge(
    shared: &Shared,
    entry: &Entry,
    claim: &Claim,
    since: Duration,
    now: Timestamp,
) -> Finding {
    let grace = shared.options.rotation_grace + since;
    let shown = match claim.recognise(entry, grace, now) {
        Recognition::Current => Shown::Current,
        Recognition::Successor => Shown::Successor,
        Recognition::StepUp => {
            let place = |token| entry.session.token.step_up(token);
            Shown::StepUp(claim.tokens().iter().find_map(place).unwrap_or_default())
        }
        Recognition::InGrace => Shown::Retired,
        Recognition::Reused => return Finding::Over(Over::THEFT),
        Recognition::Superseded => return Finding::Bad(Refusal::Superseded),
        Recognition::Unknown => return Finding::Bad(Refusal::WrongSecret),
    };
    let past = match shown.step_up(&entry.session.token) {
        Some(step_up) => entry.past_once_stepped_up(step_up, shared.in_flight(), now),
        None => entry.past(|| shared.in_flight(), now),
    };
    match past {
        None => Finding::Good(shown),
        Some(Past::Idle(ending)) => Finding::Bad(Refusal::Idle(ending)),
        Some(Past::Over(over)) => Finding::Over(over),
    }
}

pub(crate) fn active(
    shared: &Shared,
    entry: Arc<Entry>,
    shown: Shown,
    access: &Access,
    now: Timestamp,
) -> Verdict {
    note_use(shared, &entry, access, now);
    Verdict::Active(ActiveSession::new(entry, shown, now))
}

pub(crate) fn note_use(shared: &Shared, entry: &Arc<Entry>, access: &Access, now: Timestamp) {
    let effect = entry.access(access, now);
    shared.queue.apply(effect, entry, now);
}

/// The store is away: the cache answers if the options say so, and only for good tokens.
pub(crate) fn stale(shared: &Shared, claim: &Claim, access: &Access) -> Option<Verdict> {
    let entry = shared.cache.get(&claim.session_id()).filter(|_| shared.may_serve_stale())?;
    let now = shared.now();
    match judge(shared, &entry, claim, Duration::ZERO, now) {
        Finding::Good(shown) => Some(active(shared, entry, shown, access, now)),
        _ => None,
    }
}
