//! What clients were handed, and what that is worth. Records of the store do not count.

use session_core::{SessionId, Timestamp, Token};

use super::{Guarantee, Oracle, ms};
use crate::node::stamp;
use crate::plan::Ms;

/// A token that a client was handed.
pub(super) struct Handed {
    id: SessionId,
    /// The token in whose place it comes; none for the first of a session.
    from: Option<String>,
    /// For a proof of who the user is, and not for a renewal.
    steps_up: bool,
    /// Between which times the user has proved with it who they are.
    proven: (Ms, Ms),
    /// When a request first showed it, and was first seen to be accepted with it.
    shown: Option<Ms>,
    accepted: Option<Ms>,
}

impl Handed {
    /// The store has forgotten what it was told since then.
    pub(super) fn forget_since(&mut self, copied: Ms) {
        self.accepted = self.accepted.filter(|accepted| *accepted < copied);
    }
}

/// What a token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// No request has shown another one that may have taken its place.
    Good,
    /// The one after it was first shown a moment ago.
    InGrace,
    /// Its session has ended, or it is not known.
    Unclear,
    /// One of those after the next one was accepted.
    Superseded,
    /// One after it was accepted, and the grace since then is over.
    Over,
}

impl Oracle {
    /// A client is given the token of a session that has begun, whose user has proved who they are between these
    /// times.
    pub(crate) fn handed_out(&mut self, at: Ms, id: SessionId, token: &str, proven: (Ms, Ms)) {
        if id_of(token) != Some(id) {
            self.broken(Guarantee::Another, at, || format!("{id} has a token of another session"));
        }
        self.hands(token, None, false, proven);
    }

    /// A token is answered with the one after it.
    pub(crate) fn rotated(&mut self, at: Ms, token: &str, next: &str, step_up: bool) {
        if id_of(next) != id_of(token) {
            self.broken(Guarantee::Another, at, || {
                "a token is exchanged for one of another session".to_owned()
            });
        }
        if step_up {
            self.reached.note("a user proves again who they are");
            let begun = self.steps_up.get(token).map_or(at, |(first, _)| *first);
            self.hands(next, Some(token), true, (begun, at));
            return;
        }
        if let Some(proven) = self.tokens.get(token).map(|handed| handed.proven) {
            self.hands(next, Some(token), false, proven);
        }
        match self.successors.get(token) {
            Some(known) if known != next && !self.is_excused(token) => {
                self.broken(Guarantee::Successor, at, || {
                    "a token is answered with two next ones".to_owned()
                });
            }
            Some(_) => {}
            None => {
                self.successors.insert(token.to_owned(), next.to_owned());
            }
        }
    }

    fn hands(&mut self, token: &str, from: Option<&str>, steps_up: bool, proven: (Ms, Ms)) {
        let Some(id) = id_of(token) else { return };
        let known = self.tokens.entry(token.to_owned()).or_insert_with(|| Handed {
            id,
            from: from.map(str::to_owned),
            steps_up,
            proven,
            shown: None,
            accepted: None,
        });
        known.proven.1 = known.proven.1.max(proven.1);
    }

    /// A token is on its way to be exchanged for that of a re-authentication.
    pub(crate) fn steps_up(&mut self, token: &str, at: Ms) {
        let (first, last) = self.steps_up.entry(token.to_owned()).or_insert((at, at));
        (*first, *last) = ((*first).min(at), (*last).max(at));
    }

    pub(super) fn is_excused(&self, token: &str) -> bool {
        let known = id_of(token).and_then(|id| self.sessions.get(&id));
        known.is_none_or(|known| known.excused)
    }

    pub(super) fn token_shown(&mut self, token: &str, at: Ms) {
        if let Some(handed) = self.tokens.get_mut(token) {
            handed.shown.get_or_insert(at);
        }
    }

    pub(super) fn token_accepted(&mut self, token: &str, at: Ms) {
        if let Some(handed) = self.tokens.get_mut(token) {
            handed.accepted.get_or_insert(at);
        }
    }

