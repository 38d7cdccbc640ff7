//! Judges what the store carries out.

use std::time::Duration;

use session_core::cleanup::MAX_CLOCK_SKEW;
use session_core::store::{Change, Commit, EndMany, EndedBatch, Outcome, Selection, Touch};
use session_core::{EndCause, EventKind, Session, SessionId};
use session_engine::Options;

use super::{End, Guarantee, Known, Oracle, Setting, ms};
use crate::call::{Answer, Call, Reply};
use crate::node::stamp;
use crate::plan::Ms;

/// Who asked, and when the request left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) node: usize,
    pub(crate) life: u32,
    pub(crate) sent: Ms,
    /// In the last part of the run, in which nodes are idle.
    pub(crate) idle: bool,
}

impl Oracle {
    /// The store has carried out a call.
    pub(crate) fn carried_out(&mut self, at: Ms, from: Sender, call: &Call, answer: &Answer) {
        if from.idle {
            let facts = &mut self.nodes[from.node];
            match call.looked_for(answer) {
                Some(id) => *facts.idle_looks.entry(id).or_default() += 1,
                None => facts.idle_calls += u32::from(!call.is_housekeeping()),
            }
            self.idle_changes += u32::from(call.has_appended(answer));
            if matches!(call, Call::Touch(_) | Call::Commit(_)) {
                self.broken(Guarantee::IdleWrite, at, || {
                    format!("node {} is idle and asks for a {}", from.node, call.name())
                });
            }
        }
        if call.has_appended(answer) {
            self.appended.push(at);
        }
        self.check_lease(at, from, call);
        let Ok(reply) = answer else { return };
        match (call, reply) {
            (Call::User(owner), Reply::User(state)) => {
                self.version_read(from.node, owner, state.version, at);
            }
            (Call::Commit(commit), Reply::Outcome(Outcome::Done)) => {
                self.committed(at, from, commit)
            }
            (Call::Commit(_), Reply::Outcome(Outcome::Conflict)) => {
                self.reached.note("a sign-in meets another one");
            }
            (Call::EndMany(end, _), Reply::Batch(batch)) => self.ended_many(at, end, batch),
            (Call::Sweep(..), Reply::Batch(batch)) => self.swept(at, batch),
            (Call::Lease(name, _, lasts), Reply::Lease(true)) if name == "cleanup" => {
                self.leased(at, from, at + ms(*lasts));
            }
            (Call::Touch(touches), Reply::Gone(gone)) => self.touched(at, touches, gone),
            (Call::Load(id), Reply::Loaded(loaded)) => {
                let stored = loaded.as_ref().map(|loaded| &loaded.session);
                self.check_stored(at, *id, stored);
            }
            (Call::SetPolicy(change), _) => {
                self.reached.note("a policy changes");
                let setting = Setting::Policy(change.policy.clone());
                self.check_setting(at, &change.scope, &setting);
                self.policies.push((at, change.scope.clone(), change.policy.clone()));
            }
            (Call::SetBlock(change), _) => {
                if change.block.is_some() {
                    self.reached.note("a block is set");
                }
                let setting = Setting::of_block(change.block.as_ref());
                self.check_setting(at, &change.scope, &setting);
                self.blocks.push((at, change.scope.clone(), change.block.clone()));
            }
            (Call::TrimLog(..), Reply::Count(count)) if *count > 0 => {
                self.reached.note("the cleanup cuts the log");
            }
            _ => {}
        }
    }

    /// The store has given a node the cleanup's lease: no other one has it.
    fn leased(&mut self, at: Ms, from: Sender, until: Ms) {
        let by = (from.node, from.life);
        let held = self.leased_by.filter(|(holder, until)| *holder != by && at < *until);
        if let Some(((node, _), until)) = held {
            self.broken(Guarantee::Alone, at, || {
                format!("node {} is given the lease that node {node} has until {until}", from.node)
            });
        }
        self.leased_by = Some((by, until));
    }

