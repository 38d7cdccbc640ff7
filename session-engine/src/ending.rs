//! Sessions that have ended: why, and who may be told.

use std::sync::Arc;

use session_core::rotation::{Recognition, TokenState};
use session_core::store::EndedSession;
use session_core::{Actor, DeviceInfo, EndCause, SessionId, Timestamp, Token, UserKey};

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ending {
    /// Which session.
    pub id: SessionId,
    /// Whose it was.
    pub owner: UserKey,
    /// Why.
    pub cause: EndCause,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: Actor,
    /// The device from which that was done, where it is known: the one that signed in instead, for an
    /// evicted session.
    pub from: Option<DeviceInfo>,
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
    token: TokenState,
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
        let (id, owner) = (session.id, session.owner);
        let ending = Arc::new(Ending { id, owner, cause, at, by, from });
        Self { ending, token: session.token }
    }

    /// The ending, for a client that shows one of these tokens: an id alone does not prove that the
    /// session was the client's.
    pub(crate) fn tell(&self, tokens: &[Token]) -> Option<Arc<Ending>> {
        let at = self.ending.at;
        let is_of_session = |token: &Token| {
            self.token.recognise(token, std::time::Duration::ZERO, at) != Recognition::Unknown
        };
        tokens.iter().any(is_of_session).then(|| Arc::clone(&self.ending))
    }

    /// The ending, for a client whom the application knows to be the session's.
    pub(crate) fn tell_known(&self) -> Arc<Ending> {
        Arc::clone(&self.ending)
    }
}
