//! What users, thieves, administrators and faults do in a run.

use std::time::Duration;

use session_http::HttpSessions;

use super::words::{brief, revoked};
use super::*;
use crate::node::stamp;
use crate::oracle::id_of;

/// A client's request.
struct Asking {
    http: HttpSessions,
    sent: Sent,
    held: Option<SessionId>,
    number: usize,
}

/// An operation that can be begun, the ticket that it uses, and the version of claims that it tells, if any.
struct Asked {
    operation: Running,
    ticket: Option<TicketUse>,
    claims: u64,
    /// What it ends.
    selection: Option<Selection>,
}

type Running = std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl World<'_> {
    pub(super) fn step(&mut self, index: usize) {
        let Step { act, leaves, .. } = self.plan.steps[index].clone();
        if let Act::Fault(fault) = act {
            let at = self.now;
            self.note(None, at, || format!("{fault:?}"));
            self.fault(&fault);
            return;
        }
        match &act {
            Act::Steal(client) => {
                if let Some(token) = self.clients[*client].token.clone() {
                    self.clients[*client].stolen = Some(token);
                }
            }
            _ => self.operate(act, leaves),
        }
    }

    /// Begins an operation, unless its node is down or the client has nothing to show.
    fn operate(&mut self, act: Act, leaves: Option<Ms>) {
        let (way, manner) = act.way();
        let Some(http) = self.nodes[way.node].process.as_ref().and_then(|node| node.http.clone())
        else {
            self.oracle.reached.note("a request to a node that is down");
            return;
        };
        if self.nodes[way.node].stopping.is_some() {
            return;
        }
        let device = &self.clients[way.client];
        let profile = &self.plan.clients[way.client];
        let token = match act {
            Act::Thief(_) => device.stolen.clone(),
            Act::SecondTab(_) => device.before.clone(),
            _ => device.token.clone(),
        };
        let held = device.token.as_deref().and_then(id_of);
        let sent = Sent {
            token: token.clone(),
            bearer: profile.bearer,
            navigates: matches!(act, Act::Navigate(..)) && !profile.bearer,
            passive: matches!(act, Act::Passive(_)),
            works: Duration::from_millis(manner.works),
        };
        if (act.needs_token() && token.is_none()) || (act.needs_session() && held.is_none()) {
            return;
        }
        if act.replaces() && manner.works > 0 {
            self.oracle.reached.note("a request takes long");
        }
        self.busy_until = self.now + BUSY;
        let number = self.operations.len();
        let begun = self.oracle.begun(way.node, self.now);
        let shows = act.needs_token() || matches!(act, Act::SignIn(..) | Act::Ticket(..));
        let shown = token.filter(|_| shows);
        let worth = shown.as_deref().map(|token| self.oracle.worth(token, self.now));
        shown.iter().for_each(|token| self.shows(&act, way.node, token));
        let asked = Asking { http, sent, held, number };
        let Some(Asked { operation, ticket, claims, selection }) = self.ask(&act, asked, &begun)
        else {
            return;
        };
        for (cause, sessions) in self.ends(&act, held, selection.as_ref(), ticket.as_ref()) {
            let erases = matches!(act, Act::Erase(_));
            self.oracle.asks(number, &begun, Ends { cause, sessions, erases });
        }
        if let Some((scope, setting)) = self.sets(&act, begun.at) {
            self.oracle.asks_to_set(&begun, scope, setting);
        }
        let at = self.now;
        let what = format!("{act:?}");
        self.note(Some(way.node), at, || format!("op {number}: {what}"));
        let task = self.nodes[way.node].process.as_ref().map(|node| node.spawn(number, operation));
        if let Some(after) = manner.leaves.or(leaves) {
            self.at(self.now + after, Happening::Leaves(number));
        }
        self.operations.push(Operation {
            act,
            manner,
            begun,
            token: shown,
            worth,
            held,
            ticket,
            claims,
            selection,
            task,
            left: None,
            over: false,
        });
    }

    /// A request with this token leaves its client.
    fn shows(&mut self, act: &Act, node: usize, token: &str) {
        let now = self.now;
        self.oracle.shows(token, now, !matches!(act, Act::Passive(_)));
        if matches!(act, Act::StepUp(..) | Act::SignIn(..)) {
            // The application records the proof when it has done its work.
            let works = if matches!(act, Act::StepUp(..)) { act.way().1.works } else { 0 };
            self.oracle.steps_up(token, now + works);
        }
        // What comes too late counts as a copy.
        let late = matches!(act, Act::SecondTab(_)) && !self.oracle.is_surely_good(token, now);
        if late || matches!(act, Act::Thief(_)) {
            self.oracle.steal(token);
        }
        if self.nodes[node].state != State::Runs {
            self.oracle.delays(token);
        }
    }

    /// What the client asks of its node, and what has to be known of that afterwards.
    fn ask(&mut self, act: &Act, asked: Asking, begun: &Begun) -> Option<Asked> {
        let (Asking { http, sent, held, number }, (way, _)) = (asked, act.way());
        let profile = &self.plan.clients[way.client];
        let (owner, manager) = (profile.user.clone(), http.manager().clone());
        let (mut claims, mut used) = (0, None);
        let selection = self.selection(act, held);
        let id = held.unwrap_or_else(|| SessionId::from_bytes([0; 16]));
        let operation: Running = match act {
            Act::SignIn(..) => {
                self.oracle.counts(number, &owner);
                Box::pin(client::sign_in(http, sent, profile.clone(), format!("op {number}")))
            }
            Act::Ticket(..) => {
                let ticket = self.take_ticket(way.client)?;
                self.oracle.sends_ticket(&ticket.ticket.text);
                let text = ticket.ticket.text.clone();
                let operation = client::ticket(http, sent, text, ticket.end);
                used = Some(ticket);
                Box::pin(operation)
            }
            Act::Check(_, 1)
            | Act::Navigate(..)
            | Act::Passive(_)
            | Act::Thief(_)
            | Act::SecondTab(_) => Box::pin(client::check(http, sent)),
            Act::Check(_, count) => Box::pin(client::burst(http, sent, *count)),
            Act::Rotate(..) => Box::pin(client::rotate(http, sent, false)),
            Act::StepUp(..) => Box::pin(client::rotate(http, sent, true)),
            Act::SignOut(_) => Box::pin(client::sign_out(http, sent)),
            Act::Data(_) => Box::pin(client::count(manager, id)),
            Act::Watch(_) => {
                self.oracle.waits(number, begun, id);
                Box::pin(client::wait(manager, id))
            }
            Act::Revoke(_) => Box::pin(client::revoke(manager, id, owner.clone())),
            Act::RevokeOthers(_) => Box::pin(client::revoke_others(http, sent)),
            Act::RevokeChosen(..) => Box::pin(client::revoke_selected(manager, selection.clone()?)),
            Act::Erase(_) => Box::pin(client::erase(manager, owner.clone())),
            Act::Claims(_) => {
                claims = self.claims.change(&owner);
                Box::pin(client::claims_changed(manager, owner.clone()))
            }
            Act::Block(_, place, lasts) => {
                let until = lasts.map(|lasts| stamp(self.now + lasts));
                Box::pin(client::block(manager, place.scope(&owner), until))
            }
            Act::Unblock(_, place) => Box::pin(client::unblock(manager, place.scope(&owner))),
            Act::SetPolicy(_, place, policy) => {
                Box::pin(client::set_policy(manager, place.scope(&owner), policy.clone()))
            }
            Act::List(_) => {
                self.oracle.lists(number, &owner);
                Box::pin(client::list(manager, owner.clone()))
            }
            Act::History(_) => Box::pin(client::history(manager, owner.clone())),
            Act::Steal(_) | Act::Fault(_) => return None,
        };
        Some(Asked { operation, ticket: used, claims, selection })
    }

    /// The client's ticket, or the one that it has used last, and one of its sessions.
    fn take_ticket(&mut self, client: usize) -> Option<TicketUse> {
        let device = &mut self.clients[client];
        let again = device.ticket.is_none() || self.rng.u32(..4) == 0;
        let ticket = if again { device.last_ticket.clone() } else { device.ticket.take() };
        let ticket = ticket?;
        if again {
            self.oracle.reached.note("a ticket is used a second time");
        }
        device.last_ticket = Some(ticket.clone());
        let end = *ticket.sessions.get(self.rng.usize(..ticket.sessions.len().max(1)))?;
        Some(TicketUse { ticket, end })
    }

    /// A caller goes away.
    pub(super) fn leave(&mut self, number: usize) {
        let operation = &mut self.operations[number];
        if operation.over {
            return;
        }
        operation.left = Some(self.now);
        operation.over = true;
        if let Some(task) = &operation.task {
            task.abort();
        }
        if matches!(operation.act, Act::Data(_))
            && let Some(id) = operation.held
        {
            self.oracle.counted(id, false);
        }
        let name = match operation.act {
            Act::SignIn(..) | Act::Ticket(..) => "the caller of a sign-in goes away",
            Act::Revoke(_)
            | Act::RevokeOthers(_)
            | Act::RevokeChosen(..)
            | Act::Erase(_)
            | Act::Block(..)
            | Act::Unblock(..) => "the caller of a revocation or a block goes away",
            Act::Data(_) | Act::Claims(_) => "the caller of a change goes away",
            _ => "a caller goes away",
        };
        self.oracle.reached.note(name);
        self.used_until(number, self.now);
        let (node, at) = (self.operations[number].begun.node, self.now);
        self.note(Some(node), at, || format!("the caller of op {number} goes away"));
    }

    /// An operation is done.
    pub(super) fn settle(&mut self, number: usize, at: Ms, outcome: Outcome) {
        if self.operations[number].over {
            return;
        }
        self.operations[number].over = true;
        self.oracle.answered(number, at);
        self.judge(number, at, outcome);
        self.used_until(number, at);
    }

    /// An operation whose token counts as used may have counted it at any time until now.
    pub(super) fn used_until(&mut self, number: usize, at: Ms) {
        let operation = &self.operations[number];
        if let Some(token) = &operation.token {
            self.oracle.over(token, at, !matches!(operation.act, Act::Passive(_)));
        }
    }

    fn judge(&mut self, number: usize, at: Ms, outcome: Outcome) {
        let operation = &self.operations[number];
        let (act, begun, held) = (operation.act.clone(), operation.begun.clone(), operation.held);
        let lost = operation.manner.lost;
        let (way, _) = act.way();
        self.note(Some(way.node), at, || format!("op {number} is answered {}", brief(&outcome)));
        self.digest(&outcome);
        if lost {
            self.oracle.reached.note("a response does not reach its client");
        }
        match outcome {
            Outcome::Odd(what) => self.oracle.odd(at, &format!("{act:?}: {what}")),
            Outcome::Unavailable => {
                if let (Act::Data(_), Some(id)) = (&act, held) {
                    self.oracle.counted(id, false);
                }
                self.oracle.unavailable(at, &begun, &format!("{act:?}"));
            }
            outcome => self.judge_answer(number, at, outcome),
        }
    }

    fn judge_answer(&mut self, number: usize, at: Ms, outcome: Outcome) {
        let operation = &self.operations[number];
        let (act, begun, held) = (operation.act.clone(), operation.begun.clone(), operation.held);
        let (claims, selection) = (operation.claims, operation.selection.clone());
        let owner = self.plan.clients[act.way().0.client].user.clone();
        match (&act, outcome) {
            (Act::SignIn(..) | Act::Ticket(..), outcome) => {
                self.settle_sign_in(number, at, outcome);
            }
            (
                Act::Check(..)
                | Act::Navigate(..)
                | Act::Passive(_)
                | Act::Thief(_)
                | Act::SecondTab(_)
                | Act::RevokeOthers(_),
                Outcome::Seen(seen),
            ) => self.seen(number, at, &seen),
            (Act::Rotate(..) | Act::StepUp(..), Outcome::Rotated(Some(next))) => {
                self.settle_rotation(number, at, next);
            }
            (Act::Data(_), Outcome::Counted(found)) => match (held, found) {
                (Some(id), Some(_)) => self.oracle.counted(id, true),
                (Some(id), None) => self.oracle.not_counted(at, &begun, id),
                (None, _) => {}
            },
            (Act::Rotate(..) | Act::StepUp(..) | Act::SignOut(_), Outcome::Unauthorized) => {
                if let (Some(token), Some(worth)) = (&operation.token, operation.worth) {
                    let shown = Shown { token, stolen: false, uses: true, worth };
                    self.oracle.turned_away(at, &begun, &shown, None);
                }
            }
            (Act::Watch(_), Outcome::Waited(end)) => self.oracle.waited(at, number, end),
            (
                Act::Revoke(_) | Act::RevokeOthers(_) | Act::RevokeChosen(..) | Act::Erase(_),
                Outcome::Ended,
            ) => {
                if let Some(selection) = selection {
                    self.oracle.reached.note(revoked(&act));
                    self.oracle.ended_here(at, &begun, &selection);
                }
                if matches!(act, Act::Erase(_)) {
                    self.oracle.erased(at, &begun, &owner);
                }
            }
            (Act::List(_), Outcome::Listed(listed, whole)) => {
                self.oracle.listed(at, &begun, (number, &owner), &listed, whole);
            }
            (Act::History(_), Outcome::Remembered(listed, whole)) => {
                self.oracle.remembered(at, &begun, &owner, &listed, whole);
            }
            (Act::Claims(_), Outcome::Done) => self.oracle.claims_told(at, &owner, claims),
            (Act::SetPolicy(..) | Act::Unblock(..), Outcome::Done) => {
                if let Some((scope, setting)) = self.sets(&act, begun.at) {
                    self.oracle.set(at, &begun, &scope, &setting);
                }
            }
            (Act::Block(_, place, lasts), Outcome::Ended) => {
                if let Some((scope, setting)) = self.sets(&act, begun.at) {
                    self.oracle.set(at, &begun, &scope, &setting);
                }
                let holds = lasts.is_none_or(|lasts| begun.at + lasts > at);
                if holds {
                    self.oracle.blocked(at, &begun, &place.scope(&owner));
                }
            }
            (Act::SignOut(_), Outcome::Done) => self.settle_sign_out(number, at),
            _ => {}
        }
    }

    /// A sign-in is done, which no fault has stopped.
    fn settle_sign_in(&mut self, number: usize, at: Ms, outcome: Outcome) {
        let operation = &self.operations[number];
        let Operation { act, manner, begun, ticket, held, worth, .. } = operation;
        let (begun, (way, _)) = (begun.clone(), act.way());
        let ticket = ticket.as_ref().map(|used| (used.ticket.clone(), used.end));
        let shown = operation.token.clone();
        let held_before = operation.held;
        let owner = self.plan.clients[way.client].user.clone();
        // With a ticket the client gives up none but what it has chosen.
        let is_valid = ticket.is_none() && worth == &Some(Worth::Good);
        let (held, lost) = (held.filter(|_| is_valid), manner.lost);
        match outcome {
            Outcome::SignedIn { id, token } => {
                if let Some((ticket, end)) = &ticket {
                    self.oracle.ticket_used(at, &begun, &ticket.text, *end);
                }
                let former = shown.filter(|_| held_before == Some(id));
                match &former {
                    Some(former) => self.oracle.rotated(at, former, &token, true),
                    None => {
                        let refused = ticket.as_ref().map(|(ticket, _)| ticket.refused);
                        let proven = refused.unwrap_or((begun.at, at));
                        self.oracle.handed_out(at, id, &token, proven);
                    }
                }
                self.oracle.signed_in(at, &begun, &owner, id, held);
                if !lost {
                    let device = &mut self.clients[way.client];
                    device.before = former.or_else(|| device.before.take());
                    (device.token, device.ticket) = (Some(token), None);
                }
            }
            Outcome::TooMany { ticket: made, sessions } => {
                let newcomer = &self.plan.clients[way.client];
                self.oracle.too_many(at, &begun, newcomer, (held, number), made.is_some());
                if let (false, Some(text)) = (lost, made) {
                    let counted = self.oracle.surely_counted(at, number, &sessions);
                    let before = ticket.map(|(before, _)| (before.held, before.refused));
                    let (held, refused) = before.unwrap_or((held_before, (begun.at, at)));
                    let made = Ticket { text, sessions, held, refused, counted };
                    self.clients[way.client].ticket = Some(made);
                }
            }
            Outcome::Blocked => self.oracle.refused_by_block(at, &begun, &owner),
            Outcome::InvalidTicket => {
                if let Some((Ticket { text, refused, counted, .. }, _)) = &ticket {
                    self.oracle.ticket_refused(at, refused.0, text, counted);
                }
            }
            _ => {}
        }
    }

    fn settle_rotation(&mut self, number: usize, at: Ms, next: String) {
        let Operation { act, manner, token, .. } = &self.operations[number];
        let (step_up, lost) = (matches!(act, Act::StepUp(..)), manner.lost);
        let client = act.way().0.client;
        let Some(token) = token.clone() else { return };
        self.oracle.rotated(at, &token, &next, step_up);
        if !lost {
            self.moves_on(client, &token, next);
        }
    }

    fn settle_sign_out(&mut self, number: usize, at: Ms) {
        self.oracle.reached.note("a user signs out");
        let Operation { act, manner, begun, token, worth, .. } = &self.operations[number];
        if let Some((token, worth)) = token.as_ref().zip(*worth) {
            self.oracle.signed_out(at, begun, token, worth);
        }
        let device = &mut self.clients[act.way().0.client];
        if !manner.lost && device.token == *token {
            device.token = None;
        }
    }

    fn seen(&mut self, number: usize, at: Ms, seen: &Seen) {
        let Operation { act, manner, begun, token, worth, .. } = &self.operations[number];
        let Some((token, worth)) = token.clone().zip(*worth) else { return };
        let (client, lost) = (act.way().0.client, manner.lost);
        let stolen = matches!(act, Act::Thief(_));
        let uses = !matches!(act, Act::Passive(_));
        self.oracle.seen(at, begun, &Shown { token: &token, stolen, uses, worth }, seen);
        match seen {
            Seen::Active(active) => {
                let Some(next) = &active.renewed else { return };
                self.oracle.reached.note("a token is renewed");
                self.oracle.rotated(at, &token, next, false);
                if !lost && !stolen {
                    self.moves_on(client, &token, next.clone());
                }
            }
            // A browser keeps a cookie that is refused; its user signs in again.
            Seen::Ended(_) | Seen::Anonymous => {}
        }
    }

    /// A browser keeps the newest cookie that it was given; a response that comes late to a client that has
    /// signed in again is not for it.
    fn moves_on(&mut self, client: usize, token: &str, next: String) {
        let device = &mut self.clients[client];
        if device.token.as_deref() == Some(token) {
            device.before = device.token.replace(next);
        }
    }
}
