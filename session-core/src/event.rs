//! What happened, to whom, by whom and why.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::field::{InvalidField, SessionId, TenantId, UserId};
use crate::session::UserKey;
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
    /// Who did it: in JSON `by`, the word or `user:` and the user, and
    /// `by_tenant`, the user's tenant, where there is one.
    #[serde(flatten)]
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
    /// A rotation of a session's token has begun or was confirmed. Confirming one that a sign-in began may also
    /// change the session's data, timeouts and device text.
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
    /// A sign-in in the same browser began another session in its place.
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

/// What a text has to be that names a cause.
const CAUSES: &str = "evicted, revoked, expired, signed_out, replaced, token_reused or blocked";

impl FromStr for EndCause {
    type Err = InvalidField;

    fn from_str(word: &str) -> Result<Self, InvalidField> {
        let known = Self::ALL.into_iter().find(|cause| cause.as_str() == word);
        known.ok_or(InvalidField::malformed("cause", CAUSES))
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
///
/// As a text, which stores keep and logs show: `system`, `application`, `user:alice` for a user outside
/// all tenants, `user@north:alice` for one of a tenant, in whose name `%` and `:` stand as `%25` and
/// `%3A`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Actor {
    /// session-kit itself: a policy, a timeout, the cleanup worker.
    System,
    /// The embedding application.
    Application,
    /// A signed-in user: the owner of the session or an admin. The same user id in another tenant is
    /// another user.
    User(UserKey),
    /// One that only a newer version knows.
    Unknown,
}

impl Actor {
    /// The longest text, in bytes.
    pub const MAX_BYTES: usize = "user@:".len() + 3 * TenantId::MAX_BYTES + UserId::MAX_BYTES;

    /// Reads what a store has kept; a text of a newer version is [`Actor::Unknown`].
    pub fn from_stored(text: &str) -> Self {
        text.parse().unwrap_or(Self::Unknown)
    }

    /// The text without the tenant: the word, or `user:` and the user.
    pub fn word(&self) -> Cow<'static, str> {
        match self {
            Self::System => "system".into(),
            Self::Application => "application".into(),
            Self::User(UserKey { user, .. }) => format!("{USER}{user}").into(),
            Self::Unknown => "unknown".into(),
        }
    }

    /// The user's tenant; none for others and for a user outside all tenants.
    pub const fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::User(UserKey { tenant, .. }) => tenant.as_ref(),
            _ => None,
        }
    }
}

/// Begins the text of a user outside all tenants.
const USER: &str = "user:";

/// Begins the text of a user of a tenant; the tenant and a colon follow.
const USER_OF: &str = "user@";

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("by", &self.word())?;
        if let Some(tenant) = self.tenant() {
            fields.serialize_entry("by_tenant", tenant.as_str())?;
        }
        fields.end()
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(UserKey { tenant: Some(tenant), user }) => {
                let tenant = tenant.as_str().replace('%', "%25").replace(':', "%3A");
                write!(f, "{USER_OF}{tenant}:{user}")
            }
            other => f.write_str(&other.word()),
        }
    }
}

impl FromStr for Actor {
    type Err = InvalidField;

    /// Reads what `Display` has written, as stores keep it.
    fn from_str(text: &str) -> Result<Self, InvalidField> {
        if let Some(user) = text.strip_prefix(USER) {
            return UserId::from_stored(user).map(|user| Self::User(UserKey::new(user)));
        }
        if let Some((tenant, user)) = text.strip_prefix(USER_OF).and_then(|key| key.split_once(':'))
        {
            let tenant = TenantId::from_stored(&tenant.replace("%3A", ":").replace("%25", "%"))?;
            return Ok(Self::User(UserKey::in_tenant(tenant, UserId::from_stored(user)?)));
        }
        match text {
            "system" => Ok(Self::System),
            "application" => Ok(Self::Application),
            _ => Err(InvalidField::malformed("by", "an actor")),
        }
    }
}

/// Writes a value as its text.
pub(crate) fn display<T: fmt::Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
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
        assert!("nobody".parse::<Actor>().is_err());
        assert!("".parse::<EventKind>().is_err());
        assert_eq!(EventKind::from_stored("promoted"), EventKind::Unknown);
        assert_eq!(Actor::from_stored("service:7"), Actor::Unknown);
        assert_eq!(EndCause::from_stored("at risk"), EndCause::Unknown);
    }

    #[test]
    fn an_actor_is_read_as_it_was_written() {
        let of = |tenant: &str, user: &str| {
            Actor::User(UserKey::in_tenant(tenant.parse().unwrap(), user.parse().unwrap()))
        };
        let long = of(&":".repeat(TenantId::MAX_BYTES), &"u".repeat(UserId::MAX_BYTES));
        assert_eq!(long.to_string().len(), Actor::MAX_BYTES);
        for actor in [
            Actor::System,
            Actor::Application,
            Actor::User(UserKey::new("system".parse().unwrap())),
            Actor::User(UserKey::new("user@north:alice".parse().unwrap())),
            of("north", "alice"),
            of("no:rth", "al:ice"),
            of("no%3Arth", "al%3Aice"),
            of("%", ":"),
            of("%253A", "user:x"),
            long,
        ] {
            assert_eq!(actor.to_string().parse(), Ok(actor));
        }
    }

    #[test]
    fn json_names_the_actor_and_its_tenant() {
        let by = |actor: Actor| serde_json::to_value(actor).unwrap();
        let root: UserId = "root".parse().unwrap();
        assert_eq!(
            by(Actor::User(UserKey::in_tenant("north".parse().unwrap(), root.clone()))),
            serde_json::json!({ "by": "user:root", "by_tenant": "north" })
        );
        assert_eq!(by(Actor::User(UserKey::new(root))), serde_json::json!({ "by": "user:root" }));
        assert_eq!(by(Actor::System), serde_json::json!({ "by": "system" }));
    }
}
