//! Judges what those are answered who sign in, end, change and wait.

use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, Scope};
use session_core::store::Selection;
use session_core::{EndCause, Session, SessionId, UserKey};
use session_engine::WaitEnd;

use super::carried::covers;
use super::{Begun, Guarantee, Oracle, Worth, id_of, ms};
use crate::node::stamp;
use crate::plan::{Client, Ms};

impl Oracle {
    /// 503 is for nodes that a fault has touched.
    pub(crate) fn unavailable(&mut self, at: Ms, begun: &Begun, what: &str) {
        self.reached.note("a request is answered 503");
        if self.is_calm(begun.node, begun.at, at) {
            self.broken(Guarantee::Unavailable, at, || {
                format!("node {} answers {what} with 503, and nothing is wrong", begun.node)
            });
        }
    }

    pub(crate) fn signed_in(
        &mut self,
        at: Ms,
        begun: &Begun,
        owner: &UserKey,
        id: SessionId,
        replaces: Option<SessionId>,
    ) {
        self.reached.note("a sign-in succeeds");
        let Some(known) = self.sessions.get_mut(&id) else {
            self.broken(Guarantee::Phantom, at, || format!("{id} is said to have begun"));
            return;
        };
        known.acknowledged = true;
        if known.session.owner != *owner {
            self.broken(Guarantee::Another, at, || format!("{id} is another user's"));
            return;
        }
        let (born, ended) = (known.born, known.ended);
        if let Some(end) = ended
            && (end.taken_back
                || end.cause == EndCause::Expired
                || (end.cause == EndCause::Evicted && end.at == born))
        {
            self.broken(Guarantee::Newest, at, || format!("{id} begins and has ended: {end:?}"));
        }
        if let Some(old) = replaces {
            self.check_former(at, begun, id, old);
        }
    }

    /// A sign-in has begun this session, or goes on in it. Its client held the old one.
    fn check_former(&mut self, at: Ms, begun: &Begun, id: SessionId, old: SessionId) {
        if id == old {
            self.reached.note("a sign-in goes on in the session of its client");
            return;
        }
        let known = self.sessions.get(&old).filter(|known| !known.excused);
        let Some(end) = known.map(|known| known.ended) else { return };
        if !self.is_in_time(old, at) || !self.is_calm(begun.node, begun.at, at) {
            return;
        }
        if end.is_some_and(|end| end.cause == EndCause::Replaced) {
            self.broken(Guarantee::GoesOn, at, || {
                format!("{id} begins in place of {old}, and the answer may be lost")
            });
        }
        if self.is_live(old) {
            self.broken(Guarantee::Replaced, at, || {
                format!("{id} begins, and {old} of its client stays")
            });
        }
    }

    /// A limit refuses a sign-in only where it is full of sessions that a client holds, or may hold.
    pub(crate) fn too_many(
        &mut self,
        at: Ms,
        begun: &Begun,
        newcomer: &Client,
        (held, number): (Option<SessionId>, usize),
        has_ticket: bool,
    ) {
        let owner = &newcomer.user;
        self.reached.note("a sign-in is refused by a limit");
        if !has_ticket {
            self.broken(Guarantee::LockedOut, at, || "a refusal has no ticket".to_owned());
        }
        let from = begun.at.saturating_sub(self.time_error());
        let policies = self.policies_within(owner, begun.at, at);
        let claim_within = ms(self.options.claim_within);
        // Those that were there at some moment of the sign-in, and count.
        let counted: Vec<&Session> = self
            .sessions
            .values()
            .filter(|known| known.session.owner == *owner && known.begun_by != Some(number))
            .filter(|known| known.ended.is_none_or(|end| end.at >= begun.at))
            // A node may know of a use that a store that came back older has forgotten.
            .filter(|known| known.excused || known.session.deadline > stamp(from))
            .filter(|known| {
                let claimed = known.session.claimed || known.perhaps_used > known.born;
                claimed || known.born + claim_within >= from
            })
            .map(|known| &known.session)
            .collect();
        let is_full = |limit: &Limit| {
            let within = counted.iter().filter(|session| match limit.scope {
                Scope::User => true,
                Scope::DeviceKind => session.device_kind == newcomer.kind,
                Scope::Client => session.client_id == newcomer.app,
            });
            limit.on_exceed == OnExceed::Reject && within.count() >= limit.max as usize
        };
        let reaches = |policy: &Policy| self.limits(policy).iter().any(is_full);
        if !policies.iter().any(reaches) {
            let counted = counted.len();
            self.broken(Guarantee::NotFull, at, || {
                format!("{} is refused with {counted} sessions under {policies:?}", owner.user)
            });
        }
        let own = held.filter(|id| self.is_live(*id) && self.is_in_time(*id, at));
        let before = own.and_then(|id| self.sessions.get(&id));
        let is_users = before.is_some_and(|known| known.session.owner == *owner && !known.excused);
        if is_users && self.is_calm(begun.node, begun.at, at) {
            self.broken(Guarantee::LockedOut, at, || {
                format!("a device of {} that holds a session is refused", owner.user)
            });
        }
    }

