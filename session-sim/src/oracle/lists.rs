//! Judges what lists of sessions have, and what listeners are told.

use session_core::{EndCause, SessionId, UserKey};

use super::{Begun, Guarantee, Oracle, ms};
use crate::node::stamp;
use crate::plan::Ms;

impl Oracle {
    /// A list of a user's sessions is asked for.
    pub(crate) fn lists(&mut self, number: usize, owner: &UserKey) {
        let live = self.live_of(owner);
        let live = live.map(|known| (known.session.id, known.session.deadline)).collect();
        self.lists.insert(number, live);
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

    /// The store has deleted what it kept of a user's sessions after their end.
    pub(super) fn forgotten(&mut self, at: Ms, owner: &UserKey) {
        for known in self.sessions.values_mut().filter(|known| known.session.owner == *owner) {
            if known.ended.is_some() {
                known.forgotten = Some(at);
            }
        }
    }

    /// The history has what has ended, how it has ended, and, if it is whole, all of it.
    pub(crate) fn remembered(
        &mut self,
        at: Ms,
        begun: &Begun,
        owner: &UserKey,
        listed: &[(SessionId, UserKey, EndCause)],
        whole: bool,
    ) {
        self.reached.note("the history of a user is listed");
        for (id, of, cause) in listed {
            let right = self.sessions.get(id).is_some_and(|known| {
                let ended = known.ended.is_some_and(|end| end.cause == *cause);
                let kept = known.forgotten.is_none_or(|forgotten| forgotten >= begun.at);
                known.excused || ended && kept
            });
            if of != owner || !right {
                self.broken(Guarantee::HistoryList, at, || {
                    format!("{id} of {of:?} is in the history of {owner:?} as {cause:?}")
                });
            }
        }
        let kept = ms(self.options.history.keep.unwrap_or_default());
        let slack = self.time_error() + 1_000;
        let missing = self.sessions.values().find(|known| {
            let is_kept = |end: super::End| end.at < begun.at && at + slack < end.at + kept;
            let mine = known.session.owner == *owner && known.forgotten.is_none();
            mine && !known.excused
                && known.ended.is_some_and(is_kept)
                && listed.iter().all(|(id, ..)| *id != known.session.id)
        });
        if let Some(id) = missing.map(|known| known.session.id).filter(|_| whole) {
            self.broken(Guarantee::HistoryList, at, || {
                format!("{id} has ended and is not in the history of {owner:?}")
            });
        }
    }

    /// A node tells of an end once, and as it was. A store that came back older may have lost it, and have another.
    pub(super) fn check_telling(&mut self, node: usize, at: Ms, id: SessionId, cause: EndCause) {
        let Some(known) = self.sessions.get(&id) else {
            self.broken(Guarantee::Unknown, at, || format!("{id} is told of and never began"));
            return;
        };
        let (ended, undone) = (known.ended, known.undone);
        let listener = self.nodes[node].listener.as_ref();
        let times = listener.map_or(0, |listener| listener.told_since(id, known.born).len());
        let right = times == 1 && ended.is_some_and(|end| end.cause == cause);
        if !right && !undone {
            self.broken(Guarantee::Told, at, || {
                format!("node {node} tells of {id} as {cause:?}, the {times}. time: {ended:?}")
            });
        }
    }
}
