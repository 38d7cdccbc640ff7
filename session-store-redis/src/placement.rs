//! Where a user's keys are: a session id alone leads to them.
//!
//! A keyed hash gives every user a tag of forty bits. The tag stands in the ids of the user's
//! sessions and in the name of the one key that holds them, and it chooses the shard: a set of
//! keys that share a hash tag and so a slot of a cluster. Without the key, which only the nodes
//! and the store know, a tag tells nothing of its user.

use crc16::{State, XMODEM};
use session_core::{SessionId, UserKey};
use sha2::{Digest, Sha256};

/// Of a user, in the first bytes of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tag([u8; Tag::BYTES]);

impl Tag {
    const BYTES: usize = 5;

    pub(crate) fn of(id: SessionId) -> Self {
        let mut tag = [0; Self::BYTES];
        tag.copy_from_slice(&id.as_bytes()[..Self::BYTES]);
        Self(tag)
    }

    fn number(self) -> u64 {
        self.0.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// Which shard, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shard(pub(crate) usize);

impl Shard {
    /// Has what belongs to no user: the policies, the leases, what all nodes agree on.
    pub(crate) const FIRST: Self = Self(0);
}

#[derive(Clone, Debug)]
pub(crate) struct Placement {
    prefix: String,
    key: [u8; Placement::KEY_BYTES],
    /// The hash tag of each shard.
    shards: Vec<String>,
}

impl Placement {
    pub(crate) const KEY_BYTES: usize = 16;

    pub(crate) fn new(prefix: &str, shards: usize, key: [u8; Self::KEY_BYTES]) -> Self {
        Self { prefix: prefix.to_owned(), key, shards: hash_tags(shards) }
    }

    pub(crate) fn shards(&self) -> impl ExactSizeIterator<Item = Shard> + Clone + use<> {
        (0..self.shards.len()).map(Shard)
    }

    pub(crate) fn tag(&self, owner: &UserKey) -> Tag {
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(crate::record::owner(owner));
        let digest = hash.finalize();
        let mut tag = [0; Tag::BYTES];
        tag.copy_from_slice(&digest[..Tag::BYTES]);
        Tag(tag)
    }

    /// A random id that begins with the owner's tag.
    pub(crate) fn session_id(&self, owner: &UserKey, mut random: [u8; 16]) -> SessionId {
        random[..Tag::BYTES].copy_from_slice(&self.tag(owner).0);
        SessionId::from_random(random)
    }

    pub(crate) fn shard(&self, tag: Tag) -> Shard {
        let shards = self.shards.len() as u64;
        Shard(usize::try_from(tag.number() % shards).unwrap_or(0))
    }

    /// All of one user's sessions and their version.
    pub(crate) fn user(&self, tag: Tag) -> String {
        self.key(self.shard(tag), &format!("u:{}", const_hex::encode(tag.0)))
    }

    /// All sessions of the shard, newest first.
    pub(crate) fn all(&self, shard: Shard) -> String {
        self.key(shard, "all")
    }

    /// All sessions of the shard by last accessed.
    pub(crate) fn used(&self, shard: Shard) -> String {
        self.key(shard, "used")
    }

    /// The sessions of the shard that have an absolute expiry, by it.
    pub(crate) fn expiring(&self, shard: Shard) -> String {
        self.key(shard, "expiring")
    }

    /// The shard's part of the log; also the channel that tells of its growth.
    pub(crate) fn log(&self, shard: Shard) -> String {
        self.key(shard, "log")
    }

    /// The sessions of the shard that are of one tenant, newest first.
    pub(crate) fn tenant(&self, shard: Shard, tenant: &str) -> String {
        self.key(shard, &format!("t:{tenant}"))
    }

    /// The sessions of the shard that are of one user name in any tenant, newest first.
    pub(crate) fn name(&self, shard: Shard, user: &str) -> String {
        self.key(shard, &format!("n:{user}"))
    }

    /// Written to wait for replicas.
    pub(crate) fn waited(&self, shard: Shard) -> String {
        self.key(shard, "waited")
    }

    pub(crate) fn policies(&self) -> String {
        self.key(Shard::FIRST, "policies")
    }

    pub(crate) fn lease(&self, name: &str) -> String {
        self.key(Shard::FIRST, &format!("lease:{name}"))
    }

    pub(crate) fn slot(&self, shard: Shard) -> u16 {
        slot(&self.shards[shard.0])
    }

    /// A key of a shard.
    pub(crate) fn key(&self, shard: Shard, rest: &str) -> String {
        format!("{}{{{}}}:{rest}", self.prefix, self.shards[shard.0])
    }

    /// What all nodes agree on. Its shard is the first whatever the number of shards.
    pub(crate) fn agreement(prefix: &str) -> String {
        format!("{prefix}{{{}}}:agreement", hash_tags(1)[0])
    }
}

/// The slot of a cluster that keys with this hash tag are in.
pub(crate) fn slot(hash_tag: &str) -> u16 {
    State::<XMODEM>::calculate(hash_tag.as_bytes()) % SLOTS
}

const SLOTS: u16 = 16_384;

/// Hash tags that lie evenly among the slots, so that masters with equal shares of the slots get
/// equal shares of the shards. The first is the same for any number.
fn hash_tags(shards: usize) -> Vec<String> {
    let mut tags = vec![None; shards];
    tags[0] = Some("0".to_owned());
    let mut missing = shards - 1;
    // The part of the slots in which the first tag lies is the first part.
    let share = |tag: &str| usize::from(slot(tag)) * shards / usize::from(SLOTS);
    let first = share("0");
    for candidate in 1_u64.. {
        if missing == 0 {
            break;
        }
        let tag = candidate.to_string();
        let place = &mut tags[(share(&tag) + shards - first) % shards];
        if place.is_none() {
            *place = Some(tag);
            missing -= 1;
        }
    }
    tags.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use session_core::{TenantId, UserId};

    use super::*;

    fn placement(shards: usize) -> Placement {
        Placement::new("sk:", shards, [7; 16])
    }

    #[test]
    fn an_id_leads_to_the_key_of_its_user() {
        let placement = placement(32);
        for n in 0..100_u8 {
            let user = UserId::new(&format!("user {n}")).unwrap();
            let owner = UserKey::in_tenant(TenantId::new("north").unwrap(), user);
            let id = placement.session_id(&owner, [n; 16]);
            assert_eq!(Tag::of(id), placement.tag(&owner));
            let shard = placement.shard(Tag::of(id));
            let hash_tag = format!("sk:{{{}}}:", placement.shards[shard.0]);
            assert!(placement.user(Tag::of(id)).starts_with(&hash_tag));
            assert!(placement.log(shard).starts_with(&hash_tag), "one slot");
            assert_eq!(id.as_uuid().get_version_num(), 4);
        }
    }

    #[test]
    fn without_the_key_a_tag_tells_nothing() {
        let owner = UserKey::new(UserId::new("alice").unwrap());
        let other = Placement::new("sk:", 32, [8; 16]);
        assert_ne!(placement(32).tag(&owner), other.tag(&owner));
    }

    #[test]
    fn shards_share_the_slots_evenly() {
        for shards in [1, 2, 3, 32, 1024] {
            let tags = hash_tags(shards);
            assert_eq!(tags[0], "0");
            let shares: HashSet<_> =
                tags.iter().map(|tag| usize::from(slot(tag)) * shards / 16_384).collect();
            assert_eq!(shares.len(), shards);
        }
    }
}
