//! What an application knows of a user beyond the session, cached beside it.

use std::error::Error;

use async_trait::async_trait;
use serde_json::Value;
use session_core::Session;

/// Supplies the claims of a session: roles, permissions, a display name.
///
/// Asked when a session enters a node's cache, and again for the next request after
/// [`SessionManager::claims_changed`](crate::SessionManager::claims_changed).
///
/// An async closure that takes a [`Session`] is a provider, too:
///
/// ```
/// use serde_json::json;
/// use session_core::Session;
/// use session_engine::Parts;
///
/// let parts = Parts::default().with_claims(|session: Session| async move {
///     let admin = session.owner.user.as_str() == "root";
///     Ok::<_, std::io::Error>(json!({ "admin": admin }))
/// });
/// ```
#[async_trait]
pub trait ClaimsProvider: Send + Sync + 'static {
    /// The claims as of now.
    ///
    /// # Errors
    /// Any error makes the request fail as unavailable; nothing is cached.
    async fn claims(&self, session: &Session) -> Result<Value, Box<dyn Error + Send + Sync>>;
}

#[async_trait]
impl<F, Fut, E> ClaimsProvider for F
where
    F: Fn(Session) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, E>> + Send,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    async fn claims(&self, session: &Session) -> Result<Value, Box<dyn Error + Send + Sync>> {
        self(session.clone()).await.map_err(Into::into)
    }
}