    pub(crate) fn refused_by_block(&mut self, at: Ms, begun: &Begun, owner: &UserKey) {
        self.reached.note("a sign-in is refused by a block");
        if !self.was_blocked(owner, begun.at, at) && !self.restored_since(begun.at) {
            self.broken(Guarantee::LockedOut, at, || {
                format!("{} is not blocked and refused", owner.user)
            });
        }
    }

    /// A ticket leaves its client.
    pub(crate) fn sends_ticket(&mut self, ticket: &str) {
        *self.tickets_sent.entry(ticket.to_owned()).or_default() += 1;
    }

    /// A ticket is refused that a limit has given out since `since`, counting these sessions. It works where it
    /// was not used before, and one of them is there.
    pub(crate) fn ticket_refused(
        &mut self,
        at: Ms,
        since: Ms,
        ticket: &str,
        counted: &[SessionId],
    ) {
        self.reached.note("a ticket is refused");
        let is_first = self.tickets_sent.get(ticket) == Some(&1);
        let restored = self.restored_since(since);
        let stands = counted.iter().find(|id| self.is_live(**id)).copied();
        if let Some(id) = stands.filter(|_| is_first && !restored) {
            self.broken(Guarantee::TicketGood, at, || {
                format!("an unused ticket is refused, and {id} lives that the limit has counted")
            });
        }
    }

    /// A ticket has signed its user in, in place of the session that they have chosen.
    pub(crate) fn ticket_used(&mut self, at: Ms, begun: &Begun, ticket: &str, chosen: SessionId) {
        self.reached.note("a ticket is used");
        if self.is_live(chosen) && !self.sessions[&chosen].excused {
            self.broken(Guarantee::Chosen, at, || {
                format!("{chosen} lives although a user has signed in in its place")
            });
        }
        // The store may have forgotten it at once.
        if self.restored_since(begun.at) {
            return;
        }
        if self.used_tickets.insert(ticket.to_owned(), at).is_some() {
            self.broken(Guarantee::Ticket, at, || "a ticket has worked twice".to_owned());
        }
    }

    /// A node has answered that a block holds: it has ended the sessions within. Where it was lifted in the
    /// meantime, new ones may have begun.
    pub(crate) fn blocked(&mut self, at: Ms, begun: &Begun, scope: &PolicyScope) {
        let mut since = self.blocks.iter().filter(|(set, of, _)| *set >= begun.at && of == scope);
        let is_alone = since.next().is_some() && since.next().is_none();
        let stays = |known: &&super::Known| {
            let within = PolicyScope::of(&known.session.owner).contains(scope);
            let from_before = known.born < begun.at || is_alone;
            within && known.ended.is_none() && from_before && !known.excused
        };
        if let Some(id) = self.sessions.values().find(stays).map(|known| known.session.id) {
            self.broken(Guarantee::Block, at, || {
                format!("{id} lives although its user has been blocked")
            });
        }
    }

    /// A node has answered that it ended something.
    pub(crate) fn ended_here(&mut self, at: Ms, begun: &Begun, selection: &Selection) {
        for known in self.sessions.values_mut() {
            let Some(end) = known.ended else { continue };
            let is_meant = end.cause == EndCause::Revoked && covers(selection, &known.session);
            if end.at >= begun.at && is_meant {
                known.ended_on.push((begun.node, at));
            }
        }
        let stays = |known: &&super::Known| {
            let selected = known.born < begun.at && covers(selection, &known.session);
            selected && known.ended.is_none() && !known.excused
        };
        if let Some(id) = self.sessions.values().find(stays).map(|known| known.session.id) {
            self.broken(Guarantee::NotEnded, at, || format!("{id} lives although it was revoked"));
        }
    }

