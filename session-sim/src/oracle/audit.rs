//! Judges a run at its end, when faults and work have been over for a while.

use std::time::Duration;

use session_core::{Session, SessionId};

use super::{Guarantee, Oracle, Unstored, ms};
use crate::node::stamp;
use crate::plan::Ms;

impl Oracle {
    /// `stored` is what the store has; nodes have had nothing to do since `idle_from`.
    pub(crate) fn audit(&mut self, at: Ms, stored: &[Session], idle_from: Ms) {
        for session in stored {
            self.check_stored(at, session.id, Some(session));
        }
        self.check_uses(at, stored);
        let there = |id: SessionId| stored.iter().find(|session| session.id == id);
        let live: Vec<SessionId> = self
            .sessions
            .values()
            .filter(|known| known.ended.is_none())
            .map(|known| known.session.id)
            .collect();
        for id in live {
            self.check_stored(at, id, there(id));
            if let Some(session) = there(id) {
                self.check_held(at, session);
                self.check_counted(at, session);
            }
        }
        self.check_told(at);
        self.check_waits(at);
        self.check_idle_calls(at, idle_from);
    }

    /// What was used is in the store once its node has had the time.
    pub(crate) fn check_uses(&mut self, at: Ms, stored: &[Session]) {
        for session in stored {
            self.check_lag(at, session.id);
            self.check_written_back(at, session);
        }
    }

    /// A session that lives is one whose begin was answered.
    fn check_held(&mut self, at: Ms, session: &Session) {
        let Some(known) = self.sessions.get(&session.id) else { return };
        if known.acknowledged || known.orphaned || known.excused {
            return;
        }
        let by = known.begun_by;
        self.broken(Guarantee::NobodyHolds, at, || {
            format!("{} lives, and operation {by:?} has told nobody of it", session.id)
        });
    }

    fn check_written_back(&mut self, at: Ms, session: &Session) {
        let Some(known) = self.sessions.get(&session.id) else { return };
        let Some(used) = known.used else { return };
        let lag =
            ms(self.options.write_back.max_lag(self.options.store_timeout)) + self.time_error();
        // A node that was killed takes along what it had not written; a storm does not.
        let goes_on = self.life(used.node) == used.life;
        if !goes_on || !self.is_calm(used.node, at.saturating_sub(lag), at) {
            return;
        }
        // What a node takes for the time of a use may be wrong by this; one that was stopped in the middle of
        // it may take the time of before.
        let mut wrong = Duration::from_millis(self.time_error());
        if known.delayed {
            wrong += self.options.max_staleness;
        }
        let told = stamp(used.at).minus(wrong);
        let excused = known.excused;
        if used.at + lag < at && session.last_accessed < told && !excused {
            let (last, id) = (session.last_accessed, session.id);
            self.broken(Guarantee::NotWrittenBack, at, || {
                format!("{id} was used at {}, and the store says {last}", stamp(used.at))
            });
        }
        if used.at + lag < at && !session.claimed && !excused {
            let id = session.id;
            self.broken(Guarantee::NotClaimed, at, || format!("{id} was used and is not claimed"));
        }
    }

