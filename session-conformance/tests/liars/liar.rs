//! A memory store that lies in one respect.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use session_conformance::{Store, async_trait};
use session_core::block::Block;
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::{
    BlockChange, Change, Commit, Cursor, EndMany, Ended, EndedBatch, EndedSession, Entries, Forget,
    HistoryPage, HistoryQuery, Loaded, LogPage, Needs, Outcome, Page, PageQuery, PolicyChange,
    Selection, StoreReport, Sweep, TenantFilter, Touch, UserState, Version,
};
use session_core::{
    Actor, EndCause, Event, ExtraData, FleetKey, Session, SessionId, StoreError, Timestamp, UserId,
    UserKey,
};
use session_store_memory::MemoryStore;

use crate::damaging::Setting;
use crate::fault::Fault;
use crate::remembering::Way;

/// What all connections to one namespace share: the honest store, and the liars' notes.
#[derive(Default)]
pub(crate) struct World {
    store: Mutex<MemoryStore>,
    pub(crate) notes: Mutex<Notes>,
}

#[derive(Default)]
pub(crate) struct Notes {
    /// Sessions as they began.
    pub(crate) begun: BTreeMap<SessionId, Session>,
    /// The same, with what touches said of them.
    pub(crate) touched: BTreeMap<SessionId, Session>,
    pub(crate) ended_by: HashMap<SessionId, Way>,
    /// What was to be the cause of an end, also where it had ended before.
    pub(crate) tried: HashMap<SessionId, EndCause>,
    pub(crate) copies: HashMap<SessionId, Session>,
    pub(crate) conflicts: HashMap<SessionId, EndedSession>,
    /// Sessions that are gone and not remembered yet.
    pub(crate) in_between: HashSet<SessionId>,
    pub(crate) forgotten: HashSet<SessionId>,
    /// Sessions whose records cannot be read.
    pub(crate) damaged: HashSet<SessionId>,
    /// Sessions whose entries of the log cannot be read.
    pub(crate) damaged_entries: HashSet<SessionId>,
    pub(crate) damage_was_read: bool,
    pub(crate) policies_are_locked: bool,
    /// Policies and blocks that cannot be read.
    pub(crate) damaged_settings: HashSet<(Setting, PolicyScope)>,
    /// What the history knows of sessions that live.
    pub(crate) remembered_alive: HashMap<SessionId, EndedSession>,
    pub(crate) blocks: HashMap<PolicyScope, Block>,
    pub(crate) key: Option<FleetKey>,
    pub(crate) clock: Option<Timestamp>,
    /// Records as they were last updated.
    pub(crate) updated: HashMap<SessionId, Session>,
    /// Records as they were before an update that writes them as they were read.
    pub(crate) written: HashMap<SessionId, Session>,
    pub(crate) data: HashMap<SessionId, ExtraData>,
    pub(crate) loads: HashMap<SessionId, Option<Loaded>>,
    pub(crate) absent: HashSet<SessionId>,
    pub(crate) untaken: VecDeque<Option<Loaded>>,
    pub(crate) untaken_blocks: VecDeque<Option<Block>>,
    pub(crate) untaken_ends: VecDeque<Option<EndedSession>>,
    /// The version that stands for another one.
    pub(crate) shown: HashMap<i64, i64>,
    pub(crate) counts: HashMap<UserKey, i64>,
    pub(crate) last: HashMap<Vec<u8>, Event>,
    pub(crate) asked: HashSet<Vec<u8>>,
    pub(crate) hidden: HashSet<SessionId>,
    pub(crate) by_system: HashSet<SessionId>,
    pub(crate) times: VecDeque<Timestamp>,
    pub(crate) skipped: u64,
    pub(crate) trimmed: bool,
    /// What a walk of sweeps saw in its first call, and has not ended yet.
    pub(crate) overdue: Vec<Session>,
    pub(crate) start: Option<Cursor>,
    pub(crate) ended: Vec<Ended>,
    pub(crate) policies: HashMap<UserKey, PolicyLayers>,
    pub(crate) holders: HashMap<String, HashSet<String>>,
    connections: u32,
}

pub(crate) struct Liar {
    pub(crate) fault: Fault,
    pub(crate) world: Arc<World>,
}

impl World {
    pub(crate) fn store(&self) -> MemoryStore {
        self.store.lock().unwrap().clone()
    }

    /// Begins with other content.
    pub(crate) fn replace(&self, store: MemoryStore) {
        *self.store.lock().unwrap() = store;
    }
}

