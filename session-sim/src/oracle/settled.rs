//! Judges what requests are answered, and what tokens are worth.

use std::time::Duration;

use session_core::{EndCause, SessionId, Timestamp, Token, UserKey};
use session_engine::WhenStale;

use super::tokens::id_of;
use super::{Begun, Guarantee, Known, Oracle, Unstored, Use, Worth, ms};
use crate::client::{Active, Seen};
use crate::node::stamp;
use crate::plan::Ms;

/// A request with a token.
pub(crate) struct Shown<'s> {
    pub(crate) token: &'s str,
    /// The request is a thief's.
    pub(crate) stolen: bool,
    /// The request counts as a use.
    pub(crate) uses: bool,
    /// What the token was worth when the request was sent.
    pub(crate) worth: Worth,
}

impl Oracle {
    /// Whether a request with this token has to be accepted, however long it takes, if nothing changes.
    pub(crate) fn is_surely_good(&self, token: &str, at: Ms) -> bool {
        matches!(self.worth(token, at), Worth::Good | Worth::InGrace)
    }

    /// A request with this token is on its way, which counts as a use or not.
    pub(crate) fn shows(&mut self, token: &str, at: Ms, uses: bool) {
        if let Some(known) = id_of(token).and_then(|id| self.sessions.get_mut(&id)) {
            known.under_way += 1;
        }
        self.token_shown(token, at);
        if uses {
            self.used(token, at);
        }
        // Used, a token may be replaced by another one than those that it was one of.
        self.successors.retain(|_, next| next != token);
    }

    /// A request with this token may have counted as a use now.
    fn used(&mut self, token: &str, at: Ms) {
        if let Some(known) = id_of(token).and_then(|id| self.sessions.get_mut(&id))
            && at > known.perhaps_used
        {
            known.last_before = known.perhaps_used;
            known.perhaps_used = at;
        }
    }

    /// A request with this token is under way no more.
    pub(crate) fn over(&mut self, token: &str, at: Ms, uses: bool) {
        if let Some(known) = id_of(token).and_then(|id| self.sessions.get_mut(&id)) {
            known.under_way = known.under_way.saturating_sub(1);
        }
        if uses {
            self.used(token, at);
        }
    }

    pub(crate) fn steal(&mut self, token: &str) {
        if let Some(known) = id_of(token).and_then(|id| self.sessions.get_mut(&id)) {
            known.stolen = true;
        }
    }

    /// A request with this token waits at a node that does not run.
    pub(crate) fn delays(&mut self, token: &str) {
        if let Some(known) = id_of(token).and_then(|id| self.sessions.get_mut(&id)) {
            known.delayed = true;
        }
    }

    pub(crate) fn seen(&mut self, at: Ms, begun: &Begun, shown: &Shown<'_>, seen: &Seen) {
        match seen {
            Seen::Active(active) => self.accepted(at, begun, shown, active),
            Seen::Ended(cause) => {
                self.reached.note("a request is told how its session ended");
                self.refused(at, begun, shown, Some(*cause));
            }
            Seen::Anonymous => {
                self.reached.note("a request is refused");
                self.refused(at, begun, shown, None);
            }
        }
    }

    fn accepted(&mut self, at: Ms, begun: &Begun, shown: &Shown<'_>, active: &Active) {
        self.reached.note("a request is accepted");
        if at == begun.at {
            self.reached.note("a request is answered without the store");
        }
        if !shown.uses {
            self.reached.note("a request that is no use is accepted");
        }
        if shown.worth == Worth::InGrace {
            self.reached.note("a replaced token is accepted in its grace");
        }
        let id = active.id;
        if id_of(shown.token) != Some(id) {
            self.broken(Guarantee::Another, at, || {
                format!("a token of another session is taken for {id}")
            });
        }
        self.check_end_is_known(at, begun, id);
        self.check_trust(at.min(begun.at + ms(active.took)), begun, id);
        self.check_timeouts(at, begun, id, shown);
        self.check_token(at, begun, shown, active);
        self.check_claims(at, begun, active);
        self.check_confirmed(at, begun, shown, active);
        self.note_cache(at, begun, active);
        self.token_accepted(shown.token, at);
        let error = self.time_error();
        let Some(known) = self.sessions.get_mut(&id).filter(|_| shown.uses) else { return };
        let used = Use { at: begun.at, node: begun.node, life: begun.life };
        if known.used.is_none_or(|last| last.at < used.at) {
            known.used = Some(used);
        }
        if known.ended.is_none()
            && known.session.last_accessed < stamp(used.at.saturating_sub(error))
        {
            known.unstored.push(Unstored { used, counted: at });
        }
    }

