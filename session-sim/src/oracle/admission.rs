//! Judges whom the store lets in, and who leaves for it.
//!
//! The rules are told once more, from the words of the contract: what nodes go by may have a defect.

use session_core::policy::{Limit, OnExceed, Policy, PolicyScope, PreventConcurrentLogin, Scope};
use session_core::store::{Change, Commit};
use session_core::{EndCause, Session, SessionId, Timestamp, UserKey};

use super::{Guarantee, Known, Oracle, Sender, ms};
use crate::node::stamp;
use crate::plan::Ms;

impl Oracle {
    /// The policies that held for a user at some moment of this time: also the one before a change that came
    /// in its first millisecond.
    pub(super) fn policies_within(&self, owner: &UserKey, from: Ms, until: Ms) -> Vec<Policy> {
        // The widest first.
        let places = PolicyScope::of(owner);
        let mut layers = vec![None; places.len()];
        let newest = |layers: &[Option<Policy>]| {
            let most_specific = layers.iter().rev().flatten().next();
            most_specific.unwrap_or(&self.options.default_policy).clone()
        };
        let mut held = Vec::new();
        for (at, scope, policy) in self.policies.iter().take_while(|(at, ..)| *at <= until) {
            let Some(place) = places.iter().position(|place| place == scope) else { continue };
            if *at >= from {
                held.push(newest(&layers));
            }
            layers[place].clone_from(policy);
        }
        held.push(newest(&layers));
        held
    }

    /// Whether a block held for a user at a moment.
    fn is_blocked(&self, owner: &UserKey, at: Ms) -> bool {
        PolicyScope::of(owner).iter().any(|place| {
            let mut before = self.blocks.iter().rev().filter(|(set, ..)| *set <= at);
            let last = before.find(|(_, scope, _)| scope == place);
            let block = last.and_then(|(.., block)| block.as_ref());
            block.is_some_and(|block| block.until.is_none_or(|until| until > stamp(at)))
        })
    }

    /// Whether a block held at some moment of this time, give or take what a node may be wrong about it.
    pub(super) fn was_blocked(&self, owner: &UserKey, from: Ms, until: Ms) -> bool {
        let from = from.saturating_sub(self.time_error());
        let changes =
            self.blocks.iter().map(|(at, ..)| *at).filter(|at| (from..=until).contains(at));
        changes.chain([from]).any(|at| self.is_blocked(owner, at))
    }

    /// No policy is exceeded, and no block overlooked, by a session that begins.
    pub(super) fn check_admission(
        &mut self,
        at: Ms,
        from: Sender,
        commit: &Commit,
        session: &Session,
        before: &[Session],
    ) {
        let owner = &commit.owner;
        if self.is_blocked(owner, at) {
            self.broken(Guarantee::Block, at, || {
                format!("{} begins although {} is blocked", session.id, owner.user)
            });
        }
        let Some(read) = self.read_for(from, commit) else {
            let steady = from.sent.saturating_sub(2 * ms(self.options.store_timeout));
            if !self.restored_since(steady) {
                self.broken(Guarantee::Unread, at, || {
                    format!("a sign-in of {} goes by a version that was not read", owner.user)
                });
            }
            return;
        };
        let policies = self.policies_within(owner, read, at);
        // Those that surely count, and before the sign-in those that may have.
        let error = self.time_error();
        let (surely, perhaps) = (stamp(at + error), stamp(at.saturating_sub(error)));
        let after: Vec<Session> = self.live_of(owner).map(|known| known.session.clone()).collect();
        let number = |limit: &Limit, sessions: &[Session], line: Timestamp| {
            let counts =
                |other: &&Session| other.deadline > line && in_scope(limit, session, other);
            sessions.iter().filter(counts).count()
        };
        let keeps = |limit: &Limit| {
            let has = number(limit, &after, surely);
            let raised = has > number(limit, before, perhaps);
            has <= limit.max as usize || (limit.on_exceed == OnExceed::Reject && !raised)
        };
        let is_kept = policies.iter().any(|policy| self.limits(policy).iter().all(keeps));
        let evicts = |change: &Change| matches!(change, Change::End(_, EndCause::Evicted));
        let most = self.options.max_sessions_per_user.unwrap_or(u32::MAX) as usize;
        if before.len() >= most && commit.changes.iter().any(evicts) {
            self.reached.note("a sign-in evicts at the ceiling of a user");
        }
        if !is_kept {
            self.broken(Guarantee::Limit, at, || {
                format!("{} has {} sessions under {policies:?}", owner.user, after.len())
            });
        }
    }

    /// When a node first read what a commit goes by.
    fn read_for(&self, from: Sender, commit: &Commit) -> Option<Ms> {
        let read = (from.node, commit.owner.clone(), commit.expected.0);
        self.reads.get(&read).copied()
    }

