//! How many sessions a user may have at once, and what a sign-in beyond that does.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::field::{InvalidField, TenantId, UserId};
use crate::session::UserKey;
use crate::store::StoreError;

/// What a deployment, a tenant or a user allows.
///
/// The named option and the limits hold together. Changing a policy ends no session by itself;
/// it counts from the next sign-in on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The named option.
    #[serde(default)]
    pub prevent_concurrent_login: PreventConcurrentLogin,
    /// Further limits, at most [`Policy::MAX_LIMITS`].
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// Whether a newer version wrote it, in words that this one does not know, and it is the
    /// strictest reading of them ([`Policy::from_stored`]). Not stored.
    #[serde(skip)]
    pub newer: bool,
}

/// The three named options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PreventConcurrentLogin {
    /// Any number of sessions.
    #[default]
    Disabled,
    /// A sign-in ends the user's other sessions on the same kind of device.
    LogoutFromSameTypeDevices,
    /// A sign-in ends all of the user's other sessions.
    LogoutFromAllDevices,
}

/// At most `max` live sessions in a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The most live sessions, 1 to [`Limit::MAX`].
    pub max: u32,
    /// Which of the user's sessions are counted together.
    pub scope: Scope,
    /// What a sign-in beyond `max` does.
    pub on_exceed: OnExceed,
}

/// Which of a user's sessions are counted together, narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Those of the same client id; sessions without one are counted together.
    Client,
    /// Those of the same kind of device.
    DeviceKind,
    /// All of them.
    User,
}

/// What a sign-in beyond a limit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExceed {
    /// The session that signed in first has to leave.
    EvictOldest,
    /// The session that was used longest ago has to leave.
    EvictLeastRecentlyUsed,
    /// The sign-in is refused.
    Reject,
}

impl Policy {
    /// The most limits in one policy.
    pub const MAX_LIMITS: usize = 16;

    /// A policy of one limit.
    pub fn limit(limit: Limit) -> Self {
        Self { limits: vec![limit], ..Self::default() }
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`InvalidField`] naming `limits` or `max` and the limit.
    pub fn validate(&self) -> Result<(), InvalidField> {
        InvalidField::check_count("limits", self.limits.len(), Self::MAX_LIMITS)?;
        let in_range = |limit: &Limit| (1..=Limit::MAX).contains(&limit.max);
        if self.limits.iter().all(in_range) {
            Ok(())
        } else {
            Err(InvalidField::out_of_range("max", 1, u64::from(Limit::MAX)))
        }
    }

    /// The limits that hold, in the order in which they decide: narrowest scope first, within a
    /// scope the smallest first.
    pub fn effective_limits(&self) -> Vec<Limit> {
        let mut limits: Vec<Limit> =
            self.prevent_concurrent_login.limit().into_iter().chain(self.limits.clone()).collect();
        limits.sort_by_key(|limit| (limit.scope, limit.max, limit.on_exceed));
        limits
    }
}

impl Policy {
    /// The policy as stores keep it: JSON.
    pub fn to_stored(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// Reads what [`Policy::to_stored`] wrote.
    ///
    /// Where a newer version wrote it, no limit gets lost: what this version does not know has its
    /// strictest meaning. An unknown named option is
    /// [`LogoutFromAllDevices`](PreventConcurrentLogin::LogoutFromAllDevices). An unknown scope is
    /// [`Scope::User`], because a limit on all of a user's sessions is one on any part of them; an
    /// unknown rule is [`OnExceed::EvictOldest`], which holds the limit and refuses nobody; an
    /// unknown number, or one out of range, is one. Unknown fields are left out.
    ///
    /// # Errors
    /// [`StoreErrorKind::Corrupt`](crate::StoreErrorKind::Corrupt) for what is no policy at all.
    pub fn from_stored(text: &str) -> Result<Self, StoreError> {
        let known = serde_json::from_str(text).ok();
        known
            .filter(|policy: &Self| policy.validate().is_ok())
            .map_or_else(|| Self::of_newer(text), Ok)
    }

    fn of_newer(text: &str) -> Result<Self, StoreError> {
        let stored: Map<String, Value> = serde_json::from_str(text).map_err(StoreError::corrupt)?;
        let prevent_concurrent_login = match stored.get("prevent_concurrent_login") {
            None | Some(Value::Null) => PreventConcurrentLogin::Disabled,
            Some(named) => known(named).unwrap_or(PreventConcurrentLogin::LogoutFromAllDevices),
        };
        let limits = match stored.get("limits") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(limits)) => limits.iter().map(Limit::of_newer).collect(),
            Some(other) => vec![Limit::of_newer(other)],
        };
        Ok(Self { prevent_concurrent_login, limits, newer: true })
    }
}

