//! Policies and leases.

use std::time::{Duration, SystemTime};

use redb::{ReadTransaction, ReadableTable};
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::PolicyChange;
use session_core::{Timestamp, UserKey};

use crate::file::{Failure, POLICIES, Tables};

pub(crate) fn policy(
    file: &ReadTransaction,
    scope: &PolicyScope,
) -> Result<Option<Policy>, Failure> {
    let policies = file.open_table(POLICIES)?;
    let Some(text) = policies.get(scope.key())? else { return Ok(None) };
    Ok(Some(Policy::from_stored(text.value())?))
}

pub(crate) fn policy_layers(
    file: &ReadTransaction,
    owner: &UserKey,
) -> Result<PolicyLayers, Failure> {
    let mut layers = PolicyLayers::default();
    for scope in PolicyScope::of(owner) {
        layers.set(&scope, policy(file, &scope)?);
    }
    Ok(layers)
}

impl Tables<'_> {
    pub(crate) fn set_policy(&mut self, change: &PolicyChange) -> Result<(), Failure> {
        let key = change.scope.key();
        match &change.policy {
            Some(policy) => self.policies.insert(key, policy.to_stored().as_str())?,
            None => self.policies.remove(key)?,
        };
        self.append(&change.event())?;
        Ok(())
    }

    /// None where another holder has it.
    pub(crate) fn lease(
        &mut self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<()>, Failure> {
        let now = clock();
        let held = self.leases.get(name)?.is_some_and(|lease| {
            let (current, until) = lease.value();
            current != holder && Timestamp::from_micros(until) > now
        });
        if held {
            return Ok(None);
        }
        self.leases.insert(name, (holder, now.plus(ttl).as_micros()))?;
        Ok(Some(()))
    }
}

/// The store's clock is its host's, which is also that of all its nodes.
pub(crate) fn clock() -> Timestamp {
    Timestamp::EPOCH.plus(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default())
}
