//! What happened, to whom, by whom and why.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::field::{InvalidField, SessionId, TenantId, UserId};
use crate::time::Timestamp;

/// One entry of the log that every node follows, and of the stream that an application hears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// What happened.
    #[serde(serialize_with = "display")]
    pub kind: EventKind,
    /// When, by the clock of the node that did it.
    pub at: Timestamp,
    /// Who did it.
    #[serde(serialize_with = "display")]
    pub by: Actor,
    /// The tenant concerned; none for a deployment without tenants.
    pub tenant: Option<TenantId>,
    /// The user concerned; none for a policy of a tenant or of the deployment.
    pub user: Option<UserId>,
    /// The session concerned; none where a policy changed.
    #[serde(rename = "session_id")]
    pub session: Option<SessionId>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A session began.
    Created,
    /// A session ended; the cause says why.
    Ended(EndCause),
    /// A session's token was replaced.
    Rotated,
    /// The claims of a session's user changed; nodes ask for them again.
    ClaimsChanged,
    /// A policy of the deployment, a tenant or a user changed.
    PolicyChanged,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndCause {
    /// A policy decided so at another sign-in.
    Evicted,
    /// A user, an admin or the application said so.
    Revoked,
    /// A timeout or the cleanup rule said so.
    Expired,
    /// Its own user signed out.
    SignedOut,
    /// The same browser signed in again.
    Replaced,
    /// A retired token was used after its grace: somebody holds a stolen copy.
    TokenReused,
}

impl EndCause {
    /// The word in the log, in events and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::SignedOut => "signed_out",
            Self::Replaced => "replaced",
            Self::TokenReused => "token_reused",
        }
    }
}

impl EventKind {
    /// Every kind there is.
    pub const ALL: [Self; 10] = [
        Self::Created,
        Self::Ended(EndCause::Evicted),
        Self::Ended(EndCause::Revoked),
        Self::Ended(EndCause::Expired),
        Self::Ended(EndCause::SignedOut),
        Self::Ended(EndCause::Replaced),
        Self::Ended(EndCause::TokenReused),
        Self::Rotated,
        Self::ClaimsChanged,
        Self::PolicyChanged,
    ];

    /// Whether a cached session is wrong once this has happened to it.
    pub const fn invalidates(self) -> bool {
        match self {
            Self::Ended(_) | Self::Rotated | Self::ClaimsChanged => true,
            Self::Created | Self::PolicyChanged => false,
        }
    }

    /// The word in the log, in events and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Ended(cause) => cause.as_str(),
            Self::Rotated => "rotated",
            Self::ClaimsChanged => "claims_changed",
            Self::PolicyChanged => "policy_changed",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = InvalidField;

    fn from_str(word: &str) -> Result<Self, InvalidField> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == word);
        known.ok_or(InvalidField::malformed("kind", "an event kind"))
    }
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Actor {
    /// session-kit itself: a policy, a timeout, the cleanup worker.
    System,
    /// The embedding application.
    Application,
    /// A signed-in user: the owner of the session or an admin.
    User(UserId),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Application => f.write_str("application"),
            Self::User(user) => write!(f, "user:{user}"),
        }
    }
}

impl FromStr for Actor {
    type Err = InvalidField;

    /// Reads what `Display` has written, as stores keep it.
    fn from_str(text: &str) -> Result<Self, InvalidField> {
        match text {
            "system" => Ok(Self::System),
            "application" => Ok(Self::Application),
            _ => match text.strip_prefix("user:") {
                Some(user) => UserId::from_stored(user).map(Self::User),
                None => Err(InvalidField::malformed("by", "an actor")),
            },
        }
    }
}

fn display<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        let user = Actor::User(UserId::new("system").unwrap());
        for actor in [Actor::System, Actor::Application, user] {
            assert_eq!(actor.to_string().parse(), Ok(actor));
        }
        assert!("nobody".parse::<Actor>().is_err());
        assert!("".parse::<EventKind>().is_err());
    }
}
