//! Policies as rows: where they are set, and their text.

use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::{StoreError, StoreErrorKind};

use crate::rows;

/// The key of a place: tenant and user, empty for none.
pub(crate) fn key(scope: &PolicyScope) -> Result<(&str, &str), StoreError> {
    match scope {
        PolicyScope::Deployment => Ok(("", "")),
        PolicyScope::Tenant(tenant) => Ok((tenant.as_str(), "")),
        PolicyScope::User(owner) => {
            Ok((rows::tenant_column(owner.tenant.as_ref()), owner.user.as_str()))
        }
        _ => Err(StoreError::new(StoreErrorKind::Internal, "a policy scope of a newer version")),
    }
}

/// Reads a policy's text.
pub(crate) fn parse(text: &str) -> Result<Policy, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::new(StoreErrorKind::Corrupt, error))
}

/// Puts the policy of one place where it belongs.
pub(crate) fn place(
    layers: &mut PolicyLayers,
    tenant: &str,
    user: &str,
    text: &str,
) -> Result<(), StoreError> {
    let policy = Some(parse(text)?);
    match (tenant, user) {
        ("", "") => layers.deployment = policy,
        (_, "") => layers.tenant = policy,
        (_, _) => layers.user = policy,
    }
    Ok(())
}
