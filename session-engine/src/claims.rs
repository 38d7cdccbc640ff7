//! What an application knows of a user beyond the session, cached beside it.

use std::error::Error as StdError;

use async_trait::async_trait;
use serde_json::Value;
use session_core::store::{Change, Commit, Outcome, Version};
use session_core::{Actor, Session, SessionId, UserKey};

use crate::error::Error;
use crate::node::Node;
use crate::notice;

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
    async fn claims(&self, session: &Session) -> Result<Value, Box<dyn StdError + Send + Sync>>;
}

#[async_trait]
impl<F, Fut, E> ClaimsProvider for F
where
    F: Fn(Session) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, E>> + Send,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    async fn claims(&self, session: &Session) -> Result<Value, Box<dyn StdError + Send + Sync>> {
        self(session.clone()).await.map_err(Into::into)
    }
}

impl Node {
    pub(crate) async fn claims_changed(&self, owner: &UserKey, by: Actor) -> Result<(), Error> {
        self.know_the_time().await?;
        let state = self.shared().store_call("user", self.shared().store.user(owner)).await?;
        let ids: Vec<_> = state.sessions.iter().map(|session| session.id).collect();
        let mut version = Some(state.version);
        // Sessions that begin from now on have the new claims.
        for some in ids.chunks(Commit::MAX_CHANGES) {
            self.tell_claims_changed(owner, version.take(), some, &by).await?;
        }
        Ok(())
    }

    /// Reads the user's version where it is not known.
    async fn tell_claims_changed(
        &self,
        owner: &UserKey,
        mut version: Option<Version>,
        ids: &[SessionId],
        by: &Actor,
    ) -> Result<(), Error> {
        let shared = self.shared();
        let mut conflicts = 0;
        loop {
            let expected = match version.take() {
                Some(version) => version,
                None => shared.store_call("user", shared.store.user(owner)).await?.version,
            };
            let commit = Commit {
                owner: owner.clone(),
                expected,
                changes: ids.iter().copied().map(Change::ClaimsChanged).collect(),
                at: self.now(),
                by: by.clone(),
                from: None,
            };
            let outcome = shared.store_call("commit", shared.store.commit(&commit)).await;
            // Also where the answer was lost.
            ids.iter().for_each(|id| shared.cache.invalidate(*id));
            match outcome? {
                Outcome::Done => {
                    notice::log_commit(&commit);
                    shared.changed(true);
                    return Ok(());
                }
                Outcome::Conflict => self.back_off(&mut conflicts).await,
            }
        }
    }
}