    /// The cleanup works only for a node that was given the lease, which it renews before each batch. One
    /// that was not scheduled for a while may make the batch that it was about to make.
    fn check_lease(&mut self, at: Ms, from: Sender, call: &Call) {
        let asks = matches!(call, Call::Sweep(..) | Call::TrimLog(..));
        if !asks || self.life(from.node) != from.life {
            return;
        }
        let leased = self.nodes[from.node].leased;
        let in_time = |leased| {
            from.sent.saturating_sub(leased) <= LEASE || !self.is_calm(from.node, leased, from.sent)
        };
        if !leased.is_some_and(in_time) {
            self.broken(Guarantee::Lease, at, || {
                format!("node {} cleans up without the lease", from.node)
            });
            return;
        }
        if self.leased_by.is_none_or(|(holder, _)| holder != (from.node, from.life)) {
            self.reached.note("a node cleans up after another one was given its lease");
        }
        let facts = &mut self.nodes[from.node];
        let sweeps = matches!(call, Call::Sweep(..));
        let made = if sweeps { &mut facts.swept } else { &mut facts.trimmed };
        // One that was given up arrives late.
        if leased.is_some_and(|leased| from.sent >= leased) && std::mem::replace(made, true) {
            self.broken(Guarantee::Lease, at, || {
                format!("node {} goes on without having asked for the lease again", from.node)
            });
        }
    }

    fn committed(&mut self, at: Ms, from: Sender, commit: &Commit) {
        let before: Vec<Session> =
            self.live_of(&commit.owner).map(|known| known.session.clone()).collect();
        for change in &commit.changes {
            match change {
                Change::End(id, cause) => {
                    if *cause == EndCause::Evicted {
                        self.reached.note("a sign-in evicts");
                    }
                    if *cause == EndCause::Expired {
                        self.check_expiry(at, *id, "a sign-in");
                    }
                    self.end(at, *id, *cause, false);
                }
                Change::Insert(session) => self.begin(at, from, session),
                Change::Update { session, kind } => self.update(at, session, *kind),
                Change::ClaimsChanged(_) => {}
            }
        }
        let signs_in = commit.changes.iter().find_map(|change| match change {
            Change::Insert(session) => Some((session, true)),
            Change::Update { session, kind: EventKind::Rotated } => Some((session, false)),
            _ => None,
        });
        let evicted = commit.changes.iter().filter_map(|change| match change {
            Change::End(id, EndCause::Evicted) => Some(*id),
            _ => None,
        });
        let evicted: Vec<_> = evicted.collect();
        match signs_in {
            Some((session, true)) => self.check_admission(at, from, commit, session, &before),
            Some((_, false)) => {}
            None => evicted.iter().for_each(|id| self.check_asked(at, *id, EndCause::Evicted)),
        }
        if let Some((session, _)) = signs_in.filter(|_| !evicted.is_empty()) {
            self.check_evictions(at, from, commit, session, &evicted);
        }
    }

    fn begin(&mut self, at: Ms, from: Sender, session: &Session) {
        let id = session.id;
        if self.sessions.get(&id).is_some_and(|known| !known.excused || known.ended.is_none()) {
            self.broken(Guarantee::Resurrection, at, || format!("{id} begins a second time"));
        }
        let known = Known {
            session: session.clone(),
            born: at,
            sent: from.sent,
            begun_by: super::begun_by(session),
            acknowledged: false,
            // What a node had sent before it was killed may arrive later.
            orphaned: self.life(from.node) != from.life,
            excused: false,
            back: None,
            undone: false,
            ended: None,
            used: None,
            perhaps_used: at,
            under_way: 0,
            last_before: at,
            written: at,
            stolen: false,
            delayed: false,
            ended_on: Vec::new(),
            counted: 0,
            perhaps_counted: 0,
            unstored: Vec::new(),
            erased: None,
        };
        self.sessions.insert(id, known);
    }

