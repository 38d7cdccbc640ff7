//! What happened, to whom, by whom and why.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::field::{InvalidField, SessionId, TenantId, UserId};
use crate::time::Timestamp;

/// One entry of the log that every node follows, and of the stream that an application hears.
///
/// It names no device: the history has that, [`EndedSession::from`](crate::store::EndedSession::from).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// What happened.
    #[serde(serialize_with = "display")]
    pub kind: EventKind,
    /// When, by the fleet's clock.
    pub at: Timestamp,
    /// Who did it.
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
    /// A rotation of a session's token has begun or was confirmed.
    Rotated,
    /// A session's record changed: its data or its name.
    Changed,
    /// The claims of a session's user changed; nodes ask for them again.
    ClaimsChanged,
    /// A policy of the deployment, a tenant or a user changed.
    PolicyChanged,
    /// The deployment, a tenant or a user was blocked.
    BlockSet,
    /// A block was lifted.
    BlockLifted,
    /// Something that only a newer version knows. It may make a cached session wrong.
    Unknown,
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
    /// A retired token was used after its grace: it was copied.
    TokenReused,
    /// Its user, tenant or deployment was blocked.
    Blocked,
    /// For a reason that only a newer version knows.
    Unknown,
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
            Self::Blocked => "blocked",
            Self::Unknown => "unknown",
        }
    }

    /// Every cause that this version knows.
    pub const ALL: [Self; 7] = [
        Self::Evicted,
        Self::Revoked,
        Self::Expired,
        Self::SignedOut,
        Self::Replaced,
        Self::TokenReused,
        Self::Blocked,
    ];

    /// Reads what a store has kept; a word of a newer version is [`EndCause::Unknown`].
    pub fn from_stored(word: &str) -> Self {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word).unwrap_or(Self::Unknown)
    }
}

impl FromStr for EndCause {
    type Err = InvalidField;

    fn from_str(word: &str) -> Result<Self, InvalidField> {
        let known = Self::ALL.into_iter().find(|cause| cause.as_str() == word);
        known.ok_or(InvalidField::malformed("cause", "a cause of an end"))
    }
}

impl EventKind {
    /// Every kind that this version knows.
    pub const ALL: [Self; 14] = [
        Self::Created,
        Self::Ended(EndCause::Evicted),
        Self::Ended(EndCause::Revoked),
        Self::Ended(EndCause::Expired),
        Self::Ended(EndCause::SignedOut),
        Self::Ended(EndCause::Replaced),
        Self::Ended(EndCause::TokenReused),
        Self::Ended(EndCause::Blocked),
        Self::Rotated,
        Self::Changed,
        Self::ClaimsChanged,
        Self::PolicyChanged,
        Self::BlockSet,
        Self::BlockLifted,
    ];

    /// Whether a cached session is wrong once this has happened to it.
    pub const fn invalidates(self) -> bool {
        match self {
            Self::Ended(_)
            | Self::Rotated
            | Self::Changed
            | Self::ClaimsChanged
            | Self::Unknown => true,
            Self::Created | Self::PolicyChanged | Self::BlockSet | Self::BlockLifted => false,
        }
    }

    /// The word in the log, in events and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Ended(cause) => cause.as_str(),
            Self::Rotated => "rotated",
            Self::Changed => "changed",
            Self::ClaimsChanged => "claims_changed",
            Self::PolicyChanged => "policy_changed",
            Self::BlockSet => "block_set",
            Self::BlockLifted => "block_lifted",
            Self::Unknown => "unknown",
        }
    }

    /// Reads what a store has kept; a word of a newer version is [`EventKind::Unknown`].
    pub fn from_stored(word: &str) -> Self {
        word.parse().unwrap_or(Self::Unknown)
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
    /// One that only a newer version knows.
    Unknown,
}

impl Actor {
    /// Reads what a store has kept; a text of a newer version is [`Actor::Unknown`].
    pub fn from_stored(text: &str) -> Self {
        text.parse().unwrap_or(Self::Unknown)
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        Ok(Self::from_stored(&text))
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Application => f.write_str("application"),
            Self::User(user) => write!(f, "user:{user}"),
            Self::Unknown => f.write_str("unknown"),
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
        assert_eq!(EventKind::from_stored("promoted"), EventKind::Unknown);
        assert_eq!(Actor::from_stored("service:7"), Actor::Unknown);
        assert_eq!(EndCause::from_stored("at risk"), EndCause::Unknown);
    }
}
