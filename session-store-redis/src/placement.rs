//! Where a user's keys are: a session id alone leads to them.
//!
//! The user's tag, which the ids begin with, names the one key that holds the user's sessions, and
//! it chooses the shard: a set of keys that share a hash tag and so a slot of a cluster.

use crc16::{State, XMODEM};
use session_core::store::{TagKey, UserTag};
use session_core::{SessionId, UserKey};

/// Which shard, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shard(pub(crate) usize);

impl Shard {
    /// Has what belongs to no user: the policies, the leases, what all nodes agree on.
    pub(crate) const FIRST: Self = Self(0);
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) prefix: String,
    pub(crate) key: TagKey,
    /// The hash tag of each shard.
    shards: Vec<String>,
}

impl Placement {
    pub(crate) fn new(prefix: &str, shards: usize, key: TagKey) -> Self {
        Self { prefix: prefix.to_owned(), key, shards: hash_tags(shards) }
    }

    pub(crate) fn shards(&self) -> impl ExactSizeIterator<Item = Shard> + Clone + use<> {
        (0..self.shards.len()).map(Shard)
    }

    pub(crate) fn tag(&self, owner: &UserKey) -> UserTag {
        self.key.tag(owner)
    }

    pub(crate) fn session_id(&self, owner: &UserKey, random: [u8; 16]) -> SessionId {
        self.key.session_id(owner, random)
    }

    pub(crate) fn shard(&self, tag: UserTag) -> Shard {
        let shards = self.shards.len() as u64;
        Shard(usize::try_from(tag.as_u64() % shards).unwrap_or(0))
    }

    /// All of one user's sessions and their version.
    pub(crate) fn user(&self, tag: UserTag) -> String {
        self.key(self.shard(tag), &format!("u:{}", const_hex::encode(tag.as_bytes())))
    }

    /// All sessions of the shard, newest first.
    pub(crate) fn all(&self, shard: Shard) -> String {
        self.key(shard, "all")
    }

    /// All sessions of the shard by deadline.
    pub(crate) fn due(&self, shard: Shard) -> String {
        self.key(shard, "due")
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

    /// One ended session of the shard.
    pub(crate) fn ended(&self, shard: Shard, id: SessionId) -> String {
        self.key(shard, &format!("h:{}", const_hex::encode(id.as_bytes())))
    }

    /// The ended sessions of the shard, the latest end first.
    pub(crate) fn history(&self, shard: Shard) -> String {
        self.key(shard, "history")
    }

    /// The ended sessions of one user, the latest end first.
    pub(crate) fn history_of(&self, tag: UserTag) -> String {
        self.key(self.shard(tag), &format!("hu:{}", const_hex::encode(tag.as_bytes())))
    }

    /// The ended sessions of the shard that were of one tenant, the latest end first.
    pub(crate) fn history_of_tenant(&self, shard: Shard, tenant: &str) -> String {
        self.key(shard, &format!("ht:{tenant}"))
    }

    /// The blocks, for the commits of the shard.
    pub(crate) fn blocked(&self, shard: Shard) -> String {
        self.key(shard, "blocked")
    }

    /// What a call has been answered.
    pub(crate) fn answer(&self, shard: Shard, mark: u64) -> String {
        self.key(shard, &format!("answer:{mark:x}"))
    }

    /// Written to wait for replicas.
    pub(crate) fn waited(&self, shard: Shard) -> String {
        self.key(shard, "waited")
    }

    /// The shards that change.
    pub(crate) fn active(&self) -> String {
        self.key(Shard::FIRST, "active")
    }

    /// The policies and the blocks, by their places.
    pub(crate) fn scopes(&self) -> String {
        self.key(Shard::FIRST, "scopes")
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

    /// What all nodes agree on. It is in the first shard for any number of shards.
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

    use session_core::UserId;

    use super::*;

    fn placement(shards: usize) -> Placement {
        Placement::new("sk:", shards, TagKey::from_bytes([7; 16]))
    }

    #[test]
    fn all_keys_of_a_session_are_in_one_slot() {
        let placement = placement(32);
        for n in 0..100_u8 {
            let owner = UserKey::new(UserId::new(&format!("user {n}")).unwrap());
            let tag = UserTag::of(placement.session_id(&owner, [n; 16]));
            assert_eq!(tag, placement.tag(&owner));
            let shard = placement.shard(tag);
            let hash_tag = format!("sk:{{{}}}:", placement.shards[shard.0]);
            let keys = [placement.user(tag), placement.log(shard), placement.history_of(tag)];
            assert!(keys.iter().all(|key| key.starts_with(&hash_tag)));
        }
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
