//! What a problem tells of a sign-in that the engine has refused.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use session_core::BlockReason;
use session_engine::{Blocked, TooManySessions};

use crate::api::SessionView;
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
                reason: blocked.reason.as_ref(),
                until: blocked.until.map(|until| until.to_string()),
            }
            .serialize(serializer),
        }
    }
}

#[derive(Serialize)]
struct TooManyView {
    ticket: String,
    sessions: Vec<SessionView>,
}

#[derive(Serialize)]
struct BlockedView<'b> {
    reason: Option<&'b BlockReason>,
    until: Option<String>,
}