impl Liar {
    pub(crate) async fn new(fault: Fault, world: Arc<World>) -> Self {
        let liar = Self { fault, world };
        let connections = {
            let mut notes = liar.notes();
            notes.connections += 1;
            notes.connections
        };
        let start = liar.store().log_since(None, Entries::All, 0).await.unwrap().next;
        liar.notes().start.get_or_insert(start);
        if fault == Fault::OpeningWipes {
            liar.end_where(Selection::within(TenantFilter::Any)).await;
        }
        if fault == Fault::OpeningForgetsHistory && connections > 1 {
            let noted: HashSet<_> = liar.notes().begun.keys().copied().collect();
            liar.notes().forgotten.extend(noted);
        }
        if fault == Fault::OpeningForgetsBlocks && connections > 1 {
            let scope = PolicyScope::User(UserKey::new("carol".parse().unwrap()));
            let (at, by) = (Timestamp::EPOCH, Actor::System);
            let lift = BlockChange { scope, block: None, at, by };
            liar.store().set_block(&lift).await.unwrap();
        }
        if fault == Fault::OpeningForgetsPolicies && connections > 1 {
            let noted: Vec<_> = liar.notes().begun.values().map(|s| s.owner.clone()).collect();
            for scope in noted.into_iter().map(PolicyScope::User) {
                let (at, by) = (Timestamp::EPOCH, Actor::System);
                let change = PolicyChange { scope, policy: None, at, by };
                liar.store().set_policy(&change).await.unwrap();
            }
        }
        liar
    }

