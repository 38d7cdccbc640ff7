//! The record of one signed-in device.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::event::Actor;
use crate::field::{
    AuthMethod, ClientId, DeviceInfo, DeviceKind, DeviceName, ExtraData, InvalidField, SessionId,
    TenantId, UserId,
};
use crate::rotation::TokenState;
use crate::time::Timestamp;
use crate::token::Token;
use crate::usage::Timeouts;

/// One user: a user id within a tenant, or within the deployment where there are no tenants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserKey {
    /// The tenant, where the application has tenants.
    pub tenant: Option<TenantId>,
    /// The user within it.
    pub user: UserId,
}

impl UserKey {
    /// A user of a deployment without tenants.
    pub const fn new(user: UserId) -> Self {
        Self { tenant: None, user }
    }

    /// A user of one tenant.
    pub const fn in_tenant(tenant: TenantId, user: UserId) -> Self {
        Self { tenant: Some(tenant), user }
    }

    /// The tenant as stores keep it: empty for none, because the column of a key may not be null.
    pub fn tenant_text(&self) -> &str {
        self.tenant.as_ref().map_or("", TenantId::as_str)
    }
}

/// One signed-in device of one user: what an admin sees as a row and can revoke.
///
/// Stores keep what they look for or compare in fields of their own, and everything else in one text,
/// the *details*: see [`record`](crate::store::record).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The public id.
    pub id: SessionId,
    /// Whose session it is.
    pub owner: UserKey,
    /// What a policy counts as "same type".
    pub device_kind: DeviceKind,
    /// Readable text about the device.
    pub device_info: Option<DeviceInfo>,
    /// The name that its user gave the device.
    pub device_name: Option<DeviceName>,
    /// The application that signed the user in.
    pub client_id: Option<ClientId>,
    /// Addresses it was used from, newest last, at most [`MAX_IP_ADDRESSES`].
    pub ip_addresses: Vec<IpAddr>,
    /// When it began.
    pub signed_in: Timestamp,
    /// When a request last used it, as far as the store knows.
    pub last_accessed: Timestamp,
    /// Whether its token has been presented at least once: until then it is not known that anybody
    /// holds it.
    pub claimed: bool,
    /// When it ends if it is not used again. Stores go by it in lists and in the cleanup; it only
    /// moves later. [`Session::deadline_at`] makes it.
    pub deadline: Timestamp,
    /// How and when the user last proved who they are.
    pub authentication: Authentication,
    /// From when on it is refused whatever its use.
    pub absolute_expiry: Option<Timestamp>,
    /// Timeouts of its own, in place of those of the deployment.
    pub timeouts: Option<Timeouts>,
    /// Who acts as the user with this session, where it is not the user; perhaps of another tenant.
    pub impersonator: Option<UserKey>,
    /// The application's own data.
    pub data: Option<ExtraData>,
    /// Digests of its tokens.
    pub token: TokenState,
    /// What a newer version has written into the details. It is kept as it is.
    pub unknown: Unknown,
}

/// Fields of a newer version, kept as they are where this one writes a record again.
pub type Unknown = serde_json::Map<String, serde_json::Value>;

impl Session {
    /// A session that begins now with this token, in a browser, without timeouts.
    pub fn new(owner: UserKey, token: &Token, now: Timestamp) -> Self {
        Self {
            id: token.session_id(),
            owner,
            device_kind: DeviceKind::Web,
            device_info: None,
            device_name: None,
            client_id: None,
            ip_addresses: Vec::new(),
            signed_in: now,
            last_accessed: now,
            claimed: false,
            deadline: Timestamp::MAX,
            authentication: Authentication::at(now),
            absolute_expiry: None,
            timeouts: None,
            impersonator: None,
            data: None,
            token: TokenState::new(token, now),
            unknown: Unknown::new(),
        }
    }

    /// Who acts in the session: its user, or who acts as the user.
    pub fn actor(&self) -> Actor {
        Actor::User(self.impersonator.as_ref().unwrap_or(&self.owner).clone())
    }

    /// The device's name or, where it has none, its description.
    pub fn device(&self) -> Option<DeviceInfo> {
        let name = self.device_name.as_ref();
        let name = name.and_then(|name| DeviceInfo::truncated(name.as_str()));
        name.or_else(|| self.device_info.clone())
    }
}

/// How and when a user proved who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authentication {
    /// When.
    pub at: Timestamp,
    /// How sure it is, where the application says so.
    pub level: Option<AssuranceLevel>,
    /// By which means, at most [`Authentication::MAX_METHODS`]: words of RFC 8176.
    pub methods: Vec<AuthMethod>,
    /// What a newer version has written beside it, such as a level that this one does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Authentication {
    /// The most methods.
    pub const MAX_METHODS: usize = 16;

    /// At this time, with nothing said of level and methods.
    pub fn at(at: Timestamp) -> Self {
        Self { at, ..Self::default() }
    }

    /// Checks the number of methods.
    ///
    /// # Errors
    /// [`InvalidField`] for more than [`Authentication::MAX_METHODS`].
    pub fn validate(&self) -> Result<(), InvalidField> {
        InvalidField::check_count("methods", self.methods.len(), Self::MAX_METHODS)
    }
}

/// An authentication assurance level of NIST SP 800-63B-4, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AssuranceLevel {
    /// One factor.
    Aal1,
    /// Two factors.
    Aal2,
    /// Two factors, one of them a key that cannot be copied.
    Aal3,
}

impl AssuranceLevel {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aal1 => "aal1",
            Self::Aal2 => "aal2",
            Self::Aal3 => "aal3",
        }
    }
}

impl fmt::Display for AssuranceLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The most addresses that a session remembers.
pub const MAX_IP_ADDRESSES: usize = 16;

/// Notes an address as the newest: an earlier mention moves to the end, the oldest leave first.
///
/// Every store merges the addresses of a [`Touch`](crate::store::Touch) with this rule.
pub fn note_ip_address(addresses: &mut Vec<IpAddr>, newest: IpAddr) {
    addresses.retain(|known| *known != newest);
    addresses.push(newest);
    let surplus = addresses.len().saturating_sub(MAX_IP_ADDRESSES);
    addresses.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_newest_last_without_repetition() {
        let address = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut known = Vec::new();
        (0..20).for_each(|n| note_ip_address(&mut known, address(n)));
        assert_eq!(known.len(), MAX_IP_ADDRESSES);
        note_ip_address(&mut known, address(10));
        assert_eq!(known.last(), Some(&address(10)));
        assert_eq!(known.iter().filter(|a| **a == address(10)).count(), 1);
    }
}
