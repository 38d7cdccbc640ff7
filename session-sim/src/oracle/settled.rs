//! Judges what requests are answered, and what tokens are worth.

use std::time::Duration;

use session_core::rotation::{self, Recognition, TokenState};
use session_core::{EndCause, SessionId, Timestamp, Token, UserKey};
use session_engine::WhenStale;

use super::{Begun, Guarantee, Oracle, Unstored, Use, ms};
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

/// What a token was worth at a moment, by the record that the store had then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worth {
    live: bool,
    recognition: Recognition,
}

impl Worth {
    /// Whether a request with the token has to be accepted, if nothing changes.
    pub(crate) fn is_surely_valid(self) -> bool {
        let valid = [Recognition::Current, Recognition::Successor, Recognition::StepUp];
        self.live && valid.contains(&self.recognition)
    }
}

impl Oracle {
    pub(crate) fn worth(&self, token: &str, at: Ms) -> Worth {
        let nothing = Worth { live: false, recognition: Recognition::Unknown };
        let Some(token) = Token::parse(token.as_bytes()) else { return nothing };
        let Some(known) = self.sessions.get(&token.session_id()) else { return nothing };
        let grace = self.options.rotation_grace;
        let recognition = recognise(&known.session.token, &token, grace, stamp(at));
        Worth { live: known.ended.is_none(), recognition }
    }

    /// Whether a request with this token has to be accepted, however long it takes, if nothing changes.
    pub(crate) fn is_surely_good(&self, token: &str, at: Ms) -> bool {
        let worth = self.worth(token, at + self.time_error());
        worth.is_surely_valid() || worth.live && worth.recognition == Recognition::InGrace
    }

    /// A request with this token is on its way, which counts as a use or not.
    pub(crate) fn shows(&mut self, token: &str, at: Ms, uses: bool) {
        if uses {
            self.used(token, at);
        }
        // Used, a token may be replaced by another one than those that it was one of.
        self.successors.retain(|_, next| next != token);
    }

