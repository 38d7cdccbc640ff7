//! A memory store that lies in one respect.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::{
    Change, Commit, Cursor, EndMany, Ended, EndedBatch, Entries, Loaded, LogPage, Outcome, Page,
    PageCursor, PageQuery, PolicyChange, Selection, StoreReport, Sweep, TenantFilter, Touch,
    UserState,
};
use session_core::{
    Actor, DeviceInfo, EndCause, Event, EventKind, Session, SessionId, Store, StoreError,
    Timestamp, UserId, UserKey,
};
use session_store_memory::MemoryStore;

use crate::fault::Fault;

/// What all connections to one namespace share: the honest store, and the liars' notes.
#[derive(Default)]
pub(crate) struct World {
    store: MemoryStore,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    sessions: BTreeMap<SessionId, Session>,
    loads: HashMap<SessionId, Option<Loaded>>,
    untaken: VecDeque<Option<Loaded>>,
    last: HashMap<Vec<u8>, Event>,
    asked: HashSet<Vec<u8>>,
    hidden: HashSet<SessionId>,
    policies: HashMap<UserKey, PolicyLayers>,
    holders: HashMap<String, HashSet<String>>,
    skipped: u64,
}

pub(crate) struct Liar {
    fault: Fault,
    world: Arc<World>,
}

impl Liar {
    pub(crate) async fn new(fault: Fault, world: Arc<World>) -> Self {
        if fault == Fault::OpeningWipes {
            let everything = EndMany {
                selection: Selection::within(TenantFilter::Any),
                after: None,
                cause: EndCause::Revoked,
                at: Timestamp::EPOCH,
                by: Actor::System,
            };
            world.store.end_many(&everything, u32::MAX).await.unwrap();
        }
        Self { fault, world }
    }

    fn store(&self) -> &MemoryStore {
        &self.world.store
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.world.notes.lock().unwrap()
    }

    /// The key under which this liar keeps a user.
    fn key(&self, owner: &UserKey) -> UserKey {
        let mut key = owner.clone();
        if self.fault == Fault::UsersFoldCase {
            key.user = UserId::new(&key.user.as_str().to_lowercase()).unwrap();
        }
        key
    }

    fn altered(&self, mut session: Session) -> Session {
        session.owner = self.key(&session.owner);
        if self.fault == Fault::FieldsAreCut {
            let cut = |info: DeviceInfo| {
                DeviceInfo::truncated(&info.as_str()[..info.as_str().len().min(254)])
            };
            session.device_info = session.device_info.and_then(cut);
        }
        session
    }

    /// Commits whatever the version.
    async fn force(&self, owner: &UserKey, changes: Vec<Change>) -> Outcome {
        for _ in 0..100 {
            let expected = self.store().user(owner).await.unwrap().version;
            let (at, by) = (Timestamp::EPOCH, Actor::System);
            let owner = owner.clone();
            let commit = Commit { owner, expected, changes: changes.clone(), at, by };
            if self.store().commit(&commit).await.unwrap() == Outcome::Done {
                return Outcome::Done;
            }
            tokio::task::yield_now().await;
        }
        Outcome::Conflict
    }

    fn note(&self, changes: &[Change]) {
        for change in changes {
            if let Change::Insert(session) = change {
                self.notes().sessions.insert(session.id, (**session).clone());
            }
        }
    }

    async fn bring_back(&self, id: SessionId) {
        let noted = self.notes().sessions.get(&id).cloned();
        if let Some(session) = noted {
            let owner = session.owner.clone();
            self.force(&owner, vec![Change::Insert(Box::new(session))]).await;
        }
    }

    async fn end(&self, id: SessionId, cause: EndCause) -> Vec<Ended> {
        let selection = Selection::session(id, TenantFilter::Any);
        let (at, by) = (Timestamp::EPOCH, Actor::System);
        let end = EndMany { selection, after: None, cause, at, by };
        self.store().end_many(&end, 1).await.unwrap().ended
    }

