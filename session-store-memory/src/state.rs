//! What the store holds; every method is one atomic step under the store's lock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use session_core::admission::Standing;
use session_core::block::{self, Block};
use session_core::planted::{self, Defect};
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::{
    BlockChange, Change, Commit, Continuation, Ended, EndedBatch, Ending, Loaded, Outcome, Page,
    PageCursor, PageQuery, PolicyChange, Touch, UserState, Version, limit_within,
};
use session_core::{
    Event, EventKind, FleetKey, Session, SessionId, StoreError, Timestamp, UserKey,
};

use crate::history::History;
use crate::lease::Leases;
use crate::log::Log;

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) log: Log,
    pub(crate) history: History,
    sessions: BTreeMap<SessionId, Session>,
    users: BTreeMap<UserKey, User>,
    newest_first: BTreeSet<(Reverse<Timestamp>, SessionId)>,
    policies: HashMap<PolicyScope, Policy>,
    blocks: HashMap<PolicyScope, Block>,
    fleet_key: Option<FleetKey>,
    leases: Leases,
}

#[derive(Clone, Debug, Default)]
struct User {
    /// The number of the user's newest log entry.
    version: i64,
    sessions: BTreeSet<SessionId>,
}

impl State {
    pub(crate) fn copy(&self) -> Self {
        Self { log: self.log.copy(), ..self.clone() }
    }

    pub(crate) fn user(&self, owner: &UserKey) -> UserState {
        let sessions = self.users.get(owner).map(|user| &user.sessions).into_iter().flatten();
        UserState {
            version: self.version(owner),
            sessions: sessions.filter_map(|id| self.sessions.get(id)).map(Standing::from).collect(),
            policies: self.policy_layers(owner),
            blocks: self.blocks_of(owner),
        }
    }

    pub(crate) fn load(&self, id: SessionId) -> Option<Loaded> {
        let session = self.sessions.get(&id)?.clone();
        Some(Loaded { version: self.version(&session.owner), session })
    }

    pub(crate) fn commit(&mut self, commit: &Commit, now: Timestamp) -> Outcome {
        let blocked = || {
            block::refusal(&self.blocks_of(&commit.owner), now).is_some()
                && !planted::is(Defect::BlockRace)
        };
        let applies = |change: &Change| match change {
            Change::Update { session, .. } => self.owns(&commit.owner, session.id),
            Change::Insert(session) => {
                let known = self.sessions.contains_key(&session.id)
                    || self.history.get(session.id).is_some();
                !known && !blocked()
            }
            Change::End(..) | Change::ClaimsChanged(_) => true,
        };
        let is_expected = self.version(&commit.owner) == commit.expected || ignores_version(commit);
        if !is_expected || !commit.changes.iter().all(applies) {
            return Outcome::Conflict;
        }
        for change in &commit.changes {
            if let Some((kind, id)) = self.apply(commit, change) {
                self.record(commit.event(kind, id), &commit.owner);
            }
        }
        if planted::is(Defect::ConflictCommits) {
            return Outcome::Conflict;
        }
        Outcome::Done
    }

    pub(crate) fn page(&self, query: &PageQuery) -> Page {
        let after = query.after.map(|PageCursor { at, id }| (Reverse(at), id));
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let limit = limit_within(query.limit, PageQuery::MAX_LIMIT);
        let mut covered = Vec::new();
        let walk = self.newest_first.range((from, Bound::Unbounded));
        for (examined, (_, id)) in (1..).zip(walk) {
            let Some(session) = self.sessions.get(id) else { continue };
            if query.covers(session) {
                covered.push(session.clone());
            }
            if covered.len() > limit as usize {
                break;
            }
            if examined == PageQuery::MAX_EXAMINED {
                return Page { sessions: covered, next: Some(PageCursor::of(session)) };
            }
        }
        Page::cut(covered, limit)
    }

    pub(crate) fn touch(&mut self, touch: &Touch) -> bool {
        if planted::is(Defect::TouchResurrects) && !self.sessions.contains_key(&touch.id) {
            let ended = self.history.get(touch.id).map(|ended| ended.session.clone());
            ended.iter().for_each(|session| self.insert(session));
        }
        let Some(session) = self.sessions.get_mut(&touch.id) else { return false };
        if planted::is(Defect::TouchBackwards) {
            (session.last_accessed, session.deadline) = (touch.last_accessed, touch.deadline);
        }
        touch.apply(session);
        true
    }