    /// What an accepted request shows of its node's cache.
    fn note_cache(&mut self, at: Ms, begun: &Begun, active: &Active) {
        let answered = at.min(begun.at + ms(active.took));
        let (heard, most) = (self.nodes[begun.node].heard_sent, ms(self.options.max_staleness));
        if heard.is_none_or(|heard| answered > heard + most + 1) {
            self.reached.note("a request is answered by a cache that is stale");
        }
        let sessions = &self.sessions;
        let facts = &mut self.nodes[begun.node];
        facts.cached.insert(active.id);
        if facts.cached.len() > self.options.cache_capacity {
            let lives = |id: &SessionId| sessions.get(id).is_some_and(|it| it.ended.is_none());
            facts.cached.retain(lives);
            if facts.cached.len() > self.options.cache_capacity {
                facts.cached.clear();
                self.reached.note("a node answers for more sessions than its cache holds");
            }
        }
    }

    /// A node that knows of an end, or has had the time to learn it, accepts the session no more.
    fn check_end_is_known(&mut self, at: Ms, begun: &Begun, id: SessionId) {
        let Some(known) = self.sessions.get(&id) else {
            self.broken(Guarantee::Unknown, at, || format!("{id} is accepted and never began"));
            return;
        };
        let Some(end) = known.ended.filter(|end| end.at < begun.at) else { return };
        let here = |(node, told): &(usize, Ms)| *node == begun.node && *told < begun.at;
        let here = known.ended_on.iter().any(here);
        let heard = begun.heard.is_some_and(|heard| heard > end.at);
        let bound = self.bound();
        let late = begun.at > end.at + bound && self.is_calm(begun.node, end.at, begun.at);
        let closed = self.options.when_stale == WhenStale::FailClosed;
        let slept = closed && self.slept_through(begun, end.at);
        let (node, since) = (begun.node, begun.at - end.at);
        if known.undone && self.nodes[node].unnoticed == Some(end.at) {
            self.reached.note("a node cannot notice that the store came back older");
        } else if here {
            self.broken(Guarantee::OwnRevocation, at, || {
                format!("node {node} accepts {id}, which it has ended itself {since} ms before")
            });
        } else if heard {
            self.broken(Guarantee::Revoked, at, || {
                format!("node {node} accepts {id} {since} ms after its end, of which it has read")
            });
        } else if slept {
            self.broken(Guarantee::Stopped, at, || {
                format!(
                    "node {node} accepts {id}, which ended while it was stopped, {since} ms after"
                )
            });
        } else if late {
            self.broken(Guarantee::Bound, at, || {
                format!("node {node} accepts {id} {since} ms after its end")
            });
        } else {
            self.reached.note("an ended session is accepted within the bound");
        }
    }

    /// A node that has not heard the log for too long answers nothing from its cache.
    fn check_trust(&mut self, at: Ms, begun: &Begun, id: SessionId) {
        let ended = self.sessions.get(&id).and_then(|known| known.ended);
        if ended.is_none_or(|end| end.at >= begun.at) {
            return;
        }
        let heard = self.nodes[begun.node].heard_sent;
        let stale = match self.options.when_stale {
            WhenStale::ServeStale(limit) => limit,
            _ => Duration::ZERO,
        };
        let most = ms(self.options.max_staleness.max(stale));
        if heard.is_none_or(|heard| at > heard + most + 1) {
            self.broken(Guarantee::Stale, at, || {
                format!(
                    "node {} accepts {id} and has not heard the log since {heard:?}",
                    begun.node
                )
            });
        }
    }