    async fn lie_in_commit(&self, commit: &mut Commit) -> Option<Outcome> {
        match self.fault {
            Fault::CommitIgnoresVersion => {
                Some(self.force(&commit.owner.clone(), commit.changes.clone()).await)
            }
            Fault::CommitInPart => {
                let outcome = self.store().commit(commit).await.unwrap();
                let user = self.store().user(&commit.owner).await.unwrap();
                if outcome == Outcome::Conflict && user.version == commit.expected {
                    commit.changes.truncate(1);
                    self.store().commit(commit).await.unwrap();
                }
                Some(outcome)
            }
            Fault::CommitInSteps => {
                let all = std::mem::take(&mut commit.changes);
                for change in all {
                    commit.changes = vec![change];
                    if self.store().commit(commit).await.unwrap() == Outcome::Conflict {
                        return Some(Outcome::Conflict);
                    }
                    tokio::task::yield_now().await;
                    commit.expected = self.store().user(&commit.owner).await.unwrap().version;
                }
                Some(Outcome::Done)
            }
            Fault::CommitCrossesUsers => {
                for change in &commit.changes {
                    if let Change::End(id, cause) = change {
                        self.end(*id, *cause).await;
                        let owner = &commit.owner;
                        commit.expected = self.store().user(owner).await.unwrap().version;
                    }
                }
                None
            }
            Fault::RotationResurrects => {
                let outcome = self.store().commit(commit).await.unwrap();
                if let (Outcome::Conflict, [Change::ReplaceToken { id, .. }]) =
                    (outcome, commit.changes.as_slice())
                {
                    self.bring_back(*id).await;
                }
                Some(outcome)
            }
            _ => None,
        }
    }
}

