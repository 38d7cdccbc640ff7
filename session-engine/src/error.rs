//! What can go wrong, as values to act on.

use std::fmt;
use std::sync::Arc;

use session_core::policy::{Limit, PolicyScope};
use session_core::{BlockReason, InvalidField, Session, StoreError, StoreErrorKind, Timestamp};

use crate::ticket::Ticket;

/// Why a call did not do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store cannot confirm anything right now. Nothing is known about the session; a
    /// change may or may not have happened and can be repeated.
    #[error("session state is unavailable")]
    Unavailable(#[source] Arc<StoreError>),
    /// The store answered with a defect: a row that cannot be read, a statement it refused.
    #[error("session state is broken")]
    Broken(#[source] Arc<StoreError>),
    /// The application's claims provider failed.
    #[error("claims are unavailable: {0}")]
    Claims(Arc<str>),
    /// A value does not fit its field.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// A policy refuses the sign-in; nothing was changed.
    #[error("the limit of {} sessions is reached", .0.limit.max)]
    TooManySessions(Box<TooManySessions>),
    /// The user, the tenant or the deployment may not sign in; nothing was changed.
    #[error("{0}")]
    Blocked(Box<Blocked>),
    /// The ticket was used, is too old, or was not made by this fleet, or every session that the limit had
    /// counted has ended.
    #[error("the ticket is not valid")]
    InvalidTicket,
}

/// A limit refuses a sign-in, and the way out (G19).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TooManySessions {
    /// The limit that is reached.
    pub limit: Limit,
    /// The user's sessions, newest sign-in first, at most 200: one of them has to end.
    pub sessions: Vec<Session>,
    /// For [`SessionManager::sign_in_with_ticket`], and for the client that has shown the password only.
    ///
    /// [`SessionManager::sign_in_with_ticket`]: crate::SessionManager::sign_in_with_ticket
    pub ticket: Ticket,
}

/// Where sign-ins are refused, why and until when (G21).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocked {
    /// The widest place that is blocked.
    pub scope: PolicyScope,
    /// Why, in words for the user.
    pub reason: Option<BlockReason>,
    /// From when on sign-in is possible again; none until the block is lifted.
    pub until: Option<Timestamp>,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.scope {
            PolicyScope::Deployment => "sign-in is blocked",
            PolicyScope::Tenant(_) => "sign-in is blocked for this tenant",
            PolicyScope::User(_) => "sign-in is blocked for this user",
        };
        f.write_str(place)?;
        if let Some(until) = self.until {
            write!(f, " until {until}")?;
        }
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

impl Error {
    /// Whether the same call may succeed later.
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Claims(_))
    }

    /// Whether a record cannot be read. Nothing follows from it for any other.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Broken(error) if error.kind() == StoreErrorKind::Corrupt)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::Unavailable => Self::Unavailable(Arc::new(error)),
            _ => Self::Broken(Arc::new(error)),
        }
    }
}
