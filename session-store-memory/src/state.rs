//! What the store holds; every method is one atomic step under the store's lock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use session_core::admission::Standing;
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::session::note_ip_address;
use session_core::store::{
    Change, Commit, Continuation, Ended, EndedBatch, Loaded, Outcome, Page, PageCursor, PageQuery,
    PolicyChange, Touch, UserState, Version, limit_within,
};
use session_core::{
    Actor, EndCause, Event, EventKind, Session, SessionId, StoreError, Timestamp, UserKey,
};
use tokio::time::Instant;

use crate::log::Log;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) log: Log,
    sessions: BTreeMap<SessionId, Session>,
    users: BTreeMap<UserKey, User>,
    newest_first: BTreeSet<(Reverse<Timestamp>, SessionId)>,
    policies: HashMap<PolicyScope, Policy>,
    leases: HashMap<String, (String, Instant)>,
}

/// What the log says of sessions that end.
pub(crate) struct Why {
    pub(crate) cause: EndCause,
    pub(crate) at: Timestamp,
    pub(crate) by: Actor,
}

#[derive(Debug, Default)]
struct User {
    /// The number of the user's newest log entry.
    version: i64,
    sessions: BTreeSet<SessionId>,
}

impl State {
    pub(crate) fn user(&self, owner: &UserKey) -> UserState {
        let sessions = self.users.get(owner).map(|user| &user.sessions).into_iter().flatten();
        UserState {
            version: self.version(owner),
            sessions: sessions.filter_map(|id| self.sessions.get(id)).map(Standing::from).collect(),
            policies: self.policy_layers(owner),
        }
    }

    pub(crate) fn load(&self, id: SessionId) -> Option<Loaded> {
        let session = self.sessions.get(&id)?.clone();
        Some(Loaded { version: self.version(&session.owner), session })
    }

    pub(crate) fn commit(&mut self, commit: &Commit) -> Outcome {
        let applies = |change: &Change| match change {
            Change::ReplaceToken { id, .. } => self.owns(&commit.owner, *id),
            Change::Insert(session) => !self.sessions.contains_key(&session.id),
            Change::End(..) | Change::ClaimsChanged(_) => true,
        };
        if self.version(&commit.owner) != commit.expected || !commit.changes.iter().all(applies) {
            return Outcome::Conflict;
        }
        for change in &commit.changes {
            if let Some((kind, id)) = self.apply(&commit.owner, change) {
                self.record(commit.event(kind, id), &commit.owner);
            }
        }
        Outcome::Done
    }

    pub(crate) fn page(&self, query: &PageQuery) -> Page {
        let after = query.after.map(|PageCursor { signed_in, id }| (Reverse(signed_in), id));
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
        let Some(session) = self.sessions.get_mut(&touch.id) else { return false };
        session.last_accessed = session.last_accessed.max(touch.last_accessed);
        for ip in &touch.ip_addresses {
            note_ip_address(&mut session.ip_addresses, *ip);
        }
        true
    }

    /// Walks the sessions by their ids, or only these.
    pub(crate) fn end_where(
        &mut self,
        among: Option<&[SessionId]>,
        covers: impl Fn(&Session) -> bool,
        why: &Why,
        after: Option<&Continuation>,
        limit: u32,
    ) -> Result<EndedBatch, StoreError> {
        let after = after.map(parse_continuation).transpose()?;
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
                batch.next = Some(Continuation(session.id.as_bytes().to_vec()));
            }
            if last {
                break;
            }
        }
        drop(walk);
        for Ended { id, owner } in &batch.ended {
            self.remove(*id);
            let (kind, by) = (EventKind::Ended(why.cause), why.by.clone());
            self.record(Event::of_session(kind, why.at, by, owner.clone(), *id), owner);
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

    pub(crate) fn lease(&mut self, name: &str, holder: &str, ttl: Duration) -> bool {
        let now = Instant::now();
        let free =
            self.leases.get(name).is_none_or(|(current, until)| current == holder || *until <= now);
        if free {
            self.leases.insert(name.to_owned(), (holder.to_owned(), now + ttl));
        }
        free
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

    fn owns(&self, owner: &UserKey, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.owner == *owner)
    }

    fn apply(&mut self, owner: &UserKey, change: &Change) -> Option<(EventKind, SessionId)> {
        match change {
            Change::Insert(session) => {
                self.insert(session);
                Some((EventKind::Created, session.id))
            }
            Change::End(id, cause) => {
                let ended = self.owns(owner, *id) && self.remove(*id);
                ended.then_some((EventKind::Ended(*cause), *id))
            }
            Change::ReplaceToken { id, token, authenticated_at } => {
                let session = self.sessions.get_mut(id)?;
                session.token = token.clone();
                session.authenticated_at = authenticated_at.unwrap_or(session.authenticated_at);
                Some((EventKind::Rotated, *id))
            }
            Change::ClaimsChanged(id) => {
                self.owns(owner, *id).then_some((EventKind::ClaimsChanged, *id))
            }
        }
    }

    fn insert(&mut self, session: &Session) {
        self.newest_first.insert((Reverse(session.signed_in), session.id));
        self.users.entry(session.owner.clone()).or_default().sessions.insert(session.id);
        self.sessions.insert(session.id, session.clone());
    }

    fn remove(&mut self, id: SessionId) -> bool {
        let Some(session) = self.sessions.remove(&id) else { return false };
        self.newest_first.remove(&(Reverse(session.signed_in), id));
        if let Some(user) = self.users.get_mut(&session.owner) {
            user.sessions.remove(&id);
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

fn parse_continuation(after: &Continuation) -> Result<SessionId, StoreError> {
    let bytes = after.0.as_slice().try_into();
    bytes.map(SessionId::from_bytes).map_err(|_| Continuation::malformed())
}