    fn update(&mut self, at: Ms, session: &Session, kind: EventKind) {
        let early = stamp(at.saturating_sub(2 * self.time_error()));
        let id = session.id;
        let Some(known) = self.sessions.get_mut(&id).filter(|known| known.ended.is_none()) else {
            self.broken(Guarantee::Resurrection, at, || format!("{id} changes after its end"));
            return;
        };
        let mut stored = session.clone();
        let old = &known.session;
        stored.last_accessed = old.last_accessed;
        stored.claimed = old.claimed;
        stored.deadline = old.deadline.max(session.deadline);
        let moved_on = old.token.current != stored.token.current;
        let number = |session: &Session| {
            let data = session.data.as_ref().and_then(|data| data.to_value().as_u64());
            data.unwrap_or_default()
        };
        let forgets = old.unknown.keys().any(|name| !stored.unknown.contains_key(name));
        let overwrites = kind == EventKind::Changed && number(&stored) != number(old) + 1;
        let grace_from = stored.token.retired.as_ref().filter(|_| moved_on).map(|last| last.at);
        known.session = stored;
        if forgets {
            self.broken(Guarantee::Newer, at, || {
                format!("{id} has lost what a newer version has written")
            });
        }
        if overwrites {
            self.broken(Guarantee::LostUpdate, at, || {
                format!("{id} has lost a change of its data")
            });
        }
        if grace_from.is_some_and(|from| from < early) {
            self.broken(Guarantee::Grace, at, || {
                format!("a grace has begun before the first use in {id}")
            });
        }
        if kind == EventKind::Rotated {
            self.reached.note(if moved_on {
                "a token is confirmed"
            } else {
                "a token is replaced"
            });
        }
    }

    fn end(&mut self, at: Ms, id: SessionId, cause: EndCause, taken_back: bool) {
        let Some(known) = self.sessions.get_mut(&id) else {
            self.broken(Guarantee::Unknown, at, || format!("{id} ends and never began"));
            return;
        };
        // A commit passes over what is gone.
        if known.ended.is_some() {
            return;
        }
        known.ended = Some(End { at, cause, taken_back });
        known.unstored.clear();
        let stolen = known.stolen || known.excused || known.delayed;
        if taken_back {
            if known.acknowledged {
                self.broken(Guarantee::Unasked, at, || {
                    format!("{id} is taken back, and its client was told of it")
                });
            }
        } else if matches!(
            cause,
            EndCause::Revoked | EndCause::SignedOut | EndCause::Blocked | EndCause::Replaced
        ) {
            self.check_asked(at, id, cause);
        }
        if cause == EndCause::TokenReused {
            self.reached.note("a stolen token ends its session");
            if !stolen {
                self.broken(Guarantee::OwnerOut, at, || {
                    format!("{id} ends for a copied token, and nobody has copied it")
                });
            }
        }
    }

    /// For how long a session may go unused.
    pub(super) fn idle(&self) -> Duration {
        let unused = self.options.cleanup.inactive_for;
        self.options.timeouts.idle.map_or(unused, |idle| idle.min(unused))
    }

    /// Every path by which a session ends for its age is judged here.
    fn check_expiry(&mut self, at: Ms, id: SessionId, by: &'static str) {
        let Some(known) = self.sessions.get(&id) else { return };
        let now = stamp(at + self.time_error());
        let counts_from = self.counts_from(id).0;
        if self.options.timeouts.absolute.is_some_and(|most| counts_from.plus(most) <= now) {
            self.reached.note("a session ends at its absolute timeout");
            return;
        }
        let (last, idle) = (self.surely_used(known, at), self.idle());
        if last.plus(idle) > now {
            let ago = stamp(at).since(last);
            self.broken(Guarantee::InUse, at, || {
                format!(
                    "{by} ends {id} as unused {ago:?} after its last use; the timeout is {idle:?}"
                )
            });
        } else {
            self.reached.note("a session ends as idle");
        }
    }

    fn ended_many(&mut self, at: Ms, end: &EndMany, batch: &EndedBatch) {
        for ended in &batch.ended {
            let covered = self.sessions.get(&ended.id).is_some_and(|known| {
                known.ended.is_none() && covers(&end.selection, &known.session)
            });
            if !covered {
                self.broken(Guarantee::Selection, at, || {
                    format!("{} ends and was not selected by {:?}", ended.id, end.selection)
                });
            }
            let taken_back =
                end.cause == EndCause::Revoked && end.by == session_core::Actor::System;
            match end.cause {
                EndCause::Expired => self.check_expiry(at, ended.id, "a node"),
                EndCause::Blocked => self.reached.note("a block ends sessions"),
                EndCause::Revoked if taken_back => {
                    self.reached.note("a session that nobody holds is taken back");
                }
                EndCause::Revoked => self.reached.note("a session is revoked"),
                EndCause::Evicted => self.check_asked(at, ended.id, end.cause),
                _ => {}
            }
            self.end(at, ended.id, end.cause, taken_back);
        }
    }