    /// A request with this token may have counted as a use now.
    pub(crate) fn used(&mut self, token: &str, at: Ms) {
        if let Some(known) = id_of(token).and_then(|id| self.sessions.get_mut(&id))
            && at > known.perhaps_used
        {
            known.last_before = known.perhaps_used;
            known.perhaps_used = at;
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
        if shown.worth.recognition == Recognition::InGrace {
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
        self.check_confirmed(at, begun, shown);
        self.note_cache(at, begun, active);
        let error = self.options.store_timeout;
        let Some(known) = self.sessions.get_mut(&id).filter(|_| shown.uses) else { return };
        let used = Use { at: begun.at, node: begun.node, life: begun.life };
        if known.used.is_none_or(|last| last.at < used.at) {
            known.used = Some(used);
        }
        if known.ended.is_none() && known.session.last_accessed < stamp(used.at).minus(error) {
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
        // The first use of a proof's token starts the timeouts again, also where it cannot be stored yet.
        let stored = &known.session;
        let used = Token::parse(shown.token.as_bytes()).map(|token| {
            rotation::confirm(stored, &token, &self.options.timeouts, stamp(begun.at))
        });
        let session = used.as_ref().unwrap_or(stored);
        let error = self.options.store_timeout;
        let surely = stamp(begun.at).minus(error);
        if session.absolute_expiry.is_some_and(|expiry| expiry < surely) {
            self.broken(Guarantee::Expired, at, || {
                format!("{id} is accepted after its absolute timeout")
            });
            return;
        }
        let idle = self.idle_of(session);
        // Where this request has been noted as a use already, what was before it is what counts. What the
        // record says of its uses may be wrong.
        let noted = if shown.uses { known.last_before } else { known.perhaps_used };
        // A proof starts the timeouts again.
        let noted = self.proven.get(shown.token).map_or(noted, |proven| noted.max(proven.at));
        let unclear = known.delayed || known.excused;
        let written = if unclear { session.last_accessed } else { Timestamp::EPOCH };
        let last = stamp(noted).max(written).max(session.signed_in);
        if last.plus(idle) < surely.minus(error) {
            self.broken(Guarantee::Expired, at, || {
                format!("{id} is accepted {:?} after its last use", surely.since(last))
            });
        }
    }

    /// A token is accepted for what it is worth, with the freshness that it has.
    fn check_token(&mut self, at: Ms, begun: &Begun, shown: &Shown<'_>, active: &Active) {
        let id = active.id;
        let Some(token) = Token::parse(shown.token.as_bytes()) else { return };
        if let Some(known) = self.sessions.get(&id) {
            let grace = self.options.rotation_grace;
            // A node that is about to hear of the first use of the next token goes by the one before.
            let margin = self.bound() + self.time_error();
            let then = stamp(begun.at.saturating_sub(margin));
            let worth = recognise(&known.session.token, &token, grace, then);
            let lag = self.is_calm(begun.node, begun.at.saturating_sub(2 * margin), at);
            if lag && matches!(worth, Recognition::Reused | Recognition::Unknown) {
                self.broken(Guarantee::Retired, at, || {
                    format!("{id} is accepted with a token worth {worth:?}")
                });
            }
        }
        let own = self.proven_until(shown.token, id);
        if own.is_none_or(|own| active.authenticated > own) {
            let (shown, own) = (active.authenticated, own.unwrap_or_default());
            self.broken(Guarantee::Freshness, at, || {
                format!("{id} counts as authenticated at {shown} with a token of {own}")
            });
        }
    }

    /// When the user has proved who they are with a token, at the latest. A node may be wrong about the
    /// time. None for a token that nobody was given.
    fn proven_until(&self, token: &str, id: SessionId) -> Option<Timestamp> {
        let proven = self.proven.get(token)?;
        let repeated = proven.stepped_up_from.as_ref().and_then(|from| self.steps_up.get(from));
        if repeated.is_some() && self.sessions.get(&id).is_some_and(|known| known.delayed) {
            return Some(Timestamp::MAX);
        }
        let error = self.time_error();
        // One that is under way, or whose answer was lost, knows the time after a few tries.
        let latest = repeated.map_or(proven.at, |begun| proven.at.max(begun + 4 * error));
        Some(stamp(latest + error))
    }

    /// The first use of a new token is in the store before it is answered.
    fn check_confirmed(&mut self, at: Ms, begun: &Begun, shown: &Shown<'_>) {
        let next = [Recognition::Successor, Recognition::StepUp];
        let worth = self.worth(shown.token, at);
        if worth.live && next.contains(&worth.recognition) && self.is_calm(begun.node, begun.at, at)
        {
            self.broken(Guarantee::NotConfirmed, at, || {
                format!("a token is accepted, and the store has it as a {:?}", worth.recognition)
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

    /// The owner of a session that lives is not refused.
    fn refused(&mut self, at: Ms, begun: &Begun, shown: &Shown<'_>, cause: Option<EndCause>) {
        let Some(id) = id_of(shown.token) else { return };
        let Some(known) = self.sessions.get(&id) else { return };
        if let Some(end) = known.ended {
            let kept = ms(self.options.history.keep.unwrap_or_default());
            let remembered = at + 1_000 < end.at + kept && !known.excused;
            let remembered = remembered && known.forgotten.is_none();
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
        if known.excused {
            return;
        }
        if shown.stolen {
            // Where its owner has moved on since then, the copy may be of the rotation before the last.
            let is_reused = |worth: Worth| worth.live && worth.recognition == Recognition::Reused;
            if is_reused(shown.worth) && is_reused(self.worth(shown.token, at)) {
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
        let accepted = [
            Recognition::Current,
            Recognition::Successor,
            Recognition::StepUp,
            Recognition::InGrace,
        ];
        let valid = |worth: Worth| worth.live && accepted.contains(&worth.recognition);
        let now = self.worth(shown.token, at);
        if valid(shown.worth) && valid(now) && self.is_in_time(id, at) {
            let was = shown.worth.recognition;
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
        let session = &known.session;
        let surely = stamp(at).plus(self.options.store_timeout);
        if session.absolute_expiry.is_some_and(|expiry| expiry <= surely) {
            return false;
        }
        let idle = self.idle_of(session);
        let used = known.used.filter(|used| self.is_calm(used.node, used.at, at));
        let used = used.map_or(session.signed_in, |used| stamp(used.at));
        used.max(session.last_accessed).plus(idle) > surely
    }

    pub(crate) fn id_of(token: &str) -> Option<SessionId> {
        id_of(token)
    }
}

/// The rule, told once more: what a node goes by may have a defect.
fn recognise(state: &TokenState, token: &Token, grace: Duration, at: Timestamp) -> Recognition {
    let digest = token.digest();
    let is_successor = state.successor.as_ref().is_some_and(|next| next.digest == digest);
    let is_step_up = state.step_ups.iter().any(|step_up| step_up.next.digest == digest);
    let retired = state.retired.as_ref().filter(|_| state.family == token.family_digest());
    match retired {
        _ if digest == state.current => Recognition::Current,
        _ if is_successor => Recognition::Successor,
        _ if is_step_up => Recognition::StepUp,
        None => Recognition::Unknown,
        Some(retired) if at >= retired.at.plus(grace) => Recognition::Reused,
        Some(retired) if retired.digest == digest => Recognition::InGrace,
        Some(_) => Recognition::Superseded,
    }
}

fn id_of(token: &str) -> Option<SessionId> {
    Token::parse(token.as_bytes()).map(|token| token.session_id())
}