    /// What a token is worth, by what was handed out and shown until now.
    pub(crate) fn worth(&self, token: &str, at: Ms) -> Worth {
        let is_known = |handed: &&Handed| {
            let known = self.sessions.get(&handed.id);
            known.is_some_and(|known| {
                known.ended.is_none() && (!known.excused || known.back.is_some())
            })
        };
        let Some(handed) = self.tokens.get(token).filter(is_known) else { return Worth::Unclear };
        let grace = ms(self.options.rotation_grace);
        // A node that is about to hear of the first use of the next token goes by the one before.
        let margin = self.bound() + 2 * self.time_error();
        let others: Vec<(&str, &Handed)> = self.shown_of(handed.id, token).collect();
        let descends = |(name, _): &&(&str, &Handed)| self.descends(name, token);
        let mut later = others.iter().filter(descends).filter_map(|(_, next)| {
            let is_next = next.from.as_deref() == Some(token);
            next.accepted.map(|accepted| (is_next, accepted))
        });
        let (over, superseded) = later.by_ref().fold((false, false), |(over, superseded), next| {
            let (is_next, accepted) = next;
            let heard = accepted + margin < at;
            (over || accepted + grace + margin < at, superseded || !is_next && heard)
        });
        let in_its_place: Vec<&Handed> = others
            .iter()
            .filter(|(name, _)| !self.descends(token, name))
            .map(|(_, other)| *other)
            .collect();
        let in_grace = |next: &Handed| {
            let shown = next.shown.unwrap_or_default();
            next.from.as_deref() == Some(token) && at + 2 * self.time_error() < shown + grace
        };
        match in_its_place.as_slice() {
            _ if over => Worth::Over,
            _ if superseded => Worth::Superseded,
            [] if !self.may_have_left(handed) => Worth::Good,
            [next] if in_grace(next) => Worth::InGrace,
            _ => Worth::Unclear,
        }
    }

    /// Whether a copy of this token was surely shown after every grace of its session.
    pub(super) fn proves_theft(&self, token: &str, at: Ms) -> bool {
        let Some(handed) = self.tokens.get(token) else { return false };
        let since = ms(self.options.rotation_grace) + self.bound() + 2 * self.time_error();
        let is_past = |(_, other): (&str, &Handed)| {
            other.accepted.is_some_and(|accepted| accepted + since < at)
        };
        self.worth(token, at) == Worth::Over && self.shown_of(handed.id, token).all(is_past)
    }

    /// The other tokens of a session that requests have shown.
    fn shown_of<'o>(
        &'o self,
        id: SessionId,
        token: &'o str,
    ) -> impl Iterator<Item = (&'o str, &'o Handed)> {
        let others = self.tokens.iter().map(|(name, other)| (name.as_str(), other));
        others
            .filter(move |(name, other)| other.id == id && *name != token && other.shown.is_some())
    }

    /// Whether a token was handed out in the place of another one, at once or by those between.
    fn descends(&self, token: &str, from: &str) -> bool {
        let mut next = self.tokens.get(token);
        while let Some(before) = next.and_then(|handed| handed.from.as_deref()) {
            if before == from {
                return true;
            }
            next = self.tokens.get(before);
        }
        false
    }

    /// Only so many proofs wait for their tokens to be shown.
    fn may_have_left(&self, handed: &Handed) -> bool {
        let waits = handed.steps_up && handed.shown.is_none();
        let others = |(other, _): &(&String, &(Ms, Ms))| {
            id_of(other) == Some(handed.id) && handed.from.as_ref() != Some(*other)
        };
        let later = self.steps_up.iter().filter(others);
        let begun = |from: &String| self.steps_up.get(from).map_or(0, |(first, _)| *first);
        let first = handed.from.as_ref().map_or(0, begun);
        waits && later.filter(|(_, (_, last))| *last >= first).count() >= MOST_STEP_UPS
    }

    /// Between which times the user has proved who they are with a token, give or take what a node may be wrong
    /// about the time. None for a token that nobody was given.
    pub(super) fn proven(&self, token: &str) -> Option<(Timestamp, Timestamp)> {
        let handed = self.tokens.get(token)?;
        let error = self.time_error();
        let (first, mut last) = handed.proven;
        let repeated = handed.from.as_ref().filter(|_| handed.steps_up);
        if let Some((_, begun)) = repeated.and_then(|from| self.steps_up.get(from)) {
            if self.sessions.get(&handed.id).is_some_and(|known| known.delayed) {
                return Some((stamp(first.saturating_sub(error)), Timestamp::MAX));
            }
            // One that is under way, or whose answer was lost, knows the time after a few tries.
            last = last.max(begun + 4 * ms(self.options.store_timeout));
        }
        Some((stamp(first.saturating_sub(error)), stamp(last + error)))
    }

    /// Between which times the absolute timeout of a session has begun: with it, or with a proof since then.
    pub(super) fn counts_from(&self, id: SessionId) -> (Timestamp, Timestamp) {
        let Some(known) = self.sessions.get(&id) else { return Default::default() };
        let error = self.time_error();
        let begun = (stamp(known.sent.saturating_sub(error)), stamp(known.born + error));
        let proofs = self.tokens.iter().filter(|(_, it)| it.id == id && it.steps_up);
        proofs.fold(begun, |(first, last), (token, it)| {
            let proven = self.proven(token).unwrap_or_default();
            (
                if it.accepted.is_some() { first.max(proven.0) } else { first },
                if it.shown.is_some() { last.max(proven.1) } else { last },
            )
        })
    }
}

pub(crate) fn id_of(token: &str) -> Option<SessionId> {
    Token::parse(token.as_bytes()).map(|token| token.session_id())
}

/// How many tokens of re-authentications wait at the same time.
const MOST_STEP_UPS: usize = 3;