    /// Who runs the cleanup, and when it was meant to, makes no difference to what ends.
    fn swept(&mut self, at: Ms, batch: &EndedBatch) {
        let Options { write_back, store_timeout, .. } = &self.options;
        // A use may wait, for the flush that is under way and for the next one, by a clock that is wrong.
        let lag = write_back.max_delay + write_back.flush_interval + 2 * *store_timeout;
        let line = stamp(at).minus(lag + MAX_CLOCK_SKEW);
        for ended in &batch.ended {
            let deadline = self.sessions.get(&ended.id).map(|known| known.session.deadline);
            if let Some(deadline) = deadline.filter(|deadline| *deadline >= line) {
                self.broken(Guarantee::NotOverdue, at, || {
                    format!("the cleanup ends {}, which is due at {deadline}", ended.id)
                });
            }
            self.reached.note("the cleanup ends a session");
            self.check_expiry(at, ended.id, "the cleanup");
            self.end(at, ended.id, EndCause::Expired, false);
        }
    }

    fn touched(&mut self, at: Ms, touches: &[Touch], gone: &[SessionId]) {
        let error = self.time_error();
        for touch in touches {
            if gone.contains(&touch.id) {
                self.reached.note("a use finds its session gone");
                continue;
            }
            self.reached.note("a session is written back");
            self.check_lag(at, touch.id);
            let Some(known) = self.sessions.get_mut(&touch.id) else { continue };
            known.written = at;
            let session = &mut known.session;
            session.last_accessed = session.last_accessed.max(touch.last_accessed);
            session.deadline = session.deadline.max(touch.deadline);
            session.claimed |= touch.claimed;
            let last = session.last_accessed;
            known.unstored.retain(|counted| last < stamp(counted.used.at.saturating_sub(error)));
        }
    }

    /// What the store has must be what it was told.
    pub(super) fn check_stored(&mut self, at: Ms, id: SessionId, stored: Option<&Session>) {
        let known = self.sessions.get(&id);
        let truth = known.filter(|known| known.ended.is_none()).map(|known| &known.session);
        match (truth, stored) {
            (None, Some(_)) => {
                self.broken(Guarantee::Resurrection, at, || format!("the store has {id} again"))
            }
            (Some(_), None) => {
                self.broken(Guarantee::Lost, at, || format!("the store has lost {id}"))
            }
            (Some(truth), Some(stored)) if stored.last_accessed < truth.last_accessed => {
                let (was, is) = (truth.last_accessed, stored.last_accessed);
                self.broken(Guarantee::Backwards, at, || {
                    format!("the last access of {id} went back from {was} to {is}")
                });
            }
            _ => {}
        }
    }
}

/// The selection by its words, apart from the code that stores share.
pub(super) fn covers(selection: &Selection, session: &Session) -> bool {
    use session_core::store::TenantFilter;
    let tenant = match &selection.tenant {
        TenantFilter::Any => true,
        TenantFilter::Is(tenant) => *tenant == session.owner.tenant,
    };
    let user = selection.user.as_ref().is_none_or(|user| *user == session.owner.user);
    let app = selection.client_id.as_ref();
    let app = app.is_none_or(|app| session.client_id.as_ref() == Some(app));
    let kind = selection.device_kind.as_ref().is_none_or(|kind| *kind == session.device_kind);
    let ids = selection.ids.as_ref().is_none_or(|ids| ids.contains(&session.id));
    let unused = selection.last_accessed_before.is_none_or(|before| session.last_accessed < before);
    let older = selection.signed_in_before.is_none_or(|before| session.signed_in < before);
    let of_device = kind && app && ids;
    tenant && user && of_device && older && unused && selection.except != Some(session.id)
}

/// How long the cleanup's lease lasts.
pub(super) const LEASE: Ms = 30_000;
