//! Users, tenants and deployments that may not sign in.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};

use crate::event::{Actor, display};
use crate::field::BlockReason;
use crate::planted::{self, Defect};
use crate::policy::PolicyScope;
use crate::store::StoreError;
use crate::time::Timestamp;

/// Why, since when and until when sign-ins are refused at one place.
///
/// A block outlives the sessions that it has ended. It ends by itself at `until`, or when it is
/// lifted; that restores sign-in and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Why, in words for admins and for the user.
    pub reason: Option<BlockReason>,
    /// From when on sign-in is possible again; none until the block is lifted.
    pub until: Option<Timestamp>,
    /// When it was set.
    pub since: Timestamp,
    /// Who set it.
    #[serde(serialize_with = "display", deserialize_with = "stored_actor")]
    pub by: Actor,
}

impl Block {
    /// Whether it refuses sign-ins at this time.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    /// The block as stores keep it: JSON. What a store compares, it keeps beside it:
    /// [`Block::until`].
    pub fn to_stored(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// Reads what [`Block::to_stored`] wrote; parts that a newer version has added are left out.
    ///
    /// # Errors
    /// [`StoreErrorKind::Corrupt`](crate::StoreErrorKind::Corrupt) for anything else.
    pub fn from_stored(text: &str) -> Result<Self, StoreError> {
        serde_json::from_str(text).map_err(StoreError::corrupt)
    }
}

fn stored_actor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Actor, D::Error> {
    Ok(Actor::from_stored(&Cow::<'_, str>::deserialize(deserializer)?))
}

/// The block that refuses a sign-in at this time, the widest place first.
pub fn refusal(blocks: &[(PolicyScope, Block)], now: Timestamp) -> Option<&(PolicyScope, Block)> {
    if planted::is(Defect::BlockUnchecked) {
        return None;
    }
    let width = |scope: &PolicyScope| match scope {
        PolicyScope::Deployment => 0,
        PolicyScope::Tenant(_) => 1,
        PolicyScope::User(_) => 2,
    };
    blocks.iter().filter(|(_, block)| block.holds(now)).min_by_key(|(scope, _)| width(scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn a_block_ends_at_its_time_and_the_widest_is_named() {
        let block = |until| Block { reason: None, until, since: at(0), by: Actor::Application };
        let user = PolicyScope::User(crate::UserKey::new("alice".parse().unwrap()));
        let blocks = [(user, block(None)), (PolicyScope::Deployment, block(Some(at(9))))];
        assert_eq!(refusal(&blocks, at(8)), Some(&blocks[1]));
        assert_eq!(refusal(&blocks, at(9)), Some(&blocks[0]));
        assert_eq!(refusal(&blocks[1..], at(9)), None);
    }

    #[test]
    fn a_block_of_a_newer_version_can_be_read() {
        let reason = Some("fraud".parse().unwrap());
        let block = Block { reason, until: Some(at(7)), since: at(0), by: Actor::System };
        assert_eq!(Block::from_stored(&block.to_stored()).unwrap(), block);
        let newer = block.to_stored().replace("{", "{\"ticket\":7,");
        assert_eq!(Block::from_stored(&newer).unwrap(), block);
        assert!(Block::from_stored("[]").is_err());
    }
}
