//! Judges what the store carries out.

use std::time::Duration;

use session_core::policy::{Limit, OnExceed, Scope};
use session_core::store::{
    Change, Commit, EndMany, EndedBatch, Forget, Outcome, Selection, Sweep, Touch,
};
use session_core::{EndCause, EventKind, Session, SessionId, Timestamp};

use super::{End, Guarantee, Known, Oracle};
use crate::call::{Answer, Call, Reply};
use crate::node::stamp;
use crate::plan::Ms;

/// Who asked, and when the request left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From {
    pub(crate) node: usize,
    pub(crate) life: u32,
    pub(crate) sent: Ms,
    /// In the last part of the run, in which nodes are idle.
    pub(crate) idle: bool,
}

impl Oracle {
    /// The store has carried out a call.
    pub(crate) fn carried_out(&mut self, at: Ms, from: From, call: &Call, answer: &Answer) {
        if from.idle {
            self.nodes[from.node].idle_calls += u32::from(!call.is_housekeeping());
            self.idle_changes += u32::from(call.has_changed(answer));
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
            (Call::Sweep(sweep, _), Reply::Batch(batch)) => self.swept(at, sweep, batch),
            (Call::Lease(name, ..), Reply::Lease(true)) if !name.starts_with("ticket:") => {
                self.leased_by = Some((from.node, from.life));
            }
            (Call::Touch(touches), Reply::Gone(gone)) => self.touched(at, touches, gone),
            (Call::Forget(Forget::User(owner), _), Reply::Count(_)) => self.forgotten(at, owner),
            (Call::Load(id), Reply::Loaded(loaded)) => {
                let stored = loaded.as_ref().map(|loaded| &loaded.session);
                self.check_stored(at, *id, stored);
            }
            (Call::SetPolicy(change), _) => {
                self.reached.note("a policy changes");
                self.policies.push((at, change.scope.clone(), change.policy.clone()));
            }
            (Call::SetBlock(change), _) => {
                if change.block.is_some() {
                    self.reached.note("a block is set");
                }
                self.blocks.push((at, change.scope.clone(), change.block.clone()));
            }
            (Call::TrimLog(..), Reply::Count(count)) if *count > 0 => {
                self.reached.note("the cleanup cuts the log");
            }
            _ => {}
        }
    }

