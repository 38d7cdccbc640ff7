//! Sessions that have to end, and those that have ended: why, and who may be told.

use std::sync::Arc;
use std::time::Duration;

use session_core::planted::{self, Defect};
use session_core::rotation::{self, StepUp};
use session_core::store::{EndedSession, Selection, TenantFilter};
use session_core::usage::Lifetime;
use session_core::{
    Actor, DeviceInfo, EndCause, Session, SessionId, Timestamp, Token, TokenDigest, UserKey,
};

use crate::options::Options;

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ending {
    /// Which session.
    pub id: SessionId,
    /// Whose it was.
    pub owner: UserKey,
    /// Why it ended.
    pub cause: EndCause,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: Actor,
    /// The device from which that was done, where it is known: the one that signed in instead, for an
    /// evicted session.
    pub from: Option<DeviceInfo>,
}

/// What is due for a session that is past a timeout.
#[derive(Debug)]
pub(crate) enum Past {
    /// It is refused, and would end so. A use of it may still be on its way to the store.
    Idle(Arc<Ending>),
    /// It ends.
    Over(Over),
}

/// Why a session has to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Over {
    cause: EndCause,
    /// It stays where the store knows of an access at or after this.
    unused_since: Option<Timestamp>,
}

/// The last use of a session, as far as a node knows, and when it looks.
#[derive(Clone, Copy)]
pub(crate) struct LastUse {
    pub(crate) at: Timestamp,
    /// How long a later one may be on its way to the store.
    pub(crate) in_flight: Duration,
    pub(crate) now: Timestamp,
}

impl LastUse {
    /// What is due for the session; none where it is past no timeout. Where a re-authentication is pending,
    /// whose use starts the timeouts again, the session is refused by other tokens, and does not end.
    pub(crate) fn past(self, session: &Session, options: &Options) -> Option<Past> {
        let past = self.past_timeouts(session, options)?;
        let goes_on = |step_up| self.past_once_stepped_up(session, step_up, options).is_none();
        let is_kept = matches!(past, Past::Over(_)) && session.token.step_ups.iter().any(goes_on);
        Some(if is_kept { Past::Idle(Arc::new(Ending::of_idle(session, self.now))) } else { past })
    }

    /// As [`LastUse::past`], by the token of this re-authentication, which is still to be used.
    pub(crate) fn past_once_stepped_up(
        self,
        session: &Session,
        step_up: &StepUp,
        options: &Options,
    ) -> Option<Past> {
        let used = rotation::stepped_up(session, step_up, &options.timeouts, self.now);
        let at = self.at.max(step_up.handed_out());
        Self { at, ..self }.past_timeouts(&used, options)
    }

    fn past_timeouts(self, session: &Session, options: &Options) -> Option<Past> {
        let (timeouts, expiry) = (options.timeouts_of(session), session.absolute_expiry);
        let expired = |unused_since| Past::Over(Over { cause: EndCause::Expired, unused_since });
        let at_once = planted::is(Defect::IdleEndsAtOnce);
        let in_flight = if at_once { Duration::ZERO } else { self.in_flight };
        match timeouts.lifetime(self.at, expiry, in_flight, self.now) {
            Lifetime::Running => None,
            Lifetime::Idle => {
                let at = timeouts.expiry(self.at, expiry).unwrap_or(self.now);
                Some(Past::Idle(Arc::new(Ending::of_idle(session, at))))
            }
            Lifetime::Unused { since } => Some(expired(Some(since))),
            Lifetime::Over => Some(expired(None)),
        }
    }
}

impl Over {
    /// A replaced token was used after its grace.
    pub(crate) const THEFT: Self = Self { cause: EndCause::TokenReused, unused_since: None };

    pub(crate) const fn cause(&self) -> EndCause {
        self.cause
    }

    /// What to end.
    pub(crate) fn selection(&self, id: SessionId) -> Selection {
        let checked = !planted::is(Defect::UseUnchecked);
        let last_accessed_before = self.unused_since.filter(|_| checked);
        Selection { last_accessed_before, ..Selection::session(id, TenantFilter::Any) }
    }
}

impl Ending {
    /// How a session ends that is idle since then.
    fn of_idle(session: &Session, at: Timestamp) -> Self {
        let (id, owner) = (session.id, session.owner.clone());
        Self { id, owner, cause: EndCause::Expired, at, by: Actor::System, from: None }
    }
}

/// What a node remembers of a session that has ended.
#[derive(Clone, Debug)]
pub(crate) enum Remembered {
    /// That it has.
    Cause(EndCause),
    /// What the history says.
    Record(Arc<Record>),
}

/// What the history says, as far as a node needs it.
#[derive(Debug)]
pub(crate) struct Record {
    ending: Arc<Ending>,
    /// Digest of what all tokens of the session shared: enough to know one, in a third of the memory that its
    /// [`TokenState`](session_core::rotation::TokenState) takes.
    family: TokenDigest,
}

impl Remembered {
    pub(crate) fn cause(&self) -> EndCause {
        match self {
            Self::Cause(cause) => *cause,
            Self::Record(record) => record.ending.cause,
        }
    }
}

impl Record {
    pub(crate) fn new(ended: EndedSession) -> Self {
        let EndedSession { session, ended: at, cause, by, from } = ended;
        let untrue = planted::is(Defect::EvictionUntrue) && cause == EndCause::Evicted;
        let cause = if untrue { EndCause::Revoked } else { cause };
        let (id, owner) = (session.id, session.owner);
        let ending = Arc::new(Ending { id, owner, cause, at, by, from });
        Self { ending, family: session.token.family }
    }

    /// The ending, for a client that shows one of these tokens: an id alone does not prove that the
    /// session was the client's.
    pub(crate) fn tell(&self, tokens: &[Token]) -> Option<Arc<Ending>> {
        let is_of_session = |token: &Token| token.family_digest() == self.family;
        tokens.iter().any(is_of_session).then(|| Arc::clone(&self.ending))
    }

    /// The ending, for a client whom the application knows to be the session's.
    pub(crate) fn tell_known(&self) -> Arc<Ending> {
        Arc::clone(&self.ending)
    }
}