    /// The limits of a policy, with the ceiling of a user.
    pub(super) fn limits(&self, policy: &Policy) -> Vec<Limit> {
        let evicts = |scope, max, on_exceed| Limit { max, scope, on_exceed };
        let named = match policy.prevent_concurrent_login {
            PreventConcurrentLogin::Disabled => None,
            PreventConcurrentLogin::LogoutFromSameTypeDevices => Some(Scope::DeviceKind),
            PreventConcurrentLogin::LogoutFromAllDevices => Some(Scope::User),
        };
        let named = named.map(|scope| evicts(scope, 1, OnExceed::EvictOldest));
        let ceiling = self.options.max_sessions_per_user;
        let ceiling = ceiling.map(|max| evicts(Scope::User, max, OnExceed::EvictLeastRecentlyUsed));
        policy.limits.iter().copied().chain(named).chain(ceiling).collect()
    }

    /// Nobody leaves that fits under every limit beside the newcomer, and nobody in the place of one who had
    /// to leave first.
    pub(super) fn check_evictions(
        &mut self,
        at: Ms,
        from: Sender,
        commit: &Commit,
        newcomer: &Session,
        evicted: &[SessionId],
    ) {
        let Some(read) = self.read_for(from, commit) else { return };
        let after: Vec<&Known> = self.live_of(&commit.owner).collect();
        let others: Vec<Place<'_>> = after
            .iter()
            .filter(|known| known.session.id != newcomer.id)
            .map(|known| self.place(known, read, at))
            .collect();
        let evicted = evicted.iter().filter_map(|id| self.sessions.get(id));
        let left: Vec<Place<'_>> = evicted.map(|known| self.place(known, read, at)).collect();
        let judge = |policy: &Policy| {
            let limits = self.limits(policy);
            let wrong = |place: &Place<'_>| {
                let of = |limit: &&Limit| in_scope(limit, newcomer, place.session);
                let own: Vec<&Limit> = limits.iter().filter(of).collect();
                let is_full = |limit: &&&Limit| {
                    let counted =
                        after.iter().filter(|known| in_scope(limit, newcomer, &known.session));
                    counted.count() >= limit.max as usize
                };
                let may_leave =
                    |limit: &&Limit| limit.on_exceed != OnExceed::Reject || place.perhaps_yields;
                if !own.iter().filter(is_full).any(may_leave) {
                    return Some(Guarantee::Needless);
                }
                let goes_first = |other: &&Place<'_>| {
                    own.iter().all(|limit| {
                        in_scope(limit, newcomer, other.session)
                            && other.leaves_before(place, limit.on_exceed)
                    })
                };
                others.iter().find(goes_first).map(|_| Guarantee::Order)
            };
            left.iter().find_map(|place| wrong(place).map(|kind| (kind, place.session.id)))
        };
        let policies = self.policies_within(&commit.owner, read, at);
        let wrong: Option<Vec<_>> = policies.iter().map(judge).collect();
        if let Some(&[(kind, id), ..]) = wrong.as_deref() {
            self.broken(kind, at, || format!("{id} leaves for {} under {policies:?}", newcomer.id));
        }
    }

    /// A user's session as a node may see it that has read the user's sessions then.
    fn place<'k>(&self, known: &'k Known, read: Ms, at: Ms) -> Place<'k> {
        let session = &known.session;
        let error = self.time_error();
        let (surely, perhaps) = (stamp(read.saturating_sub(error)), stamp(at + error));
        let unclaimed_until = session.signed_in.plus(self.options.claim_within);
        let was_shown = session.claimed || known.perhaps_used > known.born;
        let is_surely_claimed = session.claimed && known.written < read;
        let used = if known.under_way > 0 { at } else { known.perhaps_used };
        let used = stamp(used + error);
        Place {
            session,
            used: (
                if known.written < read { session.last_accessed } else { session.signed_in },
                session.last_accessed.max(used),
            ),
            surely_yields: !was_shown && unclaimed_until < surely,
            perhaps_yields: session.deadline <= perhaps
                || known.written >= read
                || (!is_surely_claimed && unclaimed_until <= perhaps),
        }
    }
}

/// A session among those of its user, as far as it is known what a node knew of it.
struct Place<'k> {
    session: &'k Session,
    /// Between which times it was last used.
    used: (Timestamp, Timestamp),
    /// It leaves before others: it is past its deadline, or was not claimed in time.
    surely_yields: bool,
    perhaps_yields: bool,
}

impl Place<'_> {
    /// Whether it surely has to leave before the other one.
    fn leaves_before(&self, other: &Self, rule: OnExceed) -> bool {
        let is_earlier = match rule {
            OnExceed::EvictLeastRecentlyUsed => self.used.1 < other.used.0,
            OnExceed::EvictOldest | OnExceed::Reject => {
                (self.session.signed_in, self.session.id)
                    < (other.session.signed_in, other.session.id)
            }
        };
        !other.perhaps_yields && (self.surely_yields || is_earlier)
    }
}

pub(super) fn in_scope(limit: &Limit, newcomer: &Session, other: &Session) -> bool {
    match limit.scope {
        Scope::User => true,
        Scope::DeviceKind => newcomer.device_kind == other.device_kind,
        Scope::Client => newcomer.client_id == other.client_id,
    }
}
