//! Whom a request belongs to.

use session_engine::{CurrentSession, Lookup, Verdict};

use crate::problem::Problem;

/// Whom a request belongs to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Identity {
    /// Without a session.
    Anonymous,
    /// To a session.
    Session(CurrentSession),
    /// It carries a token of which nothing can be said right now: answer 503, never 401.
    Unavailable,
}

impl Identity {
    /// The session, if there is one.
    pub const fn session(&self) -> Option<&CurrentSession> {
        match self {
            Self::Session(session) => Some(session),
            Self::Anonymous | Self::Unavailable => None,
        }
    }

    /// The session, if there is one; 503 where nothing can be said.
    pub(crate) fn known(&self) -> Result<Option<&CurrentSession>, Problem> {
        match self {
            Self::Session(session) => Ok(Some(session)),
            Self::Anonymous => Ok(None),
            Self::Unavailable => Err(Problem::unavailable()),
        }
    }
}

impl From<Verdict> for Identity {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Active(session) => Self::Session(session),
            Verdict::Refused(_) => Self::Anonymous,
        }
    }
}

/// The answer to "whose request is this?".
#[derive(Debug)]
#[must_use = "a pending identity has to be resolved"]
pub enum Identified {
    /// Known without asking the store.
    Now(Identity),
    /// The store has to be asked.
    Pending(PendingIdentity),
}

impl Identified {
    /// The identity, from the store where it is not known yet.
    pub async fn resolve(self) -> Identity {
        match self {
            Self::Now(identity) => identity,
            Self::Pending(pending) => pending.resolve().await,
        }
    }
}

/// An identity for which the store has to be asked.
#[derive(Debug)]
#[must_use = "a pending identity has to be resolved"]
pub struct PendingIdentity(pub(crate) Lookup);

impl PendingIdentity {
    /// Asks the store.
    pub async fn resolve(self) -> Identity {
        match self.0.resolve().await {
            Ok(verdict) => verdict.into(),
            Err(error) => {
                tracing::warn!(%error, "a session could not be checked");
                Identity::Unavailable
            }
        }
    }
}