#[async_trait]
impl Store for Liar {
    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        let mut state = self.store().user(&self.key(owner)).await?;
        // A memory store never waits; let the others come in between.
        tokio::task::yield_now().await;
        match self.fault {
            Fault::UserLeaksTenants => {
                let noted = self.notes().sessions.clone();
                for session in noted.values().filter(|s| s.owner.user == owner.user) {
                    let known = state.sessions.iter().any(|known| known.id == session.id);
                    if !known && self.store().load(session.id).await?.is_some() {
                        state.sessions.push(session.into());
                    }
                }
            }
            Fault::PoliciesAreStale => {
                let current = state.policies.clone();
                state.policies =
                    self.notes().policies.entry(owner.clone()).or_insert(current).clone();
            }
            Fault::PoliciesCrossTenants => {
                let north = UserKey::in_tenant("north".parse().unwrap(), owner.user.clone());
                state.policies.user = self.store().user(&north).await?.policies.user;
            }
            _ => {}
        }
        Ok(state)
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        let mut commit = commit.clone();
        commit.owner = self.key(&commit.owner);
        for change in &mut commit.changes {
            if let Change::Insert(session) = change {
                **session = self.altered((**session).clone());
                session.owner = commit.owner.clone();
            }
        }
        self.note(&commit.changes);
        match self.lie_in_commit(&mut commit).await {
            Some(outcome) => Ok(outcome),
            None => self.store().commit(&commit).await,
        }
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        let loaded = self.store().load(id).await?;
        if self.fault == Fault::LoadAnswersTheLastOne {
            self.notes().untaken.push_back(loaded);
            tokio::task::yield_now().await;
            return Ok(self.notes().untaken.pop_front().flatten());
        }
        let mut notes = self.notes();
        if self.fault == Fault::LoadIsStale {
            return Ok(notes.loads.entry(id).or_insert(loaded).clone());
        }
        let lied = notes.sessions.get(&id);
        Ok(loaded.map(|mut loaded| {
            match (self.fault, lied) {
                (Fault::TouchMovesBack, Some(lied)) => {
                    loaded.session.last_accessed = lied.last_accessed;
                }
                (Fault::TouchReplacesAddresses, Some(lied)) => {
                    loaded.session.ip_addresses.clone_from(&lied.ip_addresses);
                }
                _ => {}
            }
            loaded
        }))
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        let mut query = query.clone();
        match (self.fault, query.after) {
            (Fault::PageRepeats, Some(after)) => {
                let before = after.signed_in.plus(Duration::from_micros(1));
                query.after = Some(PageCursor { signed_in: before, id: after.id });
            }
            (Fault::PageSkipsTies, Some(after)) => {
                let id = SessionId::from_bytes([0xff; 16]);
                query.after = Some(PageCursor { id, ..after });
            }
            (Fault::PageCountsOffsets, after) => {
                let seen = after.map_or(0, |after| after.signed_in.as_micros());
                let limit = query.limit;
                query.after = None;
                query.limit = PageQuery::MAX_LIMIT;
                let mut all = self.store().page(&query).await?.sessions;
                let rest = all.split_off(all.len().min(usize::try_from(seen).unwrap()));
                let mut page = Page::cut(rest, limit);
                page.next = page.next.map(|next| PageCursor {
                    signed_in: Timestamp::from_micros(seen + i64::from(limit)),
                    ..next
                });
                return Ok(page);
            }
            (Fault::PageCrossesTenants, _) => query.tenant = TenantFilter::Any,
            (Fault::PageListsExpired, _) => query.now = Timestamp::EPOCH,
            _ => {}
        }
        self.store().page(&query).await
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        let gone = self.store().touch(batch).await?;
        for touch in batch {
            let mut notes = self.notes();
            if let Some(session) = notes.sessions.get_mut(&touch.id) {
                session.last_accessed = touch.last_accessed;
                session.ip_addresses.clone_from(&touch.ip_addresses);
            }
        }
        match self.fault {
            Fault::TouchFindsEverything => return Ok(Vec::new()),
            Fault::TouchResurrects => {
                for id in &gone {
                    self.bring_back(*id).await;
                }
            }
            _ => {}
        }
        Ok(gone)
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        let mut end = end.clone();
        end.selection.user = end.selection.user.map(|user| self.key(&UserKey::new(user)).user);
        match self.fault {
            Fault::EndCrossesTenants => end.selection.tenant = TenantFilter::Any,
            Fault::EndSparesNobody => end.selection.except = None,
            _ => {}
        }
        let limit = if self.fault == Fault::EndIgnoresLimit { u32::MAX } else { limit };
        let ended = self.store().end_many(&end, limit).await?;
        if self.fault == Fault::LogMissesEnds {
            self.notes().hidden.extend(ended.ended.iter().map(|ended| ended.id));
        }
        Ok(ended)
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        if self.fault != Fault::SweepDoesNotLookAgain {
            return self.store().sweep(sweep, limit).await;
        }
        let rule = &sweep.rule;
        let noted = self.notes().sessions.clone();
        let mut ended = Vec::new();
        for session in noted.values() {
            // Last accessed as it was at sign-in: touches are looked up too late.
            let used = session.signed_in.minus(Duration::from_secs(1));
            if rule.covers(used, session.absolute_expiry) && ended.len() < limit as usize {
                ended.extend(self.end(session.id, EndCause::Expired).await);
            }
        }
        Ok(EndedBatch { ended, next: None })
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        let mut page = self.store().log_since(cursor, entries, limit).await?;
        let mut notes = self.notes();
        match self.fault {
            Fault::LogSkips if page.events.len() > 1 => {
                notes.skipped += 1;
                if notes.skipped == 3 {
                    page.events.remove(0);
                }
            }
            Fault::LogRepeats => {
                let before = cursor.and_then(|cursor| notes.last.get(&cursor.0).cloned());
                if let Some(last) = page.events.last() {
                    notes.last.insert(page.next.0.clone(), last.clone());
                    page.events.splice(0..0, before);
                    page.events.truncate(limit as usize);
                }
            }
            Fault::LogLags => {
                if let Some(cursor) = cursor.filter(|cursor| notes.asked.insert(cursor.0.clone())) {
                    page.events.clear();
                    page.next = cursor.clone();
                    page.more = false;
                }
            }
            Fault::LogReorders => page.events.reverse(),
            Fault::LogHidesGaps => page.gap = false,
            // The kit's own readers ask for short pages.
            Fault::GapsAreHiddenFromNodes if limit > 100 => page.gap = false,
            Fault::LogMissesEnds => page.events.retain(|event| {
                let hidden = event.session.is_some_and(|id| notes.hidden.contains(&id));
                !(hidden && matches!(event.kind, EventKind::Ended(_)))
            }),
            _ => {}
        }
        Ok(page)
    }

    async fn changed(&self) {
        self.store().changed().await;
    }

    async fn trim_log(&self, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        let trimmed = self.store().trim_log(before, limit).await?;
        let all = self.fault == Fault::TrimTakesAll && trimmed < limit;
        Ok(if all { trimmed + 1 } else { trimmed })
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        let ttl = if self.fault == Fault::LeaseNeverEnds { ttl * 1000 } else { ttl };
        let got = self.store().lease(name, holder, ttl).await?;
        let mut notes = self.notes();
        let holders = notes.holders.entry(name.to_owned()).or_default();
        let late = !got && holders.contains(holder);
        if got {
            holders.insert(holder.to_owned());
        }
        Ok(match self.fault {
            Fault::LeaseForEverybody => true,
            Fault::LeaseForLateHolders => got || late,
            _ => got,
        })
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        self.store().policy(scope).await
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        if let (Fault::PoliciesAreStale, PolicyScope::User(owner)) = (self.fault, &change.scope) {
            let state = self.store().user(owner).await?;
            self.notes().policies.entry(owner.clone()).or_insert(state.policies);
        }
        self.store().set_policy(change).await
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        self.store().report().await
    }
}
