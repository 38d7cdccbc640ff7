//! What a node asks of the store, on its way there and back.

use session_core::store::{Change, Commit, LogPage};
use session_core::{Event, EventKind, StoreError};

use super::words::{answered, told};
use super::*;
use crate::oracle::begun_by;

impl World<'_> {
    /// A request leaves a node. Returns when it arrives.
    pub(super) fn send(&mut self, index: usize, sent: Ms, request: Request) -> Ms {
        let (weather, until) = self.nodes[index].weather;
        let weather = if sent < until { weather } else { Weather::Clear };
        let timeout = ms(self.plan.options.store_timeout);
        let (takes, fate) = match weather {
            Weather::Clear => (self.rng.u64(1..5), Fate::Arrives),
            Weather::Slow => {
                self.oracle.reached.note("a call is slow");
                (self.rng.u64(1..timeout * 2 / 3), Fate::Arrives)
            }
            Weather::Silent => {
                self.oracle.reached.note("a call gets no answer");
                // Some of it has arrived.
                (self.rng.u64(1..5), if self.rng.bool() { Fate::Unanswered } else { Fate::Fails })
            }
            Weather::Stormy => match self.rng.u32(..10) {
                0..=1 => {
                    self.oracle.reached.note("a call fails before it arrives");
                    (self.rng.u64(1..20), Fate::Fails)
                }
                2..=3 => {
                    self.oracle.reached.note("a call is carried out and its answer lost");
                    (self.rng.u64(1..20), Fate::AnswerLost)
                }
                4 => {
                    self.oracle.reached.note("a call gets no answer");
                    (self.rng.u64(1..20), Fate::Unanswered)
                }
                5 => {
                    self.oracle.reached.note("a call arrives after it was given up");
                    // A server gives up what it has not begun for as long as its client has waited.
                    (self.rng.u64(timeout..2 * timeout), Fate::Unanswered)
                }
                _ => (self.rng.u64(1..200), Fate::Arrives),
            },
        };
        if !matches!(*request.call, Call::LogSince(..)) && !request.call.is_housekeeping() {
            self.busy_until = self.busy_until.max(sent + BUSY);
        }
        let silent = weather == Weather::Silent && fate == Fate::Fails;
        let life = self.oracle.life(index);
        let name = request.call.name();
        self.note(Some(index), sent, || format!("> {name} {}", told(&request.call)));
        if silent {
            // Lost for good: the node waits.
            return Ms::MAX;
        }
        self.at(sent + takes, Happening::Arrives { node: index, life, sent, request, fate })
    }

    pub(super) fn arrive(
        &mut self,
        node: usize,
        life: u32,
        sent: Ms,
        request: Request,
        fate: Fate,
    ) {
        let Request { mut call, answer: to } = request;
        let failed = || Err(StoreError::unavailable("the connection was lost"));
        let away = self.now < self.away_until;
        if away {
            self.oracle.reached.note("a call is refused while the store is away");
        }
        if let (true, Call::Commit(commit)) = (self.nodes[node].newer, &mut *call) {
            self.write_as_newer(commit);
        }
        if let Call::LogSince(.., limit) = &mut *call {
            *limit = self.plan.log_page.min(*limit);
        }
        let answer = if away || fate == Fate::Fails {
            failed()
        } else {
            self.carry_out(node, life, sent, &call)
        };
        let answer = if fate == Fate::AnswerLost { failed() } else { answer };
        if fate == Fate::Unanswered {
            return;
        }
        let at = self.now + self.answer_takes(node);
        let carried_out = self.now;
        let answering = Answering { node, life, sent, carried_out, call, answer, to };
        self.at(at, Happening::Answers(Box::new(answering)));
    }

    fn answer_takes(&mut self, node: usize) -> Ms {
        let (weather, until) = self.nodes[node].weather;
        match weather {
            Weather::Slow if self.now < until => {
                self.rng.u64(1..ms(self.plan.options.store_timeout) / 3)
            }
            _ => self.rng.u64(1..5),
        }
    }

    fn carry_out(&mut self, node: usize, life: u32, sent: Ms, call: &Call) -> Answer {
        let at = self.now;
        let answer = self.store.perform(call);
        match &answer {
            // SQLite draws the mark in a cursor by itself, and reports on its files.
            Ok(Reply::Log(page)) => {
                self.digest(&(&page.events, page.more, page.gap, page.clock));
            }
            Ok(Reply::Report(report)) => {
                self.digest(&(report.clock, report.log_from, report.pending, &report.problems));
            }
            answer => self.digest(answer),
        }
        self.note(None, at, || format!("{} of node {node}: {}", call.name(), answered(&answer)));
        let idle = at >= self.plan.end() - Plan::IDLE;
        if let Call::Commit(commit) = call {
            self.check_caller(sent, commit);
        }
        self.oracle.carried_out(at, Sender { node, life, sent, idle }, call, &answer);
        if call.has_appended(&answer) && self.plan.options.push {
            self.push();
        }
        answer
    }

    /// A caller who has gone begins nothing from then on.
    fn check_caller(&mut self, sent: Ms, commit: &Commit) {
        for change in &commit.changes {
            let Change::Insert(session) = change else { continue };
            let left = begun_by(session)
                .and_then(|number| self.operations.get(number))
                .and_then(|by| by.left);
            if left.is_some_and(|left| left < sent) {
                self.oracle.odd(sent, "a sign-in is committed for a caller who had gone");
            }
        }
    }

    fn push(&mut self) {
        for node in 0..self.nodes.len() {
            let (lost, late) =
                (self.nodes[node].lost_pushes_until, self.nodes[node].late_pushes_until);
            if self.now < lost {
                self.oracle.reached.note("a push is lost");
                continue;
            }
            let takes = if self.now < late {
                self.oracle.reached.note("a push is late");
                self.rng.u64(200..3_000)
            } else {
                self.rng.u64(1..12)
            };
            self.at(self.now + takes, Happening::Hint(node));
        }
    }

    pub(super) fn answer(&mut self, answering: Answering) {
        let Answering { node, life, sent, carried_out, call, mut answer, to } = answering;
        if self.oracle.life(node) != life {
            return;
        }
        if let Ok(Reply::Log(page)) = &mut answer {
            if page.more {
                self.oracle.reached.note("a page of the log is not the last");
            }
            if self.nodes[node].older {
                self.read_as_older(page);
            }
            self.mix_users(page);
        }
        let log = match &answer {
            Ok(Reply::Log(page)) => Some(page.clone()),
            _ => None,
        };
        let leased = matches!(answer, Ok(Reply::Lease(true)));
        let at = self.now;
        self.note(Some(node), at, || format!("< {} {}", call.name(), answered(&answer)));
        if to.send(answer).is_err() {
            return;
        }
        if let Some(page) = log {
            self.oracle.log_arrived(at, node, &page, sent, carried_out);
        }
        if let (true, Call::Lease(name, ..)) = (leased, &*call) {
            self.lease_arrived(node, name);
        }
    }

    /// A version that keeps more in a record.
    fn write_as_newer(&mut self, commit: &mut Commit) {
        for change in &mut commit.changes {
            let session = match change {
                Change::Insert(session) | Change::Update { session, .. } => session,
                Change::End(..) | Change::ClaimsChanged(_) => continue,
            };
            session.unknown.insert("tomorrow".to_owned(), self.now.into());
            self.oracle.reached.note("a node writes a record as a newer version");
        }
    }

    /// A version that does not know some kinds of entries.
    fn read_as_older(&mut self, page: &mut LogPage) {
        for event in &mut page.events {
            if matches!(event.kind, EventKind::ClaimsChanged | EventKind::Changed) {
                event.kind = EventKind::Unknown;
                self.oracle.reached.note("a node reads the log as an older version");
            }
        }
    }

    /// The log keeps the order of each user's entries, and no other: in a store whose transactions commit
    /// out of order, or whose log is in parts, a later one comes first.
    fn mix_users(&mut self, page: &mut LogPage) {
        let of = |event: &Event| (event.tenant.clone(), event.user.clone());
        let before: Vec<_> = page.events.iter().map(of).collect();
        let mut users: Vec<_> = before.clone();
        users.sort();
        users.dedup();
        if users.len() < 2 {
            return;
        }
        self.rng.shuffle(&mut users);
        page.events.sort_by_key(|event| users.iter().position(|user| *user == of(event)));
        if page.events.iter().map(of).ne(before) {
            self.oracle.reached.note("entries of the log come in another order than committed");
        }
    }

    fn lease_arrived(&mut self, node: usize, name: &str) {
        if name != "cleanup" {
            return;
        }
        self.oracle.lease_arrived(node, self.now);
        let is_time = |lasts: &Ms| self.now + lasts + 5_000 < self.plan.active;
        if let Some(lasts) = self.stop_holder.take_if(|lasts| is_time(lasts)) {
            self.suspend(node, State::Stopped, lasts);
        }
    }
}
