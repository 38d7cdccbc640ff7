//! How far each node is let run.
//!
//! A node that the next event does not concern may be [`LAG`] behind it: what its timers send then arrives
//! later by that. No node is further ahead of another than [`CHUNK`], or [`IDLE_CHUNK`] where nobody asks: by
//! that a hint may be late which follows from what the other one's timers send.

use super::*;

/// Which nodes an event concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Concerns {
    Nobody,
    Node(usize),
    All,
}

impl Concerns {
    fn has(self, node: usize) -> bool {
        self == Self::All || self == Self::Node(node)
    }
}

impl Node {
    /// The time that it has reached, if it runs.
    fn time(&self) -> Option<Ms> {
        let process = self.process.as_ref().filter(|_| self.state == State::Runs);
        process.map(Process::now)
    }
}

impl World<'_> {
    /// Which nodes have to be there when it happens.
    pub(super) fn concerns(&self, happening: &Happening) -> Concerns {
        match happening {
            Happening::Arrives { .. } => Concerns::Nobody,
            Happening::Answers(answering) => Concerns::Node(answering.node),
            Happening::Hint(node)
            | Happening::Gone(node)
            | Happening::Start(node)
            | Happening::Thaw(node)
            | Happening::RightClock(node) => Concerns::Node(*node),
            Happening::Leaves(number) => Concerns::Node(self.operations[*number].begun.node),
            Happening::Step(index) => match &self.plan.steps[*index].act {
                Act::Fault(_) => Concerns::All,
                act => Concerns::Node(act.way().0.node),
            },
            Happening::CheckUses => Concerns::All,
        }
    }

    /// Lets nodes work until `until`: those that have to be there, and those that are too far behind.
    /// True where something has left one of them that happens before.
    pub(super) fn advance(&mut self, until: Ms, whom: Concerns) -> bool {
        loop {
            let times: Vec<Option<Ms>> = self.nodes.iter().map(Node::time).collect();
            let Some(floor) = times.iter().flatten().copied().min() else { return false };
            let chunk = if floor < self.busy_until { CHUNK } else { IDLE_CHUNK };
            let mut horizon = until.min(floor + chunk);
            let mut waits = false;
            for (index, time) in times.into_iter().enumerate() {
                let Some(time) = time.filter(|time| *time < self.due(index, until, whom)) else {
                    continue;
                };
                waits = true;
                let process = self.nodes[index].process.as_mut();
                let Some(process) = process.filter(|_| time < horizon) else { continue };
                process.run_until(horizon);
                let time = process.now();
                let earliest = self.collect(index, time);
                horizon = horizon.min(earliest.max(time));
                if self.oracle.violation.is_some() {
                    return true;
                }
            }
            if !waits {
                return false;
            }
            if self.events.first_key_value().is_some_and(|((at, _), _)| *at < until) {
                return true;
            }
        }
    }

    /// How far a node has to be before something happens at `until`: past what it was given to do.
    fn due(&self, index: usize, until: Ms, whom: Concerns) -> Ms {
        let lags = self.nodes[index].stirred + 1;
        if whom.has(index) { until } else { until.min(lags.max(until.saturating_sub(LAG))) }
    }
}

/// How far behind an event a node may be that it does not concern.
const LAG: Ms = 50;
/// How far nodes run before the others catch up.
const CHUNK: Ms = 50;
const _: () =
    assert!(LAG <= CHUNK, "the last node is let run until the others need not wait for it");
/// The same, while nobody has asked for anything for a while.
const IDLE_CHUNK: Ms = 250;
