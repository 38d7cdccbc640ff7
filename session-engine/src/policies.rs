//! Policies as they are set.

use session_core::Actor;
use session_core::planted::{self, Defect};
use session_core::policy::{Policy, PolicyScope};
use session_core::store::PolicyChange;

use crate::error::Error;
use crate::node::Node;
use crate::notice;
use crate::shared::Shared;
use crate::trouble::TroubleOver;

/// The policy that holds at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EffectivePolicy {
    /// The policy.
    pub policy: Policy,
    /// Where it is set; none for the default of the options.
    pub set_at: Option<PolicyScope>,
}

impl Node {
    pub(crate) async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, Error> {
        self.shared().store_call("policy", self.shared().store.policy(scope)).await
    }

    pub(crate) async fn effective_policy(
        &self,
        scope: &PolicyScope,
    ) -> Result<EffectivePolicy, Error> {
        let mut at = Some(scope.clone());
        while let Some(scope) = at {
            if let Some(policy) = self.policy(&scope).await? {
                return Ok(EffectivePolicy { policy, set_at: Some(scope) });
            }
            at = scope.wider();
        }
        let policy = self.shared().options.default_policy.clone();
        Ok(EffectivePolicy { policy, set_at: None })
    }

    pub(crate) async fn set_policy(
        &self,
        scope: PolicyScope,
        policy: Option<Policy>,
        by: Actor,
    ) -> Result<(), Error> {
        policy.as_ref().map_or(Ok(()), Policy::validate)?;
        self.know_the_time().await?;
        if planted::is(Defect::PolicyUnset) {
            return Ok(());
        }
        let change = PolicyChange { scope, policy, at: self.now(), by };
        self.shared().store_call("set_policy", self.shared().store.set_policy(&change)).await?;
        notice::log(&change.event());
        self.shared().changed(false);
        Ok(())
    }
}

impl Shared {
    /// Says once that a policy is of a newer version, and once that none is any more.
    pub(crate) fn note_policy(&self, policy: &Policy) {
        if policy.newer {
            if self.newer_policies.begins() {
                let policy = policy.to_stored();
                tracing::warn!(policy, "{NEWER_POLICY}");
                self.health.note("policies", Some(NEWER_POLICY.to_owned()));
            }
        } else if let Some(TroubleOver { lasted, .. }) = self.newer_policies.ends() {
            tracing::info!(?lasted, "no sign-in has met a policy of a newer version for a while");
            self.health.note("policies", None);
        }
    }
}

const NEWER_POLICY: &str =
    "a policy is of a newer version: what this one does not know has its strictest meaning";