    /// Walks the sessions by their ids, or only these.
    pub(crate) fn end_where(
        &mut self,
        among: Option<&[SessionId]>,
        covers: impl Fn(&Session) -> bool,
        ending: &Ending,
        after: Option<&Continuation>,
        limit: u32,
    ) -> Result<EndedBatch, StoreError> {
        let after = after.map(Continuation::place).transpose()?.map(|place| place.id);
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT) as usize;
        let mut batch = EndedBatch::default();
        let mut walk = self.walk(among, after).peekable();
        for examined in 1..=PageQuery::MAX_EXAMINED {
            let Some(session) = walk.next() else { break };
            if covers(session) {
                batch.ended.push(Ended { id: session.id, owner: session.owner.clone() });
            }
            let last = batch.ended.len() == limit || examined == PageQuery::MAX_EXAMINED;
            if last && walk.peek().is_some() {
                batch.next = Some(Continuation::at(PageCursor::of(session)));
            }
            if last {
                break;
            }
        }
        drop(walk);
        for ended in &batch.ended {
            self.end(ended.id, ending);
            self.record(ending.event(ended), &ended.owner);
        }
        Ok(batch)
    }

    fn walk(
        &self,
        among: Option<&[SessionId]>,
        after: Option<SessionId>,
    ) -> Box<dyn Iterator<Item = &Session> + '_> {
        let from = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        match among {
            Some(ids) => {
                let ids: BTreeSet<_> = ids.iter().copied().collect();
                let left: Vec<_> = ids.range(from).copied().collect();
                Box::new(left.into_iter().filter_map(|id| self.sessions.get(&id)))
            }
            None => Box::new(self.sessions.range(from).map(|(_, session)| session)),
        }
    }

    pub(crate) fn lease(
        &mut self,
        name: &str,
        holder: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> bool {
        self.leases.take(name, holder, ttl, now)
    }

    pub(crate) fn policy(&self, scope: &PolicyScope) -> Option<Policy> {
        self.policies.get(scope).cloned()
    }

    pub(crate) fn set_policy(&mut self, change: &PolicyChange) {
        match &change.policy {
            Some(policy) => self.policies.insert(change.scope.clone(), policy.clone()),
            None => self.policies.remove(&change.scope),
        };
        self.log.append(change.event());
    }

    pub(crate) fn block(&self, scope: &PolicyScope) -> Option<Block> {
        self.blocks.get(scope).cloned()
    }

    pub(crate) fn set_block(&mut self, change: &BlockChange) {
        match &change.block {
            Some(block) => self.blocks.insert(change.scope.clone(), block.clone()),
            None => self.blocks.remove(&change.scope),
        };
        self.log.append(change.event());
    }

    pub(crate) fn fleet_key(&mut self, proposed: &FleetKey) -> FleetKey {
        self.fleet_key.get_or_insert_with(|| proposed.clone()).clone()
    }

    fn version(&self, owner: &UserKey) -> Version {
        self.users.get(owner).map_or(Version::NONE, |user| Version(user.version))
    }

    fn policy_layers(&self, owner: &UserKey) -> PolicyLayers {
        let mut layers = PolicyLayers::default();
        for scope in PolicyScope::of(owner) {
            layers.set(&scope, self.policy(&scope));
        }
        layers
    }

    fn blocks_of(&self, owner: &UserKey) -> Vec<(PolicyScope, Block)> {
        let places = PolicyScope::of(owner).into_iter();
        places.filter_map(|scope| self.block(&scope).map(|block| (scope, block))).collect()
    }

    fn owns(&self, owner: &UserKey, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.owner == *owner)
    }

    fn apply(&mut self, commit: &Commit, change: &Change) -> Option<(EventKind, SessionId)> {
        let id = change.session();
        match change {
            Change::Insert(session) => self.insert(session),
            Change::End(_, cause) => {
                let ending = Ending::of_commit(commit, *cause);
                if !self.owns(&commit.owner, id) || !self.end(id, &ending) {
                    return None;
                }
            }
            Change::Update { session, .. } => self.update(session),
            Change::ClaimsChanged(_) if !self.owns(&commit.owner, id) => return None,
            Change::ClaimsChanged(_) => {}
        }
        Some((change.kind(), id))
    }

    /// What write-backs keep stays as it is.
    fn update(&mut self, new: &Session) {
        if planted::is(Defect::ChangeLoses) {
            self.sessions.remove(&new.id);
        }
        let Some(session) = self.sessions.get_mut(&new.id) else { return };
        let mut updated = new.clone();
        updated.ip_addresses = std::mem::take(&mut session.ip_addresses);
        updated.signed_in = session.signed_in;
        updated.last_accessed = session.last_accessed;
        updated.claimed = session.claimed;
        updated.deadline = session.deadline.max(new.deadline);
        updated.device_kind = session.device_kind.clone();
        updated.client_id = session.client_id.clone();
        *session = updated;
    }

    fn insert(&mut self, session: &Session) {
        self.newest_first.insert((Reverse(session.signed_in), session.id));
        self.users.entry(session.owner.clone()).or_default().sessions.insert(session.id);
        self.sessions.insert(session.id, session.clone());
    }

    fn end(&mut self, id: SessionId, ending: &Ending) -> bool {
        let Some(session) = self.sessions.remove(&id) else { return false };
        self.newest_first.remove(&(Reverse(session.signed_in), id));
        if let Some(user) = self.users.get_mut(&session.owner) {
            user.sessions.remove(&id);
        }
        if !planted::is(Defect::HistoryLost) {
            self.history.add(ending.remember(session));
        }
        true
    }

    /// Appends a log entry and raises the user's version; a user without sessions is forgotten.
    fn record(&mut self, event: Event, owner: &UserKey) {
        let number = self.log.append(event);
        let user = self.users.entry(owner.clone()).or_default();
        user.version = number;
        if user.sessions.is_empty() {
            self.users.remove(owner);
        }
    }
}

/// Whether a defect is planted that takes this commit for any version.
fn ignores_version(commit: &Commit) -> bool {
    let is_of_data =
        matches!(&commit.changes[..], [Change::Update { kind: EventKind::Changed, .. }]);
    planted::is(Defect::VersionGuessed) || (planted::is(Defect::DataOverwritten) && is_of_data)
}