    fn check_timeouts(&mut self, at: Ms, begun: &Begun, id: SessionId, shown: &Shown<'_>) {
        let Some(known) = self.sessions.get(&id) else { return };
        let surely = stamp(begun.at.saturating_sub(self.time_error()));
        let counts_from = self.counts_from(id).1;
        if self.options.timeouts.absolute.is_some_and(|most| counts_from.plus(most) < surely) {
            self.broken(Guarantee::Expired, at, || {
                format!("{id} is accepted after its absolute timeout")
            });
            return;
        }
        // Where this request has been noted as a use already, what was before it is what counts. What the
        // record says of its uses may be wrong.
        let noted = if shown.uses { known.last_before } else { known.perhaps_used };
        // A proof starts the timeouts again.
        let proven = self.proven(shown.token).map_or(stamp(noted), |(_, last)| last);
        let unclear = known.delayed || known.excused;
        let written = if unclear { known.session.last_accessed } else { Timestamp::EPOCH };
        let last = stamp(noted).max(proven).max(written).max(stamp(known.sent));
        if last.plus(self.idle()).plus(Duration::from_millis(self.time_error())) < surely {
            self.broken(Guarantee::Expired, at, || {
                format!("{id} is accepted {:?} after its last use", surely.since(last))
            });
        }
    }

    /// A token is accepted for what it is worth, with the freshness that it has.
    fn check_token(&mut self, at: Ms, begun: &Begun, shown: &Shown<'_>, active: &Active) {
        let id = active.id;
        let worth = self.worth(shown.token, begun.at);
        let since = begun.at.saturating_sub(2 * (self.bound() + self.time_error()));
        let heard = self.is_calm(begun.node, since, at);
        if heard
            && matches!(worth, Worth::Superseded | Worth::Over)
            && !self.is_excused(shown.token)
        {
            self.broken(Guarantee::Retired, at, || {
                format!("{id} is accepted with a token that is {worth:?}")
            });
        }
        let own = self.proven(shown.token);
        let is_own = |(first, last)| (first..=last).contains(&active.authenticated);
        if !own.is_some_and(is_own) {
            let is = active.authenticated;
            self.broken(Guarantee::Freshness, at, || {
                format!("{id} counts as authenticated at {is} with a token of {own:?}")
            });
        }
    }

    /// The first use of a new token is in the store before it is answered.
    fn check_confirmed(&mut self, at: Ms, begun: &Begun, shown: &Shown<'_>, active: &Active) {
        let Some(token) = Token::parse(shown.token.as_bytes()) else { return };
        let known = self.sessions.get(&token.session_id());
        let Some(known) = known.filter(|known| known.ended.is_none()) else { return };
        let (digest, state) = (token.digest(), &known.session.token);
        let mut next = state.step_ups.iter().map(|step_up| &step_up.next).chain(&state.successor);
        if next.any(|next| next.digest == digest) && self.is_calm(begun.node, begun.at, at) {
            self.broken(Guarantee::NotConfirmed, at, || {
                format!("a token of {} is accepted, and its first use is not stored", active.id)
            });
        }
    }

    fn check_claims(&mut self, at: Ms, begun: &Begun, active: &Active) {
        let Some(known) = self.sessions.get(&active.id) else { return };
        let owner = &known.session.owner;
        let bound = self.bound();
        let told = |(user, _, told): &&(UserKey, u64, Ms)| user == owner && told + bound < begun.at;
        let newest = self.claims.iter().filter(told).map(|(_, version, _)| *version).max();
        if newest.is_some_and(|newest| active.claims < newest)
            && self.is_calm(begun.node, begun.at.saturating_sub(2 * bound), at)
        {
            let (has, newest) = (active.claims, newest.unwrap_or_default());
            self.broken(Guarantee::Claims, at, || {
                format!("{} has claims {has} after {newest} was told", active.id)
            });
        }
    }