    /// A node has answered a sign-out: the session has ended, and this node knows it. Not with a token that
    /// was replaced before the node came to it.
    pub(crate) fn signed_out(&mut self, at: Ms, begun: &Begun, token: &str, worth: Worth) {
        let Some(id) = id_of(token) else { return };
        let is_good = worth == Worth::Good && self.worth(token, at) == Worth::Good;
        let valid = is_good && self.is_in_time(id, at);
        let Some(known) = self.sessions.get_mut(&id) else { return };
        if known.ended.is_some_and(|end| end.at >= begun.at) {
            known.ended_on.push((begun.node, at));
        }
        if known.ended.is_none() && valid && !known.excused {
            self.broken(Guarantee::NotEnded, at, || {
                format!("{id} lives although it was signed out")
            });
        }
    }

    /// A change of a session's data finds no such session.
    pub(crate) fn not_counted(&mut self, at: Ms, begun: &Begun, id: SessionId) {
        let known = self.sessions.get(&id).filter(|known| known.ended.is_none());
        let there = known.is_some_and(|known| known.born < begun.at && !known.excused);
        if there && self.is_in_time(id, at) {
            self.broken(Guarantee::Refused, at, || {
                format!("{id} lives, and a change of its data does not find it")
            });
        }
    }

    pub(crate) fn counted(&mut self, id: SessionId, surely: bool) {
        let Some(known) = self.sessions.get_mut(&id) else { return };
        known.perhaps_counted += 1;
        if surely {
            self.reached.note("application data change");
            known.counted += 1;
        }
    }

    pub(crate) fn claims_told(&mut self, at: Ms, owner: &UserKey, version: u64) {
        self.reached.note("claims change");
        self.claims.push((owner.clone(), version, at));
    }

    pub(crate) fn waits(&mut self, number: usize, begun: &Begun, id: SessionId) {
        let (node, life) = (begun.node, begun.life);
        let wait = super::Wait { begun: begun.at, node, life, id, over: None };
        self.waits.insert(number, wait);
    }

    pub(crate) fn waited(&mut self, at: Ms, number: usize, end: WaitEnd) {
        let Some(wait) = self.waits.get_mut(&number) else { return };
        wait.over = Some(at);
        let (id, node, begun) = (wait.id, wait.node, wait.begun);
        let known = self.sessions.get(&id);
        let (ended, undone) = known.map_or((None, false), |known| (known.ended, known.undone));
        let since = ended.map_or(at, |end| end.at.max(begun));
        let late = since + self.bound() + ON_THE_WAY;
        // No log tells of what the store has lost in coming back older.
        if at > late && !undone && self.is_calm(node, since, at) {
            self.broken(Guarantee::Wait, at, || {
                format!("a wait on node {node} hears late of the end of {id}")
            });
        }
        match end {
            WaitEnd::Ended(_) | WaitEnd::Gone => {
                self.reached.note("a wait is told the end");
                let excused = self.sessions.get(&id).is_none_or(|known| known.excused);
                let is = ended.map(|end| end.cause);
                if end.cause().is_some_and(|told| is.is_some_and(|is| is != told)) && !excused {
                    self.broken(Guarantee::Cause, at, || {
                        format!("{id} ended as {is:?}, and a wait is told {end:?}")
                    });
                }
                if self.is_live(id) && !excused && self.is_in_time(id, at) {
                    self.broken(Guarantee::Wait, at, || {
                        format!("a wait is told that {id} has ended")
                    });
                }
            }
            _ => {
                self.reached.note("a wait is told that nothing is known");
                if self.is_calm(node, begun, at) {
                    self.broken(Guarantee::Wait, at, || {
                        format!("a wait on node {node} is told {end:?}, and nothing is wrong")
                    });
                }
            }
        }
    }
}

/// What a call takes, and a node that may be behind.
const ON_THE_WAY: Ms = 100;
