//! The record of one signed-in device.

use std::net::IpAddr;

use crate::field::{ClientId, DeviceInfo, DeviceKind, ExtraData, SessionId, TenantId, UserId};
use crate::rotation::TokenState;
use crate::time::Timestamp;

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
    /// The application that signed the user in.
    pub client_id: Option<ClientId>,
    /// Addresses it was used from, newest last, at most [`MAX_IP_ADDRESSES`].
    pub ip_addresses: Vec<IpAddr>,
    /// When it began.
    pub signed_in: Timestamp,
    /// When a request last used it, as far as the store knows.
    pub last_accessed: Timestamp,
    /// When the user last proved who they are.
    pub authenticated_at: Timestamp,
    /// From when on it is refused whatever its use.
    pub absolute_expiry: Option<Timestamp>,
    /// The application's own data.
    pub data: Option<ExtraData>,
    /// Digests of its token.
    pub token: TokenState,
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
