//! Policies and blocks as the rows of their places.

use session_core::block::Block;
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::{StoreError, UserKey};

/// What is set at the places that concern one user.
#[derive(Debug)]
pub(crate) struct Places {
    scopes: Vec<PolicyScope>,
    pub(crate) policies: PolicyLayers,
    pub(crate) blocks: Vec<(PolicyScope, Block)>,
}

impl Places {
    pub(crate) fn of(owner: &UserKey) -> Self {
        let scopes = PolicyScope::of(owner);
        Self { scopes, policies: PolicyLayers::default(), blocks: Vec::new() }
    }

    /// Takes the row of a place: its tenant and user, its policy and its block.
    pub(crate) fn add(
        &mut self,
        key: (&str, &str),
        policy: Option<&str>,
        block: Option<&str>,
    ) -> Result<(), StoreError> {
        if let Some(policy) = policy {
            self.policies.set_by_key(key, Some(Policy::from_stored(policy)?));
        }
        let scope = self.scopes.iter().find(|scope| scope.key() == key);
        if let (Some(scope), Some(block)) = (scope, block) {
            self.blocks.push((scope.clone(), Block::from_stored(block)?));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use session_core::{Actor, Timestamp};

    use super::*;

    #[test]
    fn a_place_has_a_policy_or_a_block_or_both() {
        let owner = UserKey::in_tenant("north".parse().unwrap(), "alice".parse().unwrap());
        let since = Timestamp::EPOCH;
        let block = Block { reason: None, until: None, since, by: Actor::System };
        let (policy, stored) = (Policy::default().to_stored(), block.to_stored());
        let mut places = Places::of(&owner);
        places.add(("", ""), Some(&policy), None).unwrap();
        places.add(("north", ""), None, Some(&stored)).unwrap();
        places.add(("north", "alice"), Some(&policy), Some(&stored)).unwrap();
        assert!(places.policies.deployment.is_some() && places.policies.user.is_some());
        assert_eq!(places.policies.tenant, None);
        let [_, tenant, user] = PolicyScope::of(&owner).try_into().unwrap();
        assert_eq!(places.blocks, [(tenant, block.clone()), (user, block)]);
        assert!(places.add(("", ""), Some("{"), None).is_err());
        assert!(places.add(("", ""), None, Some("{")).is_err());
    }
}
