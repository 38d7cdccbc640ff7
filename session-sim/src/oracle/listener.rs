//! Judges what nodes tell their listeners.

use std::collections::BTreeMap;

use session_core::{EndCause, Event, EventKind, SessionId};
use session_engine::Notice;

use super::lists::may_end;
use super::{Guarantee, Oracle};
use crate::plan::Ms;

/// What a node has told its listener.
pub(super) struct Listener {
    since: Ms,
    /// Its node is about to end, and tells no more.
    is_over: bool,
    told: BTreeMap<SessionId, Vec<(Ms, EndCause)>>,
    /// When it was told of the begin.
    begun: BTreeMap<SessionId, Ms>,
    /// Between which reads of the log it has missed something.
    missed: Vec<(Option<Ms>, Ms)>,
}

impl Listener {
    /// What it was told of the session that began then: a ticket that a restored store has not seen used begins
    /// a session of the same id again.
    fn told_since(&self, id: SessionId, born: Ms) -> &[(Ms, EndCause)] {
        let told = self.told.get(&id).map_or(&[][..], Vec::as_slice);
        &told[told.partition_point(|(at, _)| *at < born)..]
    }
}

impl Oracle {
    pub(crate) fn node_started(&mut self, node: usize, at: Ms) {
        let facts = &mut self.nodes[node];
        facts.listener = Some(Listener {
            since: at,
            is_over: false,
            told: BTreeMap::new(),
            begun: BTreeMap::new(),
            missed: Vec::new(),
        });
    }

    /// A node tells its listener.
    pub(crate) fn told(&mut self, node: usize, at: Ms, notice: &Notice) {
        let gap = self.nodes[node].gap;
        let Some(listener) = &mut self.nodes[node].listener else { return };
        match notice {
            Notice::Event(event) => match (event.kind, event.session) {
                (EventKind::Ended(cause), Some(id)) => {
                    listener.told.entry(id).or_default().push((at, cause));
                    self.check_telling(node, at, id, event, cause);
                }
                (EventKind::Created, Some(id)) => {
                    let before = listener.begun.insert(id, at);
                    let known = self.sessions.get(&id);
                    if before.zip(known).is_some_and(|(told, known)| told >= known.born) {
                        self.broken(Guarantee::Told, at, || {
                            format!("node {node} tells again of the begin of {id}")
                        });
                    }
                }
                _ => {}
            },
            Notice::Missed => {
                listener.missed.push(gap.unwrap_or((None, at)));
                self.reached.note("a listener is told that it missed something");
            }
            _ => {}
        }
    }

    /// A node ends, or begins to stop in order: it has told all that it had read.
    pub(super) fn tells_no_more(&mut self, node: usize, at: Ms) {
        let Some(listener) = &mut self.nodes[node].listener else { return };
        if std::mem::replace(&mut listener.is_over, true) {
            return;
        }
        let heard = self.begun(node, at).heard.unwrap_or_default();
        self.check_told_by(node, at, heard);
    }

    /// Every end is told once on every node that was there, or the node said that it had missed some.
    pub(super) fn check_told(&mut self, at: Ms) {
        for node in 0..self.nodes.len() {
            self.check_told_by(node, at, at.saturating_sub(2_000));
        }
    }

    /// What a node has told in this life, of all that happened before `until`.
    fn check_told_by(&mut self, node: usize, at: Ms, until: Ms) {
        let Some(listener) = &self.nodes[node].listener else { return };
        let misses = |when: Ms| {
            let mut missed = listener.missed.iter();
            missed.any(|(read, gap)| read.is_none_or(|read| read <= when) && *gap >= when)
        };
        let is_due = |when: Ms| listener.since < when && when < until && !misses(when);
        let mut known = self.sessions.values().filter(|known| !known.excused);
        let wrong = known.find_map(|known| {
            let (id, born) = (known.session.id, known.born);
            if is_due(born) && listener.begun.get(&id).is_none_or(|told| *told < born) {
                return Some(format!("has not told of the begin of {id} at {born}"));
            }
            let end = known.ended.filter(|end| listener.since < end.at)?;
            let told = listener.told_since(id, born);
            let right = match told {
                [] => !is_due(end.at),
                [(_, cause)] => *cause == end.cause || end.cause == EndCause::Unknown,
                _ => false,
            };
            (!right).then(|| format!("was to tell once of {id} ({end:?}) and has told {told:?}"))
        });
        if let Some(wrong) = wrong {
            self.broken(Guarantee::Told, at, || format!("node {node} {wrong}"));
        }
    }

    /// A node tells of an end once, and as it was. A store that came back older may have lost it, and have another.
    fn check_telling(
        &mut self,
        node: usize,
        at: Ms,
        id: SessionId,
        event: &Event,
        cause: EndCause,
    ) {
        let Some(known) = self.sessions.get(&id) else {
            self.broken(Guarantee::Unknown, at, || format!("{id} is told of and never began"));
            return;
        };
        let (ended, undone) = (known.ended, known.undone);
        let owner = &known.session.owner;
        let is_of_owner =
            (&event.tenant, &event.user) == (&owner.tenant, &Some(owner.user.clone()));
        let is_true = is_of_owner && may_end(owner, cause, &event.by);
        if !undone && !is_true {
            self.broken(Guarantee::By, at, || format!("the end of {id} is told as {event:?}"));
            return;
        }
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
