//! Lies about changes, versions and write-backs.

use std::collections::HashSet;

use session_core::store::{Change, Commit, Forget, Outcome, Touch, Version};
use session_core::{EventKind, Session, SessionId, Store, StoreError, UserKey};

use crate::fault::Fault;
use crate::liar::Liar;

impl Liar {
    pub(crate) async fn lie_in_commit(&self, mut commit: Commit) -> Result<Outcome, StoreError> {
        commit.owner = self.key(&commit.owner);
        commit.changes.iter_mut().for_each(|change| self.alter(change));
        if let Some(outcome) = self.lie_about_limits(&commit).await {
            return outcome;
        }
        if let Some(outcome) = self.refuses(&commit).await {
            return Ok(outcome);
        }
        if let Some(outcome) = self.meets_a_block(&commit).await {
            return Ok(outcome);
        }
        if let Some(outcome) = self.meets_damage(&commit).await {
            return outcome;
        }
        if self.fault == Fault::EndedIdsComeBack {
            for id in commit.changes.iter().filter_map(inserted) {
                if let Some(ended) = self.store().ended(id).await? {
                    let forget = Forget::User(ended.session.owner);
                    self.store().forget(&forget, u32::MAX).await?;
                }
            }
        }
        self.note(&commit);
        let before = self.version(&commit.owner).await;
        let honest = commit.clone();
        if self.shown(before) == commit.expected {
            commit.expected = before;
        } else if self.notes().shown.contains_key(&before.0) {
            return Ok(Outcome::Conflict);
        }
        let as_read = match (self.fault, honest.changes.as_slice()) {
            (Fault::UpdateWritesTheRecord, [Change::Update { session, .. }]) => {
                self.reads_first(session.id).await
            }
            _ => None,
        };
        let outcome = match self.lie_in_changes(&mut commit).await {
            Some(outcome) => outcome,
            None => self.store().commit(&commit).await?,
        };
        if self.fault == Fault::UpdateWritesTheRecord && outcome == Outcome::Done {
            self.notes().written.extend(as_read.map(|session| (session.id, session)));
        }
        let about = match honest.changes.as_slice() {
            [Change::Update { .. }] => Fault::UpdateKeepsVersion,
            [Change::ClaimsChanged(_)] => Fault::ClaimsKeepVersion,
            _ => Fault::None,
        };
        self.note_versions(vec![(commit.owner, before)], about).await;
        Ok(outcome)
    }

