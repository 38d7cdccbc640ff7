//! Lies about leases and policies.

use std::time::Duration;

use session_conformance::sample::PATIENCE;
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{BlockChange, PolicyChange, Selection};
use session_core::{InvalidField, Store, StoreError, UserId, UserKey};

use crate::fault::Fault;
use crate::liar::Liar;

impl Liar {
    pub(crate) async fn lie_in_lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let name = match self.fault {
            Fault::LeaseIgnoresNames => "all".to_owned(),
            Fault::LeaseFoldsCase => name.to_lowercase(),
            Fault::LeaseCutsNames => name.chars().take(128).collect(),
            Fault::LeaseRefusesTheLongest if name.len() >= 128 => {
                let long = InvalidField::malformed("lease", "a name of fewer than 128 bytes");
                return Err(StoreError::refused(long));
            }
            _ => name.to_owned(),
        };
        let holder = match self.fault {
            Fault::LeaseCutsHolders => &holder[..holder.floor_char_boundary(127)],
            _ => holder,
        };
        let held = |liar: &Self| {
            let notes = liar.notes();
            notes.holders.get(&name).is_some_and(|holders| holders.contains(holder))
        };
        if self.fault == Fault::LeaseIsNotRenewed && held(self) {
            return Ok(true);
        }
        if self.fault == Fault::LeaseLooksFirst {
            let free = !self.notes().holders.contains_key(&name);
            self.dawdle().await;
            self.notes().holders.entry(name).or_default().insert(holder.to_owned());
            return Ok(free);
        }
        let ttl = if self.fault == Fault::LeaseNeverEnds { ttl * 1000 } else { ttl };
        let got = self.store().lease(&name, holder, ttl).await?;
        let late = !got && held(self);
        if got {
            self.notes().holders.entry(name).or_default().insert(holder.to_owned());
        }
        Ok(match self.fault {
            Fault::LeaseForEverybody => true,
            Fault::LeaseForLateHolders => got || late,
            _ => got,
        })
    }

    pub(crate) async fn lie_in_set_policy(
        &self,
        mut change: PolicyChange,
    ) -> Result<(), StoreError> {
        let known = self.store().policy(&change.scope).await?;
        match (self.fault, &change.scope) {
            (Fault::PoliciesAreStale, PolicyScope::User(owner)) => {
                let state = self.store().user(owner).await?;
                self.notes().policies.entry(owner.clone()).or_insert(state.policies);
            }
            (Fault::PoliciesFoldCase, PolicyScope::User(owner)) => {
                let user = UserId::new(&owner.user.as_str().to_lowercase()).unwrap();
                change.scope = PolicyScope::User(UserKey { user, ..owner.clone() });
            }
            (Fault::PoliciesStayLocked, _) => {
                if std::mem::replace(&mut self.notes().policies_are_locked, true) {
                    tokio::time::sleep(PATIENCE / 4).await;
                }
                tokio::task::yield_now().await;
                self.notes().policies_are_locked = false;
            }
            (Fault::UnsetPoliciesStay, _) if change.policy.is_none() => change.policy = known,
            (Fault::UnsetPoliciesAreNotTold, _) if change.policy.is_none() && known.is_none() => {
                return Ok(());
            }
            (Fault::FirstPolicyStays, _) if known.is_some() && change.policy.is_some() => {
                change.policy = known;
            }
            (Fault::PoliciesLiftBlocks, scope) if change.policy.is_none() => {
                let (scope, by) = (scope.clone(), change.by.clone());
                let lift = BlockChange { scope, block: None, at: change.at, by };
                self.store().set_block(&lift).await?;
            }
            (Fault::PoliciesWiden, PolicyScope::User(_)) => {
                if let Some(scope) = change.scope.wider() {
                    let wider = PolicyChange { scope, ..change.clone() };
                    self.store().set_policy(&wider).await?;
                }
            }
            (Fault::PoliciesEndSessions, PolicyScope::User(owner))
                if change.policy.as_ref().is_some_and(|policy| !is_open(policy)) =>
            {
                self.end_where(Selection::user(owner.clone())).await;
            }
            _ => {}
        }
        self.store().set_policy(&change).await
    }
}

fn is_open(policy: &Policy) -> bool {
    policy.effective_limits().is_empty()
}
