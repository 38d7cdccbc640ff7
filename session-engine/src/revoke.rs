//! Ends sessions, everywhere.

use session_core::store::{EndMany, Selection, TenantFilter};
use session_core::{Actor, EndCause, SessionId, UserKey};

use crate::entry::CurrentSession;
use crate::error::Error;
use crate::manager::SessionManager;

impl SessionManager {
    /// Ends one session of this user. False if there is none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away; the call can be repeated.
    pub async fn revoke(&self, id: SessionId, owner: &UserKey, by: Actor) -> Result<bool, Error> {
        let selection = Selection::user(owner.clone()).among([id]);
        Ok(self.revoke_selected(selection, by).await? > 0)
    }

    /// Ends every selected session and answers how many there were.
    ///
    /// Once this returns, this node refuses all of them, and every other node does within the
    /// propagation bound. Sessions end in batches of one atomic step each.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is away; some batches may have ended, and the call
    /// can be repeated. [`Error::Invalid`] for more than [`Selection::MAX_IDS`] ids.
    pub async fn revoke_selected(&self, selection: Selection, by: Actor) -> Result<u64, Error> {
        self.end_all(selection, EndCause::Revoked, by).await
    }

    /// Ends all sessions of a user.
    ///
    /// # Errors
    /// As [`SessionManager::revoke_selected`].
    pub async fn revoke_user(&self, owner: UserKey, by: Actor) -> Result<u64, Error> {
        self.revoke_selected(Selection::user(owner), by).await
    }

    /// Ends all sessions of the user but this one.
    ///
    /// # Errors
    /// As [`SessionManager::revoke_selected`].
    pub async fn revoke_others(&self, current: &CurrentSession) -> Result<u64, Error> {
        let by = Actor::User(current.user().clone());
        let others = Selection::user(current.owner().clone()).except(current.id());
        self.revoke_selected(others, by).await
    }

    /// Ends a session because its own user signs out.
    ///
    /// # Errors
    /// As [`SessionManager::revoke_selected`].
    pub async fn sign_out(&self, current: &CurrentSession) -> Result<(), Error> {
        let by = Actor::User(current.user().clone());
        let tenant = TenantFilter::Is(current.tenant().cloned());
        let selection = Selection::session(current.id(), tenant);
        self.end_all(selection, EndCause::SignedOut, by).await.map(|_| ())
    }

    pub(crate) async fn end_all(
        &self,
        selection: Selection,
        cause: EndCause,
        by: Actor,
    ) -> Result<u64, Error> {
        check_ids(&selection)?;
        let shared = self.shared();
        let end = EndMany { selection, cause, at: self.now(), by };
        let mut count = 0;
        loop {
            let batch = shared.store_call(shared.store.end_many(&end, BATCH)).await?;
            batch.iter().for_each(|ended| {
                shared.cache.end(ended.id, cause);
                shared.watchers.ended(ended.id, cause);
            });
            shared.poke.notify_one();
            count += batch.len() as u64;
            if batch.len() < BATCH as usize {
                return Ok(count);
            }
        }
    }
}

fn check_ids(selection: &Selection) -> Result<(), Error> {
    let actual = selection.ids.as_ref().map_or(0, Vec::len);
    let limit = Selection::MAX_IDS;
    if actual > limit {
        let problem = session_core::field::FieldProblem::TooMany { limit, actual };
        return Err(session_core::InvalidField { field: "ids", problem }.into());
    }
    Ok(())
}

/// Sessions that end in one atomic step.
const BATCH: u32 = 500;