    /// Makes of a change what this liar writes.
    fn alter(&self, change: &mut Change) {
        match change {
            Change::Insert(session) => **session = self.altered((**session).clone()),
            Change::Update { session, kind } => {
                session.owner = self.key(&session.owner);
                match self.fault {
                    Fault::UpdateDropsUnknown => session.unknown.clear(),
                    Fault::UpdateDropsRetired => session.token.retired = None,
                    Fault::UpdateForgetsProof => {
                        let begun = self.notes().begun.get(&session.id).cloned();
                        let begun = begun.map(|begun| begun.authentication);
                        session.authentication = begun.unwrap_or_default();
                    }
                    Fault::UpdatesAreRotations => *kind = EventKind::Rotated,
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// The record as it is some time before it is written.
    async fn reads_first(&self, id: SessionId) -> Option<Session> {
        let as_read = self.find(id).await;
        self.dawdle().await;
        as_read
    }

    async fn lie_about_limits(&self, commit: &Commit) -> Option<Result<Outcome, StoreError>> {
        let count = commit.changes.len();
        if self.fault == Fault::LargestCommitFails && count == Commit::MAX_CHANGES {
            return Some(Err(StoreError::internal("too many changes")));
        }
        commit.check().err()?;
        let mut seen = HashSet::new();
        let of = |change: &Change| match change {
            Change::Insert(session) | Change::Update { session, .. } => session.owner.clone(),
            _ => commit.owner.clone(),
        };
        let foreign = commit.changes.iter().any(|change| of(change) != commit.owner);
        let twice = commit.changes.iter().any(|change| !seen.insert(change.session()));
        let takes = match self.fault {
            Fault::CommitTakesTooMany => count > Commit::MAX_CHANGES,
            Fault::CommitTakesASessionTwice => twice,
            Fault::CommitTakesForeignSessions => foreign,
            _ => false,
        };
        if !takes {
            return None;
        }
        for change in &commit.changes {
            self.force(&of(change), vec![change.clone()]).await;
        }
        Some(Ok(Outcome::Done))
    }

    async fn lie_in_changes(&self, commit: &mut Commit) -> Option<Outcome> {
        let known = match commit.changes.iter().find_map(inserted) {
            Some(id) => self.find(id).await.map(|session| session.owner),
            None => None,
        };
        let own = known.as_ref() == Some(&commit.owner);
        let late = self.version(&commit.owner).await != commit.expected;
        match self.fault {
            Fault::CommitIgnoresVersion => {
                Some(self.force(&commit.owner.clone(), commit.changes.clone()).await)
            }
            Fault::ChangedDataIgnoresVersion if is_of_data(commit) => {
                Some(self.force(&commit.owner.clone(), commit.changes.clone()).await)
            }
            Fault::CommitInPart | Fault::UpdateResurrects => Some(self.half_fails(commit).await),
            Fault::CommitInSteps => Some(self.in_steps(commit).await),
            Fault::CommitReorders => {
                commit.changes.reverse();
                None
            }
            Fault::CommitTwiceIsDone if own && late => Some(Outcome::Done),
            Fault::InsertTwiceIsDone if own && !late => Some(Outcome::Done),
            Fault::InsertTakesFromOthers if known.is_some() && !own => Some(Outcome::Done),
            _ => self.lie_change_by_change(commit).await,
        }
    }

    async fn half_fails(&self, commit: &mut Commit) -> Outcome {
        let outcome = self.store().commit(commit).await.unwrap();
        if outcome == Outcome::Done {
            return outcome;
        }
        if self.fault == Fault::UpdateResurrects {
            if let [Change::Update { session, .. }] = commit.changes.as_slice() {
                self.bring_back(session.id).await;
            }
        } else if self.version(&commit.owner).await == commit.expected {
            commit.changes.truncate(1);
            self.store().commit(commit).await.unwrap();
        }
        outcome
    }

    async fn in_steps(&self, commit: &mut Commit) -> Outcome {
        for change in std::mem::take(&mut commit.changes) {
            commit.changes = vec![change];
            if self.store().commit(commit).await.unwrap() == Outcome::Conflict {
                return Outcome::Conflict;
            }
            tokio::task::yield_now().await;
            commit.expected = self.version(&commit.owner).await;
        }
        Outcome::Done
    }

    async fn lie_change_by_change(&self, commit: &mut Commit) -> Option<Outcome> {
        for (n, change) in commit.changes.clone().into_iter().enumerate() {
            let found = self.find(change.session()).await;
            let foreign = found.as_ref().is_some_and(|session| session.owner != commit.owner);
            let missed = found.is_none() || foreign;
            let id = change.session();
            match (self.fault, &change) {
                (Fault::CommitCrossesUsers, Change::End(_, cause)) => {
                    self.end(id, *cause).await;
                    commit.expected = self.version(&commit.owner).await;
                }
                (Fault::PassedOverIsAConflict, Change::End(..)) if missed => {
                    return Some(Outcome::Conflict);
                }
                (Fault::ClaimsOfGoneAreAConflict, Change::ClaimsChanged(_)) if missed => {
                    return Some(Outcome::Conflict);
                }
                (Fault::PassedOverIsTold, Change::End(..)) if found.is_none() => {
                    self.bring_back(id).await;
                    commit.expected = self.version(&commit.owner).await;
                }
                (Fault::PassedOverRaisesVersion, Change::End(..)) if foreign => {
                    let shown = self.shown(commit.expected).0;
                    self.notes().shown.insert(commit.expected.0, shown + 1_000_000);
                }
                (Fault::PassedOverStopsTheRest, Change::End(..)) if missed => {
                    commit.changes.truncate(n + 1);
                    return None;
                }
                (Fault::UpdateCrossesUsers, Change::Update { session, kind }) if foreign => {
                    let owner = found.unwrap().owner;
                    let session = Session { owner: owner.clone(), ..(**session).clone() };
                    let change = Change::Update { session: Box::new(session), kind: *kind };
                    return Some(self.force(&owner, vec![change]).await);
                }
                (Fault::UpdateOfGoneIsDone, Change::Update { .. }) if found.is_none() => {
                    return Some(Outcome::Done);
                }
                (Fault::UpdatesAreLost, Change::Update { kind: EventKind::Rotated, .. })
                | (Fault::ChangesAreLost, Change::Update { kind: EventKind::Changed, .. }) => {
                    return Some(self.force(&commit.owner.clone(), commit.changes.clone()).await);
                }
                (Fault::UpdateLooksFirst, Change::Update { .. }) => {
                    if self.version(&commit.owner).await != commit.expected {
                        return Some(Outcome::Conflict);
                    }
                    self.dawdle().await;
                    return Some(self.force(&commit.owner.clone(), commit.changes.clone()).await);
                }
                _ => {}
            }
        }
        None
    }

    fn note(&self, commit: &Commit) {
        let mut notes = self.notes();
        for change in &commit.changes {
            notes.times.push_back(commit.at);
            match change {
                Change::Insert(session) => {
                    notes.begun.entry(session.id).or_insert((**session).clone());
                    notes.touched.entry(session.id).or_insert((**session).clone());
                }
                Change::Update { session, .. } => {
                    notes.data.extend(session.data.clone().map(|data| (session.id, data)));
                    notes.updated.insert(session.id, (**session).clone());
                }
                Change::End(..) | Change::ClaimsChanged(_) => {}
            }
        }
    }

    /// The version as this liar answers it.
    pub(crate) fn shown(&self, version: Version) -> Version {
        Version(self.notes().shown.get(&version.0).copied().unwrap_or(version.0))
    }

    /// Every user's version, for the faults that keep some.
    pub(crate) async fn versions(&self) -> Vec<(UserKey, Version)> {
        let keeps =
            [Fault::EndManyKeepsVersions, Fault::SweepKeepsVersions, Fault::VersionsStartAgain];
        if !keeps.contains(&self.fault) {
            return Vec::new();
        }
        let owners: HashSet<_> = self.notes().begun.values().map(|s| s.owner.clone()).collect();
        let mut versions = Vec::new();
        for owner in owners {
            let version = self.version(&owner).await;
            versions.push((owner, version));
        }
        versions
    }

    /// Notes what a call, of the kind that this fault is about, makes of the versions before it.
    pub(crate) async fn note_versions(&self, before: Vec<(UserKey, Version)>, about: Fault) {
        for (owner, before) in before {
            let state = self.store().user(&owner).await.unwrap();
            if state.version == before {
                continue;
            }
            let kept = self.shown(before);
            let mut notes = self.notes();
            if self.fault == about && about != Fault::None {
                notes.shown.insert(state.version.0, kept.0);
            }
            if self.fault == Fault::VersionsStartAgain {
                let count = notes.counts.entry(owner).or_default();
                *count = if state.sessions.is_empty() { 0 } else { *count + 1 };
                let count = *count;
                notes.shown.insert(state.version.0, count);
            }
        }
    }

    pub(crate) async fn lie_in_touch(&self, batch: &[Touch]) -> Result<Vec<SessionId>, StoreError> {
        let mut gone = Vec::new();
        match self.fault {
            Fault::BlocksStopTouches if !self.notes().blocks.is_empty() => {}
            Fault::TouchTakesTooMany => {
                for part in batch.chunks(Touch::MAX_BATCH) {
                    gone.extend(self.store().touch(part).await?);
                }
            }
            Fault::TouchTakesOneOfTwo => {
                let mut seen = HashSet::new();
                let last = batch.iter().rev().filter(|touch| seen.insert(touch.id)).cloned();
                gone = self.store().touch(&last.collect::<Vec<_>>()).await?;
            }
            Fault::TouchWritesTheRecord => {
                let as_read = self.reads_first(batch[0].id).await;
                gone = self.store().touch(batch).await?;
                self.writes_back(as_read).await;
            }
            _ => gone = self.store().touch(batch).await?,
        }
        batch.iter().for_each(|touch| _ = self.notes().written.remove(&touch.id));
        for touch in batch {
            if let Some(session) = self.notes().touched.get_mut(&touch.id) {
                session.last_accessed = touch.last_accessed;
                session.deadline = touch.deadline;
                session.claimed = touch.claimed;
                session.ip_addresses.clone_from(&touch.ip_addresses);
            }
        }
        match self.fault {
            Fault::TouchFindsEverything => return Ok(Vec::new()),
            Fault::TouchAnswersTwice => {
                gone = batch.iter().map(|t| t.id).filter(|id| gone.contains(id)).collect();
            }
            Fault::TouchResurrects => {
                for id in &gone {
                    self.bring_back(*id).await;
                }
            }
            Fault::TouchIsTold => {
                for touch in batch {
                    if let Some(session) = self.find(touch.id).await {
                        let told = vec![Change::ClaimsChanged(session.id)];
                        self.force(&session.owner, told).await;
                    }
                }
            }
            _ => {}
        }
        Ok(gone)
    }
}

impl Liar {
    /// Replaces a record that has changed since it was read.
    async fn writes_back(&self, as_read: Option<Session>) {
        let Some(as_read) = as_read else { return };
        if self.find(as_read.id).await.is_some_and(|found| found.token != as_read.token) {
            let (owner, kind) = (as_read.owner.clone(), EventKind::Rotated);
            self.force(&owner, vec![Change::Update { session: Box::new(as_read), kind }]).await;
        }
    }
}

fn inserted(change: &Change) -> Option<SessionId> {
    if let Change::Insert(session) = change { Some(session.id) } else { None }
}

/// Whether it changes nothing but a session's data.
fn is_of_data(commit: &Commit) -> bool {
    matches!(&commit.changes[..], [Change::Update { kind: EventKind::Changed, .. }])
}