fn known<T: serde::de::DeserializeOwned>(stored: &Value) -> Option<T> {
    serde_json::from_value(stored.clone()).ok()
}

impl From<PreventConcurrentLogin> for Policy {
    fn from(prevent_concurrent_login: PreventConcurrentLogin) -> Self {
        Self { prevent_concurrent_login, ..Self::default() }
    }
}

impl PreventConcurrentLogin {
    /// The limit that the option stands for.
    pub const fn limit(self) -> Option<Limit> {
        let scope = match self {
            Self::Disabled => return None,
            Self::LogoutFromSameTypeDevices => Scope::DeviceKind,
            Self::LogoutFromAllDevices => Scope::User,
        };
        Some(Limit { max: 1, scope, on_exceed: OnExceed::EvictOldest })
    }
}

impl Limit {
    /// The largest `max`.
    pub const MAX: u32 = 1_000_000;

    fn of_newer(stored: &Value) -> Self {
        Self {
            max: known(&stored["max"]).filter(|max| (1..=Self::MAX).contains(max)).unwrap_or(1),
            scope: known(&stored["scope"]).unwrap_or(Scope::User),
            on_exceed: known(&stored["on_exceed"]).unwrap_or(OnExceed::EvictOldest),
        }
    }
}

/// Where a policy or a block is set.
///
/// Exhaustive on purpose: a store or a page that overlooks a place does not compile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PolicyScope {
    /// For everybody.
    Deployment,
    /// For the users of one tenant.
    Tenant(TenantId),
    /// For one user.
    User(UserKey),
}

impl PolicyScope {
    /// The places that concern a user, the widest first.
    pub fn of(owner: &UserKey) -> Vec<Self> {
        let mut scopes = vec![Self::User(owner.clone())];
        while let Some(wider) = scopes.last().and_then(Self::wider) {
            scopes.push(wider);
        }
        scopes.reverse();
        scopes
    }

    /// The next wider scope, whose policy applies if none is set here. `None` for the deployment.
    pub fn wider(&self) -> Option<Self> {
        match self {
            Self::User(UserKey { tenant: Some(tenant), .. }) => Some(Self::Tenant(tenant.clone())),
            Self::User(UserKey { tenant: None, .. }) | Self::Tenant(_) => Some(Self::Deployment),
            Self::Deployment => None,
        }
    }

    /// The tenant concerned; none for the deployment and for users outside all tenants.
    pub const fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Deployment => None,
            Self::Tenant(tenant) => Some(tenant),
            Self::User(owner) => owner.tenant.as_ref(),
        }
    }

    /// The user concerned; none for a tenant and for the deployment.
    pub const fn user(&self) -> Option<&UserId> {
        match self {
            Self::Deployment | Self::Tenant(_) => None,
            Self::User(owner) => Some(&owner.user),
        }
    }

    /// The scope as a key of tenant and user. An empty text stands for none; names are never empty, so
    /// keys are unique.
    pub fn key(&self) -> (&str, &str) {
        let user = self.user().map_or("", UserId::as_str);
        (self.tenant().map_or("", TenantId::as_str), user)
    }
}

/// What is set at the three places that concern one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyLayers {
    /// For everybody.
    pub deployment: Option<Policy>,
    /// For the user's tenant.
    pub tenant: Option<Policy>,
    /// For the user alone.
    pub user: Option<Policy>,
}

impl PolicyLayers {
    /// Notes what is set at one of the places.
    pub fn set(&mut self, scope: &PolicyScope, policy: Option<Policy>) {
        match scope {
            PolicyScope::Deployment => self.deployment = policy,
            PolicyScope::Tenant(_) => self.tenant = policy,
            PolicyScope::User(_) => self.user = policy,
        }
    }

