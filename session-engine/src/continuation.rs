//! Signs a user in again on the device that holds a session of theirs: the session goes on under a new
//! token ([`session_core::rotation::sign_in_again`]), so that an answer that is lost signs nobody out.

use session_core::cleanup::MAX_CLOCK_SKEW;
use session_core::planted::{self, Defect};
use session_core::rotation::{self, SignInAgain};
use session_core::session::Unknown;
use session_core::store::UserState;
use session_core::{Authentication, Session, SessionId, Token};

use crate::admit::Newcoming;
use crate::check::Refusal;
use crate::entropy::random;
use crate::error::Error;
use crate::held::ShownToken;
use crate::node::Node;
use crate::options::Options;
use crate::rotate::{Exchange, Rotation};
use crate::sign_in::SignIn;

/// What a sign-in makes of the session that its browser shows. Fixed for all tries, so that a try whose answer
/// was lost is recognised in the store.
pub(crate) struct Continuation {
    id: SessionId,
    shown: ShownToken,
    salt: [u8; 16],
    authentication: Authentication,
    sign_in: SignInAgain,
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
    pub(crate) fn continuation(&self, request: &SignIn) -> Result<Option<Continuation>, Error> {
        let (Some(id), Some(shown)) = (request.replaces, request.shown.clone()) else {
            return Ok(None);
        };
        let now = self.now();
        let sign_in = SignInAgain {
            at: now,
            device_info: request.device_info.clone(),
            data: request.data.clone(),
            timeouts: request.timeouts,
            unknown: Unknown::new(),
        };
        let authentication = request.proof.authentication(now)?;
        let salt = random(self.shared().entropy.as_ref());
        Ok(Some(Continuation { id, shown, salt, authentication, sign_in }))
    }

    /// The session that the browser shows, where it can go on; otherwise it ends and another begins. It is
    /// read after `state`: a change in between makes the commit a conflict.
    pub(crate) async fn goes_on(
        &self,
        newcoming: &Newcoming,
        state: &UserState,
    ) -> Result<Option<GoesOn>, Error> {
        let Newcoming { request, continuation: Some(continuation), .. } = newcoming else {
            return Ok(None);
        };
        let stands = state.sessions.iter().any(|standing| standing.id == continuation.id);
        if !stands || planted::is(Defect::SameDeviceAdds) || planted::is(Defect::HeldEnds) {
            return Ok(None);
        }
        let shared = self.shared();
        let loaded = match shared.store_call("load", shared.store.load(continuation.id)).await {
            Ok(loaded) => loaded,
            // One that cannot be read ends.
            Err(error) if error.is_corrupt() => None,
            Err(error) => return Err(error),
        };
        let Some(loaded) = loaded.filter(|loaded| is_for(request, &loaded.session)) else {
            return Ok(None);
        };
        let (shown, now) = (&continuation.shown, self.now());
        let record = match self.exchange(&loaded, &shown.token, now.since(shown.at)) {
            Exchange::Of(record) => *record,
            // It was good when it was shown; other tabs have got the tokens after it.
            Exchange::Answered(
                Rotation::AlreadyRotated | Rotation::Refused(Refusal::Superseded),
            ) => loaded.session.clone(),
            Exchange::Answered(_) | Exchange::Over(_) => return Ok(None),
        };
        Ok(self.with_token(continuation, &record, &loaded.session))
    }

    /// The record with the new token. None where the session would end sooner by what the sign-in says than by
    /// what stores have of it, which never comes earlier.
    fn with_token(
        &self,
        continuation: &Continuation,
        record: &Session,
        stored: &Session,
    ) -> Option<GoesOn> {
        let Continuation { shown, salt, authentication, sign_in, .. } = continuation;
        let (record, token) = rotation::sign_in_again(
            record,
            &shown.token,
            *salt,
            authentication.clone(),
            sign_in.clone(),
        );
        if stored.token.current == token.digest() {
            return Some(GoesOn { record: stored.clone(), token, is_stored: true });
        }
        let Options { timeouts, cleanup, .. } = self.options();
        let deadline = self.confirmed(&record, &token).deadline;
        let otherwise = stored.deadline_at(timeouts, cleanup, self.now(), true);
        if deadline.plus(MAX_CLOCK_SKEW) < stored.deadline.max(otherwise) {
            return None;
        }
        let is_stored = record == *stored;
        Some(GoesOn { record: self.kept_while_pending(record), token, is_stored })
    }
}

/// Whether policies and the history see the same user, device kind, client and impersonator.
fn is_for(request: &SignIn, session: &Session) -> bool {
    session.owner == request.owner
        && session.device_kind == request.device_kind
        && session.client_id == request.client_id
        && session.impersonator == request.impersonator
}
