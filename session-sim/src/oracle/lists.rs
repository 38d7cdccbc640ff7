//! Judges what lists of sessions have.

use std::time::Duration;

use session_core::store::EndedSession;
use session_core::{Actor, EndCause, SessionId, UserKey};
use session_engine::Options;

use super::carried::LEASE;
use super::{Begun, Guarantee, Known, Oracle, ms};
use crate::node::{EPOCH, stamp};
use crate::plan::Ms;

impl Oracle {
    /// A list of a user's sessions is asked for.
    pub(crate) fn lists(&mut self, number: usize, owner: &UserKey) {
        let live = self.live_of(owner);
        let live = live.map(|known| (known.session.id, known.session.deadline)).collect();
        self.lists.insert(number, live);
    }

    /// A sign-in begins, which these may stand in the way of: each of them is known to be held by a client.
    pub(crate) fn counts(&mut self, number: usize, owner: &UserKey) {
        let claimed = self.live_of(owner).filter(|known| known.session.claimed);
        let claimed = claimed.map(|known| (known.session.id, known.session.deadline)).collect();
        self.lists.insert(number, claimed);
    }

    /// The sessions that a limit has surely counted, of those that its refusal lists.
    pub(crate) fn surely_counted(
        &mut self,
        at: Ms,
        number: usize,
        listed: &[SessionId],
    ) -> Vec<SessionId> {
        let surely = stamp(at + self.time_error());
        let there = self.lists.remove(&number).unwrap_or_default().into_iter();
        there
            .filter(|(id, deadline)| *deadline > surely && listed.contains(id))
            .map(|(id, _)| id)
            .collect()
    }

    /// A list has none that had ended when it was asked for, none of another user, and, if it is whole, every
    /// session that was there all the time.
    pub(crate) fn listed(
        &mut self,
        at: Ms,
        begun: &Begun,
        (number, owner): (usize, &UserKey),
        listed: &[(SessionId, UserKey)],
        whole: bool,
    ) {
        self.reached.note("the sessions of a user are listed");
        for (id, of) in listed {
            let known = self.sessions.get(id);
            let had_ended = known.is_none_or(|known| {
                known.ended.is_some_and(|end| end.at < begun.at) && !known.excused
            });
            if of != owner || had_ended {
                self.broken(Guarantee::Listed, at, || {
                    format!("{id} of {of:?} is in a list of {owner:?}")
                });
            }
        }
        let surely = stamp(at + self.time_error());
        let there = self.lists.remove(&number).unwrap_or_default();
        let missing = there.into_iter().find(|(id, deadline)| {
            let lives = self.is_live(*id) && !self.sessions[id].excused;
            lives && *deadline > surely && listed.iter().all(|(listed, _)| listed != id)
        });
        if let Some((id, _)) = missing.filter(|_| whole) {
            self.broken(Guarantee::Listed, at, || format!("{id} is not in a list of {owner:?}"));
        }
    }

    /// A node has answered that what is kept of a user is deleted: of the sessions that had begun by then.
    pub(crate) fn erased(&mut self, at: Ms, begun: &Begun, owner: &UserKey) {
        if self.restored_since(begun.at) {
            return;
        }
        let of = |known: &&mut Known| known.session.owner == *owner && known.born < begun.at;
        for known in self.sessions.values_mut().filter(of) {
            known.erased.get_or_insert(at);
        }
    }

    /// The history has what has ended, how it has ended, and, if it is whole, all of it.
    pub(crate) fn remembered(
        &mut self,
        at: Ms,
        begun: &Begun,
        owner: &UserKey,
        listed: &[EndedSession],
        whole: bool,
    ) {
        self.reached.note("the history of a user is listed");
        let kept = ms(self.options.history.keep.unwrap_or_default());
        let error = Duration::from_millis(self.time_error());
        for ended in listed {
            let (id, cause) = (ended.session.id, ended.cause);
            let right = self.sessions.get(&id).is_some_and(|known| {
                let is = &known.session;
                let as_it_was = known.ended.is_some_and(|end| {
                    let told = end.at.abs_diff(ms(ended.ended.since(EPOCH)));
                    end.cause == cause
                        && may_end(owner, cause, &ended.by)
                        && told <= ms(2 * self.options.store_timeout + error)
                        && kept > 0
                });
                let kept = known.erased.is_none_or(|erased| erased >= begun.at);
                let same = is.device_info == ended.session.device_info
                    && is.ip_addresses == ended.session.ip_addresses
                    && is.signed_in == ended.session.signed_in;
                known.excused || as_it_was && kept && same
            });
            if ended.session.owner != *owner || !right {
                self.broken(Guarantee::HistoryList, at, || {
                    format!("in the history of {owner:?} is {ended:?}")
                });
            }
        }
        let slack = self.time_error() + 1_000;
        let missing = self.sessions.values().find(|known| {
            let is_kept = |end: super::End| end.at < begun.at && at + slack < end.at + kept;
            let mine = known.session.owner == *owner && !self.may_be_erased(known);
            mine && !known.excused
                && known.ended.is_some_and(is_kept)
                && listed.iter().all(|ended| ended.session.id != known.session.id)
        });
        if let Some(id) = missing.map(|known| known.session.id).filter(|_| whole) {
            self.broken(Guarantee::HistoryList, at, || {
                format!("{id} has ended and is not in the history of {owner:?}")
            });
        }
    }

    /// At the end of a run nothing is kept that is too old: the cleanup has had the time for several periods, the
    /// first of them after a lease of a node that was killed.
    pub(crate) fn check_forgotten(&mut self, at: Ms, kept: &[EndedSession]) {
        let Options { history, cleanup, .. } = &self.options;
        let most = ms(history.keep.unwrap_or_default() + 2 * cleanup.period) + LEASE;
        let is_old =
            |ended: &&EndedSession| ended.ended.plus(Duration::from_millis(most)) < stamp(at);
        if let Some(ended) = kept.iter().find(is_old).filter(|_| cleanup.enabled) {
            self.broken(Guarantee::HistoryList, at, || format!("still kept is {ended:?}"));
        }
    }
}

/// Who ends sessions of a user so: administrators act as the application.
pub(super) fn may_end(owner: &UserKey, cause: EndCause, by: &Actor) -> bool {
    let is_owner = *by == Actor::User(owner.clone());
    match cause {
        EndCause::Evicted | EndCause::Replaced | EndCause::SignedOut => is_owner,
        EndCause::Blocked => *by == Actor::Application,
        EndCause::TokenReused => *by == Actor::System,
        // Also with a sign-in that finds it so.
        EndCause::Expired => is_owner || *by == Actor::System,
        // A user's others, or what a ticket's user has chosen; or nobody was to hold it.
        _ => is_owner || matches!(by, Actor::Application | Actor::System),
    }
}