    pub(crate) fn store(&self) -> MemoryStore {
        self.world.store()
    }

    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.world.notes.lock().unwrap()
    }

    /// The key under which this liar keeps a user.
    pub(crate) fn key(&self, owner: &UserKey) -> UserKey {
        let mut key = owner.clone();
        if self.fault == Fault::UsersFoldCase {
            key.user = UserId::new(&key.user.as_str().to_lowercase()).unwrap();
        }
        key
    }

    /// Commits whatever the version.
    pub(crate) async fn force(&self, owner: &UserKey, changes: Vec<Change>) -> Outcome {
        for _ in 0..100 {
            let expected = self.version(owner).await;
            let (at, by) = (Timestamp::EPOCH, Actor::System);
            let commit = Commit {
                owner: owner.clone(),
                expected,
                changes: changes.clone(),
                at,
                by,
                from: None,
            };
            if self.store().commit(&commit).await.unwrap() == Outcome::Done {
                return Outcome::Done;
            }
            tokio::task::yield_now().await;
        }
        Outcome::Conflict
    }

    pub(crate) async fn version(&self, owner: &UserKey) -> Version {
        self.store().user(owner).await.unwrap().version
    }

    pub(crate) async fn find(&self, id: SessionId) -> Option<Session> {
        self.store().load(id).await.unwrap().map(|loaded| loaded.session)
    }

    /// Every session that is there.
    pub(crate) async fn alive(&self) -> Vec<Session> {
        let noted: Vec<_> = self.notes().begun.keys().copied().collect();
        let mut alive = Vec::new();
        for id in noted {
            alive.extend(self.find(id).await);
        }
        alive
    }

    pub(crate) async fn bring_back(&self, id: SessionId) {
        let noted = self.notes().begun.get(&id).cloned();
        if let Some(session) = noted {
            let owner = session.owner.clone();
            // An id that the history knows does not come back.
            self.store().forget(&Forget::User(owner.clone()), u32::MAX).await.unwrap();
            self.force(&owner, vec![Change::Insert(Box::new(session))]).await;
        }
    }

    pub(crate) async fn end(&self, id: SessionId, cause: EndCause) -> Vec<Ended> {
        let (at, by) = (Timestamp::EPOCH, Actor::System);
        let selection = Selection::session(id, TenantFilter::Any);
        let end = EndMany { selection, after: None, cause, at, by, from: None };
        self.store().end_many(&end, 1).await.unwrap().ended
    }

    pub(crate) async fn end_where(&self, selection: Selection) -> Vec<Ended> {
        let (cause, at, by) = (EndCause::Revoked, Timestamp::EPOCH, Actor::System);
        let end = EndMany { selection, after: None, cause, at, by, from: None };
        self.store().end_many(&end, u32::MAX).await.unwrap().ended
    }

    /// Answers what was asked first and not taken, as a connection does on which nobody read.
    pub(crate) async fn answer_the_last_one<T>(
        &self,
        untaken: impl Fn(&mut Notes) -> &mut VecDeque<Option<T>>,
        answer: Option<T>,
    ) -> Option<T> {
        untaken(&mut self.notes()).push_back(answer);
        tokio::task::yield_now().await;
        untaken(&mut self.notes()).pop_front().flatten()
    }

    /// A memory store never waits; lets the others come in between.
    pub(crate) async fn dawdle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Store for Liar {
    fn session_id(&self, owner: &UserKey, at: Timestamp, mut random: [u8; 16]) -> SessionId {
        if self.fault == Fault::IdsAreShort {
            random[4..].fill(7);
        }
        self.store().session_id(owner, at, random)
    }

    fn configure(&self, needs: &Needs) {
        let mut needs = needs.clone();
        if self.fault == Fault::HistoryCannotBeSwitchedOff {
            needs.history = needs.history.max(Duration::from_secs(3600));
        }
        self.store().configure(&needs);
    }

    async fn fleet_key(&self, proposed: &FleetKey) -> Result<FleetKey, StoreError> {
        self.lie_in_fleet_key(proposed).await
    }

    async fn user(&self, owner: &UserKey) -> Result<UserState, StoreError> {
        let settings = [Setting::Policy, Setting::Block];
        self.settings_are_readable(&settings, &PolicyScope::of(owner))?;
        self.lie_in_user(owner).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        let ends = commit.changes.iter().filter_map(|change| match change {
            Change::End(id, cause) => Some((*id, *cause)),
            _ => None,
        });
        let (ids, causes): (Vec<_>, Vec<_>) = ends.unzip();
        let cause = causes.first().copied().unwrap_or(EndCause::Revoked);
        self.can_end(&ids)?;
        self.before_ends(&ids, Way::Commit, cause).await;
        let outcome = self.lie_in_commit(commit.clone()).await?;
        self.after_ends(&ids, Way::Commit).await;
        self.note_conflict(commit, outcome).await;
        Ok(outcome)
    }

    async fn load(&self, id: SessionId) -> Result<Option<Loaded>, StoreError> {
        self.readable(self.lie_in_load(id).await?)
    }

    async fn ended(&self, id: SessionId) -> Result<Option<EndedSession>, StoreError> {
        self.readable_end(self.lie_in_ended(id).await?)
    }

    async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.readable_history(self.lie_in_history(query.clone()).await?)
    }

    async fn forget(&self, forget: &Forget, limit: u32) -> Result<u32, StoreError> {
        self.stumbles(Fault::DamageStopsForgetting)?;
        self.lie_in_forget(forget.clone(), limit).await
    }

    async fn page(&self, query: &PageQuery) -> Result<Page, StoreError> {
        self.readable_page(self.lie_in_page(query.clone()).await?)
    }

    async fn touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        self.stumbles(Fault::DamageStopsTouches)?;
        let touched: Vec<_> = batch.iter().map(|touch| touch.id).collect();
        let mut gone = self.lie_in_touch(batch).await?;
        gone.extend(self.gone_by_damage(&touched));
        Ok(gone)
    }

    async fn end_many(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        self.stumbles(Fault::DamageStopsEndMany)?;
        let before = self.versions().await;
        let ids = end.selection.ids.clone().unwrap_or_default();
        self.can_end(&ids)?;
        self.before_ends(&ids, Way::Selection, end.cause).await;
        let batch = self.lie_in_end_many(end.clone(), limit).await?;
        self.note_versions(before, Fault::EndManyKeepsVersions).await;
        self.note_ended(&batch, Way::Selection).await;
        Ok(self.told_of(batch))
    }

    async fn sweep(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        self.stumbles(Fault::DamageStopsSweeps)?;
        let before = self.versions().await;
        let batch = self.lie_in_sweep(sweep.clone(), limit).await?;
        self.note_versions(before, Fault::SweepKeepsVersions).await;
        self.note_ended(&batch, Way::Sweep).await;
        Ok(batch)
    }

    async fn log_since(
        &self,
        cursor: Option<&Cursor>,
        entries: Entries,
        limit: u32,
    ) -> Result<LogPage, StoreError> {
        self.readable_log(self.lie_in_log(cursor, entries, limit).await?)
    }

    async fn changed(&self) {
        match self.fault {
            Fault::PushIsSilent => std::future::pending().await,
            Fault::PushIsOfEndsOnly => {
                while {
                    self.store().changed().await;
                    !self.ends_with_an_end().await
                } {}
            }
            _ => self.store().changed().await,
        }
    }

    fn pushes(&self) -> bool {
        true
    }

    fn expects_pushes(&self) -> bool {
        self.fault != Fault::PushIsUnexpected
    }

    async fn trim_log(&self, older_than: Duration, limit: u32) -> Result<u32, StoreError> {
        self.lie_in_trim(older_than, limit).await
    }

    async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.lie_in_lease(name, holder, ttl).await
    }

    async fn policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, StoreError> {
        let readable = self.settings_are_readable(&[Setting::Policy], slice::from_ref(scope))?;
        Ok(self.store().policy(scope).await?.filter(|_| readable))
    }

    async fn set_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        self.lie_in_set_policy(change.clone()).await?;
        self.notes().damaged_settings.remove(&(Setting::Policy, change.scope.clone()));
        Ok(())
    }

    async fn block(&self, scope: &PolicyScope) -> Result<Option<Block>, StoreError> {
        let readable = self.settings_are_readable(&[Setting::Block], slice::from_ref(scope))?;
        Ok(self.lie_in_block(scope).await?.filter(|_| readable))
    }

    async fn set_block(&self, change: &BlockChange) -> Result<(), StoreError> {
        self.lie_in_set_block(change.clone()).await?;
        self.notes().damaged_settings.remove(&(Setting::Block, change.scope.clone()));
        Ok(())
    }

    async fn report(&self) -> Result<StoreReport, StoreError> {
        let mut report = self.store().report().await?;
        match self.fault {
            Fault::ReportsHaveNoClock => report.clock = Timestamp::EPOCH,
            Fault::ReportsHaveNoLog => report.log_from = None,
            _ => {}
        }
        Ok(report)
    }
}

/// The clock of a memory store.
pub(crate) fn host_clock() -> Timestamp {
    Timestamp::EPOCH.plus(SystemTime::UNIX_EPOCH.elapsed().unwrap())
}
