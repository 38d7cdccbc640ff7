//! What goes wrong in a run.

use super::*;

impl World<'_> {
    pub(super) fn fault(&mut self, fault: &Fault) {
        let now = self.now;
        match *fault {
            Fault::Weather(node, weather, lasts) => {
                let until = (now + lasts).min(self.plan.active);
                self.nodes[node].weather = (weather, until);
                self.oracle.disturb(node, now, until);
            }
            Fault::StoreAway(lasts) => {
                self.away_until = (now + lasts).min(self.plan.active);
                for node in 0..self.nodes.len() {
                    self.oracle.disturb(node, now, self.away_until);
                }
            }
            Fault::PushesLost(node, lasts) => {
                self.nodes[node].lost_pushes_until = (now + lasts).min(self.plan.active);
            }
            Fault::PushesLate(node, lasts) => {
                self.nodes[node].late_pushes_until = (now + lasts).min(self.plan.active);
            }
            Fault::Crash(node, lasts) => {
                if self.nodes[node].process.is_some() {
                    self.oracle.reached.note("a node is killed");
                    self.kill(node);
                    self.oracle.disturb(node, now, now + lasts);
                    self.at(now + lasts, Happening::Start(node));
                }
            }
            Fault::Restart(node, lasts) => self.stop_in_order(node, lasts),
            Fault::Stopped(node, lasts) => self.suspend(node, State::Stopped, lasts),
            Fault::Asleep(node, lasts) => self.suspend(node, State::Asleep, lasts),
            Fault::Skew(node, seconds) => {
                self.oracle.reached.note("a wall clock is wrong");
                self.nodes[node].wall.skew(seconds);
                let right = self.rng.u64(now..=self.plan.active);
                self.at(right, Happening::RightClock(node));
            }
            Fault::Still(node) => {
                // A machine that sleeps needs a clock that tells it so.
                let sleeps = self.plan.steps.iter().any(|step| {
                    matches!(step.act, Act::Fault(Fault::Asleep(asleep, _)) if asleep == node)
                });
                if !sleeps {
                    self.oracle.reached.note("a wall clock stands still");
                    self.nodes[node].wall.stand_still(Some(now));
                    self.at(self.plan.active, Happening::RightClock(node));
                }
            }
            Fault::Copy => self.copy = Some((self.oracle.copied(now), self.store.copy())),
            Fault::Restore => self.restore(),
            Fault::HolderStopped(lasts) => self.stop_holder = Some(lasts),
            Fault::Older(node) => self.nodes[node].older = true,
            Fault::Newer(node) => self.nodes[node].newer = true,
        }
    }

    fn stop_in_order(&mut self, node: usize, lasts: Ms) {
        let now = self.now;
        let ready = self.nodes[node].state == State::Runs && self.nodes[node].stopping.is_none();
        let Some(process) = self.nodes[node].process.as_ref().filter(|_| ready) else {
            return;
        };
        if process.http.is_none() {
            return;
        }
        self.oracle.reached.note("a node stops in order");
        process.stop();
        self.nodes[node].stopping = Some(lasts);
        let takes = ms(self.plan.options.store_timeout) * 6;
        self.oracle.leaves(node, now, now + takes + lasts);
    }

    pub(super) fn suspend(&mut self, node: usize, state: State, lasts: Ms) {
        let now = self.now;
        if self.nodes[node].state != State::Runs {
            return;
        }
        self.oracle.reached.note(if state == State::Asleep {
            "a machine sleeps"
        } else {
            "a node is not scheduled for a while"
        });
        self.nodes[node].state = state;
        let until = (now + lasts).min(self.plan.active);
        self.oracle.stop(node, now, until);
        self.at(until.max(now + 1), Happening::Thaw(node));
        let waiting = |by: &&Operation| by.begun.node == node && !by.over;
        let waiting = self.operations.iter().filter(waiting);
        for token in waiting.filter_map(|by| by.token.as_ref()) {
            self.oracle.delays(token);
        }
    }

    fn restore(&mut self) {
        let now = self.now;
        if let Some((copied, store)) = self.copy.take() {
            self.oracle.reached.note("a store comes back older");
            self.store = store;
            let stored = all_sessions(&self.store);
            self.oracle.restored(copied, now, &stored);
            for node in 0..self.nodes.len() {
                self.oracle.disturb(node, now, now);
            }
        }
    }
}
