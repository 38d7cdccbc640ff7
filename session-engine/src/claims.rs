//! What an application knows of a user beyond the session, cached beside it.

use std::fmt::Debug;

use async_trait::async_trait;
use serde_json::Value;
use session_core::Session;

/// Supplies the claims of a session: roles, permissions, a display name.
///
/// Asked when a session enters a node's cache, and again for the next request after
/// [`SessionManager::claims_changed`](crate::SessionManager::claims_changed).
#[async_trait]
pub trait ClaimsProvider: Debug + Send + Sync + 'static {
    /// The claims as of now.
    ///
    /// # Errors
    /// Any error makes the request fail as unavailable; nothing is cached.
    async fn claims(
        &self,
        session: &Session,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>>;
}

/// No claims.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoClaims;

#[async_trait]
impl ClaimsProvider for NoClaims {
    async fn claims(
        &self,
        _session: &Session,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Value::Null)
    }
}