    /// Of every use the store learns within the delay of its write-back, and of so many on one node with the next
    /// flush, where no fault touches the node.
    pub(super) fn check_lag(&mut self, at: Ms, id: SessionId) {
        let write_back = &self.options.write_back;
        let idle = self.options.timeouts.idle;
        let delay = idle.map_or(write_back.max_delay, |idle| write_back.max_delay.min(idle / 4));
        let most = ms(delay + 2 * write_back.flush_interval) + ON_THE_WAY;
        let Some(known) = self.sessions.get(&id).filter(|known| !known.excused) else { return };
        let is_late = |it: &&Unstored| {
            let until = it.counted + most;
            until < at && self.is_calm(it.used.node, it.used.at, until)
        };
        let late = known.unstored.iter().find(is_late).map(|it| it.used);
        if let Some(used) = late {
            self.broken(Guarantee::Late, at, || {
                let (waited, node) = (at - used.at, used.node);
                format!("a use of {id} on node {node} is not in the store after {waited} ms")
            });
            return;
        }
        let most = ms(2 * write_back.flush_interval) + ON_THE_WAY;
        // A session that has no room in the cache is counted from one again at each load.
        let has_room = self.options.cache_capacity >= self.sessions.len();
        let many = (0..self.nodes.len()).filter(|_| has_room).find(|node| {
            let mut here = known.unstored.iter().filter(|it| it.used.node == *node);
            let first = here.clone().next().map(|it| it.used.at);
            let nth = here.nth(write_back.every_hits as usize - 1).map(|it| it.counted + most);
            first.zip(nth).is_some_and(|(first, due)| due < at && self.is_calm(*node, first, due))
        });
        if let Some(node) = many {
            let hits = write_back.every_hits;
            self.broken(Guarantee::Late, at, || {
                format!("{hits} uses of {id} on node {node} are not in the store")
            });
        }
    }

    fn check_counted(&mut self, at: Ms, session: &Session) {
        let Some(known) = self.sessions.get(&session.id) else { return };
        let number = session.data.as_ref().and_then(|data| data.to_value().as_u64());
        let number = number.unwrap_or_default();
        let (surely, perhaps) = (known.counted, known.perhaps_counted);
        // A change whose answer was lost may have been made twice.
        let excused = known.excused;
        if (number < surely || number > 2 * perhaps) && !excused {
            self.broken(Guarantee::LostUpdate, at, || {
                format!("{} was changed {surely} to {perhaps} times and has {number}", session.id)
            });
        }
    }

    fn check_waits(&mut self, at: Ms) {
        let forgotten = self.waits.values().find(|wait| {
            let end = self.sessions.get(&wait.id).and_then(|known| known.ended);
            let there = self.nodes[wait.node].life == wait.life;
            there && wait.over.is_none() && end.is_some_and(|end| end.at + 3_000 < at)
        });
        if let Some((id, node)) = forgotten.map(|wait| (wait.id, wait.node)) {
            self.broken(Guarantee::Wait, at, || {
                format!("a wait on node {node} is not told the end of {id}")
            });
        }
    }

    /// What an idle node asks of the store does not grow with its cache.
    fn check_idle_calls(&mut self, at: Ms, from: Ms) {
        let minutes = (at - from) as f64 / 60_000.0;
        // Every change is a reason to read the log, and to write on.
        let reasons = 3.0 * f64::from(self.idle_changes);
        let (reads, rest) = if self.options.push { (126.0, 4.0) } else { (252.0, 8.0) };
        let most = reads / self.options.propagation_bound.as_secs_f64() + rest;
        for node in 0..self.nodes.len() {
            if let Some((id, looks)) = self.nodes[node].idle_looks.iter().find(|(_, n)| **n > LOOKS)
            {
                let text = format!("node {node} is idle and looks {looks} times for {id}");
                self.broken(Guarantee::Budget, at, || text);
            }
            let calls = (f64::from(self.nodes[node].idle_calls) - reasons) / minutes;
            if calls > most {
                self.broken(Guarantee::Budget, at, || {
                    format!(
                        "node {node} is idle and asks {calls:.0} times a minute; {most:.0} are allowed"
                    )
                });
            }
        }
    }

    /// A node was killed or stopped: what it had begun and not handed over, nobody has to end.
    pub(crate) fn orphan_unacknowledged(&mut self, operations: impl Fn(usize) -> bool) {
        for known in self.sessions.values_mut() {
            if !known.acknowledged && known.begun_by.is_none_or(&operations) {
                known.orphaned = true;
            }
        }
    }
}

/// How often a node looks in a minute for a session that it owes the end of: after 10 s, 20 s, 40 s and so on, long
/// before the last minute.
const LOOKS: u32 = 2;
/// Two calls, and what a node rounds.
const ON_THE_WAY: Ms = 100;
