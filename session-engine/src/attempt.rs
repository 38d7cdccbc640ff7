//! One try to sign in: what it commits, and which of several has happened.

use session_core::planted::{self, Defect};
use session_core::store::{Change, Commit, UserState};
use session_core::{EndCause, EventKind, Session, SessionId, Timestamp, Token};

use crate::cache::Fill;
use crate::sign_in::SignIn;
use crate::take_back::Unheld;

/// One try to sign in.
pub(crate) struct Attempt<'c> {
    pub(crate) token: Token,
    pub(crate) session: Session,
    pub(crate) at: Timestamp,
    pub(crate) ended: Vec<(SessionId, EndCause)>,
    /// None where the session is there, and goes on.
    pub(crate) new: Option<New<'c>>,
}

/// What belongs to a session that begins.
pub(crate) struct New<'c> {
    pub(crate) slot: Option<Fill<'c>>,
    pub(crate) unheld: Unheld,
}

impl Attempt<'_> {
    pub(crate) fn commit(&self, request: &SignIn, state: &UserState) -> Commit {
        let ends = self.ended.iter().map(|(id, cause)| Change::End(*id, *cause));
        let session = Box::new(self.session.clone());
        let begins = match self.new {
            Some(_) => Change::Insert(session),
            None => Change::Update { session, kind: EventKind::Rotated },
        };
        let mut expected = state.version;
        expected.0 += i64::from(planted::is(Defect::VersionGuessed));
        Commit {
            owner: request.owner.clone(),
            expected,
            changes: ends.chain([begins]).collect(),
            at: self.at,
            by: request.actor(),
            from: request.device_info.clone(),
        }
    }

    pub(crate) const fn goes_on(&self) -> bool {
        self.new.is_none()
    }

    /// It has not happened, and owes nothing.
    pub(crate) fn release(self) {
        if let Some(New { unheld, .. }) = self.new {
            unheld.release();
        }
    }

    /// The attempt, where these had to leave before it.
    pub(crate) fn after(mut self, left: Vec<(SessionId, EndCause)>) -> Self {
        self.ended.extend(left);
        self.ended.sort_by_key(|(id, _)| *id);
        self
    }
}

/// The try in doubt that is in the store, of those that go on in the session: the latest that has ended all that
/// it was to end.
pub(crate) fn happened<'s>(
    state: &UserState,
    in_doubt: &mut Vec<Attempt<'s>>,
) -> Option<Attempt<'s>> {
    let stands = |id| state.sessions.iter().any(|standing| standing.id == id);
    let ended_all = |attempt: &Attempt<'_>| {
        attempt.goes_on() && attempt.ended.iter().all(|(id, _)| !stands(*id))
    };
    let place = in_doubt.iter().rposition(ended_all).unwrap_or(in_doubt.len().checked_sub(1)?);
    let mut attempt = in_doubt.swap_remove(place);
    attempt.ended.retain(|(id, _)| !stands(*id));
    Some(attempt)
}

/// Cuts the commit to the largest size. Returns whether it is complete.
pub(crate) fn first_step(mut commit: Commit) -> (Commit, bool) {
    let complete = commit.changes.len() <= Commit::MAX_CHANGES;
    commit.changes.truncate(Commit::MAX_CHANGES);
    (commit, complete)
}