    /// A request is not accepted: the client of a session that has ended is told why.
    fn refused(&mut self, at: Ms, begun: &Begun, shown: &Shown<'_>, cause: Option<EndCause>) {
        let Some(id) = id_of(shown.token) else { return };
        let Some(known) = self.sessions.get(&id) else { return };
        if let Some(end) = known.ended {
            let kept = ms(self.options.history.keep.unwrap_or_default());
            let remembered = at + 1_000 < end.at + kept && !known.excused;
            let remembered = remembered && !self.may_be_erased(known);
            let calm = self.is_calm(begun.node, begun.at.saturating_sub(self.bound()), at);
            if let Some(cause) = cause
                && cause != end.cause
                // It was idle when it was read.
                && (cause != EndCause::Expired || end.at < begun.at)
                && !known.excused
            {
                let is = end.cause;
                self.broken(Guarantee::Cause, at, || {
                    format!("{id} ended as {is:?} and is told {cause:?}")
                });
            } else if cause.is_none() && remembered && calm && end.at < begun.at {
                self.broken(Guarantee::History, at, || {
                    format!("{id} ended as {:?}, and its client is not told", end.cause)
                });
            }
            return;
        }
        self.turned_away(at, begun, shown, cause);
    }

    /// A request is not accepted, or what it asks for is not done. The owner of a session that lives is not
    /// refused.
    pub(crate) fn turned_away(
        &mut self,
        at: Ms,
        begun: &Begun,
        shown: &Shown<'_>,
        cause: Option<EndCause>,
    ) {
        let Some(id) = id_of(shown.token) else { return };
        // A node that has noticed that the store came back older has forgotten that the session had ended.
        let gap = self.nodes[begun.node].gap.map(|(_, gap)| gap);
        let knows = |back: Ms| gap.is_some_and(|gap| back <= gap && gap + self.bound() < begun.at);
        let lives = |known: &&Known| {
            known.ended.is_none() && (!known.excused || known.back.is_some_and(knows))
        };
        let Some(known) = self.sessions.get(&id).filter(lives) else { return };
        if shown.stolen {
            // Where its owner has moved on since then, the copy may be of the rotation before the last.
            if self.proves_theft(shown.token, begun.at) {
                self.broken(Guarantee::Theft, at, || {
                    format!("a copied token of {id} was used, and {id} lives")
                });
            }
            return;
        }
        // Past half of its timeout, a use leaves its node with the next flush.
        let flush = self.options.write_back.flush_interval + self.options.store_timeout;
        let elsewhere = known.used.filter(|used| used.node != begun.node);
        let on_its_way = elsewhere.is_some_and(|used| at < used.at + ms(flush));
        if cause == Some(EndCause::Expired) && on_its_way {
            self.reached.note("a session looks idle while a use of it is on its way");
            return;
        }
        let valid = |worth| matches!(worth, Worth::Good | Worth::InGrace);
        let now = self.worth(shown.token, at);
        if valid(shown.worth) && valid(now) && self.is_in_time(id, at) {
            let was = shown.worth;
            self.broken(Guarantee::Refused, at, || {
                format!(
                    "{id} lives, and its owner is refused ({cause:?}) with a token worth {was:?}"
                )
            });
        }
    }

    /// Whether a session is surely not past a timeout.
    pub(super) fn is_in_time(&self, id: SessionId, at: Ms) -> bool {
        let Some(known) = self.sessions.get(&id) else { return false };
        let surely = stamp(at + self.time_error());
        let counts_from = self.counts_from(id).0;
        if self.options.timeouts.absolute.is_some_and(|most| counts_from.plus(most) <= surely) {
            return false;
        }
        self.surely_used(known, at).plus(self.idle()) > surely
    }

    /// The last use of a session of which every node has to know.
    pub(super) fn surely_used(&self, known: &Known, at: Ms) -> Timestamp {
        let used = known.used.filter(|used| self.is_calm(used.node, used.at, at));
        let used =
            used.map_or(stamp(known.sent.saturating_sub(self.time_error())), |used| stamp(used.at));
        used.max(known.session.last_accessed)
    }
}