    /// As [`PolicyLayers::set`], for a place that is known by its [`PolicyScope::key`].
    pub fn set_by_key(&mut self, (tenant, user): (&str, &str), policy: Option<Policy>) {
        match (tenant, user) {
            ("", "") => self.deployment = policy,
            (_, "") => self.tenant = policy,
            (_, _) => self.user = policy,
        }
    }

    /// The most specific policy that is set, or `default` where none is.
    ///
    /// A policy replaces the wider one whole; they are not merged.
    pub fn resolve(self, default: &Policy) -> Policy {
        self.user.or(self.tenant).or(self.deployment).unwrap_or_else(|| default.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_policy_wins_whole() {
        let default = Policy::default();
        let all = Policy::from(PreventConcurrentLogin::LogoutFromAllDevices);
        let same = Policy::from(PreventConcurrentLogin::LogoutFromSameTypeDevices);
        let mut layers = PolicyLayers { deployment: Some(all.clone()), ..PolicyLayers::default() };
        assert_eq!(layers.clone().resolve(&default), all);
        layers.tenant = Some(default.clone());
        assert_eq!(layers.clone().resolve(&same), default);
        layers.user = Some(same.clone());
        assert_eq!(layers.resolve(&default), same);
        assert_eq!(PolicyLayers::default().resolve(&all), all);
    }

    #[test]
    fn bounds_are_named() {
        let limit = |max| Limit { max, scope: Scope::User, on_exceed: OnExceed::Reject };
        assert_eq!(Policy::limit(limit(0)).validate().unwrap_err().field, "max");
        let many = Policy { limits: vec![limit(1); 17], ..Policy::default() };
        assert_eq!(
            many.validate().unwrap_err().to_string(),
            "limits has 17 entries, the limit is 16"
        );
    }

    #[test]
    fn json_uses_the_documented_words() {
        let text = r#"{"prevent_concurrent_login":"LogoutFromSameTypeDevices","limits":[{"max":3,"scope":"device_kind","on_exceed":"evict_least_recently_used"}]}"#;
        let policy: Policy = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&policy).unwrap(), text);
        assert!(serde_json::from_str::<Policy>(r#"{"limit":[]}"#).is_err());
        assert_eq!(Policy::from_stored(text).unwrap(), policy);
    }

    #[test]
    fn a_policy_of_a_newer_version_loses_no_limit() {
        let limit = |max, scope, on_exceed| Limit { max, scope, on_exceed };
        let read = |text: &str| Policy::from_stored(text).unwrap();
        let named = PreventConcurrentLogin::LogoutFromAllDevices;
        let text = r#"{"prevent_concurrent_login":"LogoutFromElsewhere","risk":{"score":7},"limits":[
            {"max":3,"scope":"device_kind","on_exceed":"reject","grace":9},
            {"max":2,"scope":"network","on_exceed":"reject"},
            {"max":2,"scope":"client","on_exceed":"ask"},
            {"max":"auto","scope":"client","on_exceed":"reject"},
            "strict"]}"#;
        let limits = vec![
            limit(3, Scope::DeviceKind, OnExceed::Reject),
            limit(2, Scope::User, OnExceed::Reject),
            limit(2, Scope::Client, OnExceed::EvictOldest),
            limit(1, Scope::Client, OnExceed::Reject),
            limit(1, Scope::User, OnExceed::EvictOldest),
        ];
        assert_eq!(read(text), Policy { prevent_concurrent_login: named, limits, newer: true });
        let one = vec![limit(1, Scope::User, OnExceed::EvictOldest)];
        assert_eq!(read(r#"{"limits":{}}"#).limits, one);
        let no_place = read(r#"{"limits":[{"max":0,"scope":"client","on_exceed":"reject"}]}"#);
        let one = Limit { max: 1, scope: Scope::Client, on_exceed: OnExceed::Reject };
        assert_eq!(no_place, Policy { newer: true, ..Policy::limit(one) }, "nobody is locked out");
        let unknown = read(r#"{"limits":null,"prevent_concurrent_login":null}"#);
        assert_eq!(unknown, Policy { newer: true, ..Policy::default() });
        assert_eq!(read("{}"), Policy::default());
        assert!(Policy::from_stored("7").is_err());
    }
}
