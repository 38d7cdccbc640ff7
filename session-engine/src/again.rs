//! Signs a user in again on the device that holds a session of theirs: the session goes on under a new
//! token ([`session_core::rotation::sign_in_again`]), so that an answer that is lost signs nobody out.

use session_core::planted::{self, Defect};
use session_core::rotation::{self, SignInAgain};
use session_core::store::UserState;
use session_core::{Authentication, Session, SessionId, Token};

use crate::admit::Newcoming;
use crate::entropy::random;
use crate::error::Error;
use crate::held::HeldBy;
use crate::node::Node;
use crate::rotate::{Exchange, Rotation};
use crate::sign_in::SignIn;

/// What a sign-in makes of the session that its browser shows: the same for every try, so that one whose
/// answer was lost is found in the store.
pub(crate) struct Again {
    id: SessionId,
    held: HeldBy,
    salt: [u8; 16],
    authentication: Authentication,
    becomes: SignInAgain,
}

/// A session that goes on.
pub(crate) struct GoesOn {
    /// Its record with the new token, which is still to be used.
    pub(crate) record: Session,
    pub(crate) token: Token,
    /// Whether the store has the record.
    pub(crate) is_stored: bool,
}

impl Node {
    pub(crate) fn again(&self, request: &SignIn) -> Result<Option<Again>, Error> {
        let (Some(id), Some(held)) = (request.replaces, request.held.clone()) else {
            return Ok(None);
        };
        let now = self.now();
        let becomes = SignInAgain {
            device_info: request.device_info.clone(),
            data: request.data.clone(),
            timeouts: request.timeouts,
            ..SignInAgain::at(now)
        };
        let authentication = request.proof.authentication(now)?;
        let salt = random(self.shared().entropy.as_ref());
        Ok(Some(Again { id, held, salt, authentication, becomes }))
    }

    /// The session that the browser shows, where it can go on: else it ends, and another one begins. It is
    /// read after the state, for whose version the commit is made: what has changed since is a conflict.
    pub(crate) async fn goes_on(
        &self,
        newcoming: &Newcoming,
        state: &UserState,
    ) -> Result<Option<GoesOn>, Error> {
        let Newcoming { request, again: Some(again), .. } = newcoming else { return Ok(None) };
        let stands = state.sessions.iter().any(|standing| standing.id == again.id);
        if !stands || planted::is(Defect::SameDeviceAdds) || planted::is(Defect::HeldEnds) {
            return Ok(None);
        }
        let shared = self.shared();
        let loaded = match shared.store_call("load", shared.store.load(again.id)).await {
            Ok(loaded) => loaded,
            // One that cannot be read ends.
            Err(error) if error.is_corrupt() => None,
            Err(error) => return Err(error),
        };
        let Some(loaded) = loaded.filter(|loaded| is_for(request, &loaded.session)) else {
            return Ok(None);
        };
        let shown_before = self.now().since(again.held.at);
        let record = match self.exchange(&loaded, &again.held.token, shown_before) {
            Exchange::Of(record) => *record,
            // In its grace: another tab has got the token after it.
            Exchange::Answered(Rotation::AlreadyRotated) => loaded.session.clone(),
            Exchange::Answered(_) | Exchange::Over(_) => return Ok(None),
        };
        let (record, token) = rotation::sign_in_again(
            &record,
            &again.held.token,
            again.salt,
            again.authentication.clone(),
            again.becomes.clone(),
        );
        let is_stored = record == loaded.session;
        Ok(Some(GoesOn { record, token, is_stored }))
    }
}

/// Whether nothing differs that a policy or the history goes by.
fn is_for(request: &SignIn, session: &Session) -> bool {
    session.owner == request.owner
        && session.device_kind == request.device_kind
        && session.client_id == request.client_id
        && session.impersonator == request.impersonator
}
