//! Ids that lead to their user, for stores on many servers.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::field::{SessionId, TenantId};
use crate::session::UserKey;

/// Forty bits that the ids of one user's sessions begin with, where a store wants it so: out of
/// an id alone it then knows where the user's sessions are.
///
/// Two users may share a tag; whoever keeps records by it has to look at their owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserTag([u8; UserTag::BYTES]);

impl UserTag {
    /// How many bytes.
    pub const BYTES: usize = 5;

    /// The tag in an id that [`TagKey::session_id`] made.
    pub fn of(id: SessionId) -> Self {
        let mut tag = [0; Self::BYTES];
        tag.copy_from_slice(&id.as_bytes()[..Self::BYTES]);
        Self(tag)
    }

    /// As a number below 2^40.
    pub fn as_u64(self) -> u64 {
        self.0.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// A secret that all nodes of a fleet share: without it, a tag tells nothing of its user.
#[derive(Clone, PartialEq, Eq)]
pub struct TagKey([u8; TagKey::BYTES]);

impl TagKey {
    /// How many bytes.
    pub const BYTES: usize = 16;

    /// From random bytes, as stored.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored. They are a secret.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The tag of a user.
    pub fn tag(&self, owner: &UserKey) -> UserTag {
        let mut hash = Sha256::new();
        hash.update(self.0);
        let tenant = owner.tenant.as_ref().map_or("", TenantId::as_str);
        for text in [tenant, owner.user.as_str()] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        let digest = hash.finalize();
        let mut tag = [0; UserTag::BYTES];
        tag.copy_from_slice(&digest[..UserTag::BYTES]);
        UserTag(tag)
    }

    /// A random id that begins with the owner's tag; 82 bits of it are random.
    pub fn session_id(&self, owner: &UserKey, mut random: [u8; 16]) -> SessionId {
        random[..UserTag::BYTES].copy_from_slice(self.tag(owner).as_bytes());
        SessionId::from_random(random)
    }
}

impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::UserId;

    #[test]
    fn an_id_leads_to_its_user_and_a_tag_needs_its_key() {
        let key = TagKey::from_bytes([7; 16]);
        let (a, ab, b) = (UserId::new("a"), UserId::new("ab"), UserId::new("b"));
        let tenant = TenantId::new("a").unwrap();
        let split = UserKey::in_tenant(tenant, b.unwrap());
        let owners = [UserKey::new(a.unwrap()), UserKey::new(ab.unwrap()), split];
        for owner in &owners {
            let id = key.session_id(owner, [9; 16]);
            assert_eq!(UserTag::of(id), key.tag(owner));
            assert_eq!(id.as_uuid().get_version_num(), 4);
            assert_ne!(key.tag(owner), TagKey::from_bytes([8; 16]).tag(owner));
            assert_eq!(owners.iter().filter(|other| key.tag(other) == key.tag(owner)).count(), 1);
            assert!(UserTag::of(id).as_u64() < 1 << 40);
        }
    }
}