    /// The cleanup works only for a node that was given the lease, which it renews before each batch. One
    /// that was not scheduled for a while may make the batch that it was about to make.
    fn check_lease(&mut self, at: Ms, from: From, call: &Call) {
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
        if self.leased_by != Some((from.node, from.life)) {
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

    fn committed(&mut self, at: Ms, from: From, commit: &Commit) {
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
                    self.end(at, *id, *cause);
                }
                Change::Insert(session) => self.begin(at, from, session),
                Change::Update { session, kind } => self.update(at, session, *kind),
                Change::ClaimsChanged(_) => {}
            }
        }
        let inserted = commit.changes.iter().find_map(|change| match change {
            Change::Insert(session) => Some(session),
            _ => None,
        });
        if let Some(session) = inserted {
            self.check_admission(at, from, commit, session, &before);
        }
    }

    fn begin(&mut self, at: Ms, from: From, session: &Session) {
        let id = session.id;
        if self.sessions.get(&id).is_some_and(|known| !known.excused || known.ended.is_none()) {
            self.broken(Guarantee::Resurrection, at, || format!("{id} begins a second time"));
        }
        let named = session.device_info.as_ref().and_then(|info| info.as_str().strip_prefix("op "));
        let known = Known {
            session: session.clone(),
            born: at,
            begun_by: named.and_then(|number| number.parse().ok()),
            acknowledged: false,
            // What a node had sent before it was killed may arrive later.
            excused: self.life(from.node) != from.life,
            undone: false,
            ended: None,
            used: None,
            perhaps_used: at,
            last_before: at,
            stolen: false,
            delayed: false,
            ended_on: Vec::new(),
            counted: 0,
            perhaps_counted: 0,
            unstored: Vec::new(),
            forgotten: None,
        };
        self.sessions.insert(id, known);
    }

    fn update(&mut self, at: Ms, session: &Session, kind: EventKind) {
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
        let early = stamp(at).minus(2 * self.options.store_timeout);
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

    fn end(&mut self, at: Ms, id: SessionId, cause: EndCause) {
        let Some(known) = self.sessions.get_mut(&id) else {
            self.broken(Guarantee::Unknown, at, || format!("{id} ends and never began"));
            return;
        };
        // A commit passes over what is gone.
        if known.ended.is_some() {
            return;
        }
        known.ended = Some(End { at, cause });
        known.unstored.clear();
        let stolen = known.stolen || known.excused || known.delayed;
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
    pub(super) fn idle_of(&self, session: &Session) -> Duration {
        let own = session.timeouts.and_then(|own| own.idle);
        let unused = self.options.cleanup.inactive_for;
        let default = self.options.timeouts.idle.map_or(unused, |idle| idle.min(unused));
        own.unwrap_or(default)
    }

    /// Every path by which a session ends for its age is judged here.
    fn check_expiry(&mut self, at: Ms, id: SessionId, by: &'static str) {
        let Some(known) = self.sessions.get(&id) else { return };
        let session = &known.session;
        let error = self.options.store_timeout;
        let now = stamp(at);
        let absolute = session.absolute_expiry.is_some_and(|expiry| expiry <= now.plus(error));
        if absolute {
            self.reached.note("a session ends at its absolute timeout");
            return;
        }
        let idle = self.idle_of(session);
        let used = known.used.filter(|used| self.is_calm(used.node, used.at, at));
        let used = used.map_or(session.signed_in, |used| stamp(used.at));
        let last = used.max(session.last_accessed);
        if last.plus(idle) > now.plus(error) {
            let ago = now.since(last);
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
            match end.cause {
                EndCause::Expired => self.check_expiry(at, ended.id, "a node"),
                EndCause::Blocked => self.reached.note("a block ends sessions"),
                EndCause::Revoked if end.by == session_core::Actor::System => {
                    self.reached.note("a session that nobody holds is taken back");
                }
                EndCause::Revoked => self.reached.note("a session is revoked"),
                _ => {}
            }
            self.end(at, ended.id, end.cause);
        }
    }

    /// Who runs the cleanup, and when it was meant to, makes no difference to what ends.
    fn swept(&mut self, at: Ms, sweep: &Sweep, batch: &EndedBatch) {
        let line = stamp(at).minus(sweep.overdue);
        for ended in &batch.ended {
            let deadline = self.sessions.get(&ended.id).map(|known| known.session.deadline);
            if let Some(deadline) = deadline.filter(|deadline| *deadline >= line) {
                self.broken(Guarantee::NotOverdue, at, || {
                    format!("the cleanup ends {}, which is due at {deadline}", ended.id)
                });
            }
            self.reached.note("the cleanup ends a session");
            self.check_expiry(at, ended.id, "the cleanup");
            self.end(at, ended.id, EndCause::Expired);
        }
    }

    fn touched(&mut self, at: Ms, touches: &[Touch], gone: &[SessionId]) {
        for touch in touches {
            if gone.contains(&touch.id) {
                self.reached.note("a use finds its session gone");
                continue;
            }
            self.reached.note("a session is written back");
            self.check_lag(at, touch.id);
            let Some(known) = self.sessions.get_mut(&touch.id) else { continue };
            let session = &mut known.session;
            session.last_accessed = session.last_accessed.max(touch.last_accessed);
            session.deadline = session.deadline.max(touch.deadline);
            session.claimed |= touch.claimed;
            let (last, error) = (session.last_accessed, self.options.store_timeout);
            known.unstored.retain(|counted| last < stamp(counted.used.at).minus(error));
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

    /// No policy is exceeded, and no block overlooked, by a session that begins.
    fn check_admission(
        &mut self,
        at: Ms,
        from: From,
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
        let read = self.reads.get(&(from.node, owner.clone(), commit.expected.0)).copied();
        let Some(read) = read else {
            if self.restored.is_none() {
                self.broken(Guarantee::Unread, at, || {
                    format!("a sign-in of {} goes by a version that was not read", owner.user)
                });
            }
            return;
        };
        let policies = self.policies_within(owner, read, at);
        // Those that surely count, and before the sign-in those that may have.
        let error = self.options.store_timeout;
        let (surely, perhaps) = (stamp(at).plus(error), stamp(at).minus(error));
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
        let is_kept = policies.iter().any(|policy| policy.effective_limits().iter().all(keeps));
        let ceiling = self.options.max_sessions_per_user.is_none_or(|max| {
            let limit =
                Limit { max, scope: Scope::User, on_exceed: OnExceed::EvictLeastRecentlyUsed };
            keeps(&limit)
        });
        let evicts = |change: &Change| matches!(change, Change::End(_, EndCause::Evicted));
        let most = self.options.max_sessions_per_user.unwrap_or(u32::MAX) as usize;
        if before.len() >= most && commit.changes.iter().any(evicts) {
            self.reached.note("a sign-in evicts at the ceiling of a user");
        }
        if !is_kept || !ceiling {
            self.broken(Guarantee::Limit, at, || {
                format!("{} has {} sessions under {policies:?}", owner.user, after.len())
            });
        }
        if let [policy] = policies.as_slice() {
            let limits = policy.effective_limits();
            if let ([limit], None) = (limits.as_slice(), self.options.max_sessions_per_user) {
                self.check_order(at, read, commit, before, limit);
            }
        }
    }

    /// The one that signed in first leaves first, where all are known to be held.
    fn check_order(
        &mut self,
        at: Ms,
        read: Ms,
        commit: &Commit,
        before: &[Session],
        limit: &Limit,
    ) {
        if limit.on_exceed != OnExceed::EvictOldest {
            return;
        }
        let evicted: Vec<_> = commit
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::End(id, EndCause::Evicted) => Some(*id),
                _ => None,
            })
            .collect();
        let newcomer = commit.changes.iter().find_map(|change| match change {
            Change::Insert(session) => Some(session),
            _ => None,
        });
        let Some(newcomer) = newcomer else { return };
        let mut others: Vec<_> =
            before.iter().filter(|other| in_scope(limit, newcomer, other)).collect();
        let only_evicts = commit.changes.len() == evicted.len() + 1;
        // One that was written back since may have been unclaimed when the node decided.
        let was_held = |other: &&Session| other.claimed && other.last_accessed < stamp(read);
        if !only_evicts || !others.iter().all(was_held) {
            return;
        }
        others.sort_by_key(|other| (other.signed_in, other.id));
        let first = others.iter().take(evicted.len()).map(|other| other.id);
        if !first.clone().all(|id| evicted.contains(&id)) {
            self.broken(Guarantee::Order, at, || {
                "a newer session leaves in place of an older one".to_owned()
            });
        }
    }
}

fn in_scope(limit: &Limit, newcomer: &Session, other: &Session) -> bool {
    match limit.scope {
        Scope::User => true,
        Scope::DeviceKind => newcomer.device_kind == other.device_kind,
        Scope::Client => newcomer.client_id == other.client_id,
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
const LEASE: Ms = 30_000;
