//! What a problem tells of a sign-in that the engine has refused.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use session_engine::{Blocked, TooManySessions};
use utoipa::ToSchema;

use crate::api::SessionView;
use crate::problem::Problem;
use crate::ticket::HandedOver;

/// Why the engine has refused a sign-in.
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    /// A limit is reached; and how the sign-in would have been answered.
    TooManySessions(Arc<TooManySessions>, HandedOver),
    /// The user, the tenant or the deployment is blocked.
    Blocked(Arc<Blocked>),
}

impl Refused {
    pub(crate) fn ticket(&self) -> Option<String> {
        match self {
            Self::TooManySessions(refused, by) => Some(by.mark(&refused.ticket)),
            Self::Blocked(_) => None,
        }
    }
}

impl PartialEq for Refused {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::TooManySessions(one, by), Self::TooManySessions(two, other_by)) => {
                one.ticket == two.ticket && by == other_by
            }
            (Self::Blocked(one), Self::Blocked(two)) => one == two,
            _ => false,
        }
    }
}

impl Eq for Refused {}

impl Serialize for Refused {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::TooManySessions(refused, by) => TooManyView {
                ticket: by.mark(&refused.ticket),
                sessions: refused.sessions.iter().cloned().map(SessionView::listed).collect(),
            }
            .serialize(serializer),
            Self::Blocked(blocked) => BlockedView {
                reason: blocked.reason.as_ref().map(ToString::to_string),
                until: blocked.until.map(|until| until.to_string()),
            }
            .serialize(serializer),
        }
    }
}

/// What a user is told whose sign-in a limit has refused.
#[derive(Serialize, ToSchema)]
pub(crate) struct TooManyView {
    /// For `POST /ticket`, with the session to end: good once and for five minutes. A secret like a
    /// token.
    ticket: String,
    /// The user's sessions, to choose from.
    sessions: Vec<SessionView>,
}

/// What a user is told whose sign-in is blocked.
#[derive(Serialize, ToSchema)]
pub(crate) struct BlockedView {
    /// Why, in words for the user.
    reason: Option<String>,
    /// From when on sign-in is possible again; null until the block is lifted.
    #[schema(format = "date-time")]
    until: Option<String>,
}

/// The problem `urn:session-kit:too-many-sessions`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the problem in the API's description")]
pub(crate) struct TooManySessionsProblem {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    refused: TooManyView,
}

/// The problem `urn:session-kit:blocked`. One of another type has neither `reason` nor `until`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the problem in the API's description")]
pub(crate) struct BlockedProblem {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    refused: BlockedView,
}
