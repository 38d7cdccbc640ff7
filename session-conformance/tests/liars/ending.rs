//! Lies about what ends.

use std::collections::HashSet;
use std::time::Duration;

use session_core::store::{
    Continuation, EndMany, Ended, EndedBatch, PageCursor, Selection, Sweep, TenantFilter,
};
use session_core::{EndCause, Session, SessionId, Store, StoreError, Timestamp, UserKey};

use crate::fault::Fault;
use crate::liar::{Liar, host_clock};
use crate::remembering::Way;

impl Liar {
    pub(crate) async fn lie_in_end_many(
        &self,
        mut end: EndMany,
        mut limit: u32,
    ) -> Result<EndedBatch, StoreError> {
        let selection = &mut end.selection;
        selection.user = selection.user.take().map(|user| self.key(&UserKey::new(user)).user);
        if let Some(batch) = self.instead_of_end_many(&end, limit).await {
            return batch;
        }
        self.change_end(&mut end, &mut limit);
        let batch = match (self.fault, self.store().end_many(&end, limit).await) {
            (Fault::MalformedEndsAreOver, Err(_)) => EndedBatch::default(),
            (Fault::FarEndsAreOver, Err(_)) if is_far(end.after.as_ref()) => EndedBatch::default(),
            (Fault::MalformedEndsBeginAgain, Err(_)) => {
                end.after = None;
                self.store().end_many(&end, limit).await?
            }
            (_, batch) => batch?,
        };
        Ok(self.change_ended(batch, end).await)
    }

    async fn instead_of_end_many(
        &self,
        end: &EndMany,
        limit: u32,
    ) -> Option<Result<EndedBatch, StoreError>> {
        let by_use = end.selection.last_accessed_before.is_some();
        Some(Ok(match self.fault {
            Fault::EndOfNoneIsTheEnd if limit == 0 => EndedBatch::default(),
            Fault::EndTakesTooMany => self.end_without_a_most(end.clone(), limit).await,
            Fault::EndTakesTooManyIds => return Some(self.end_in_parts(end.clone(), limit).await),
            Fault::EndLimitsFirst => self.end_limited_first(end, limit).await,
            Fault::EndCountsOffsets => self.end_by_offset(end, limit).await,
            Fault::EndLooksFirst if by_use => self.end_selected(end, limit).await,
            Fault::EndTellsOthers => self.end_selected(end, limit).await,
            Fault::EndGoesByOldUse if by_use => {
                let mut chosen = self.alive().await;
                let old = self.notes().begun.clone();
                chosen.retain(|session| end.selection.covers(&old[&session.id]));
                self.end_all_of(chosen, limit, end.cause).await
            }
            _ => return None,
        }))
    }

    fn change_end(&self, end: &mut EndMany, limit: &mut u32) {
        let later = |line: Option<Timestamp>| line.map(|line| line.plus(Duration::from_micros(1)));
        let selection = &mut end.selection;
        match self.fault {
            Fault::EndCrossesTenants => selection.tenant = TenantFilter::Any,
            Fault::EndOverlooksSignIn => selection.signed_in_before = None,
            Fault::EndTakesTheLine => {
                selection.signed_in_before = later(selection.signed_in_before);
            }
            Fault::EndOverlooksUse => selection.last_accessed_before = None,
            Fault::EndTakesTheLastUse => {
                selection.last_accessed_before = later(selection.last_accessed_before);
            }
            Fault::EndSparesNobody => selection.except = None,
            Fault::EndSparesOnce if end.after.is_some() => selection.except = None,
            Fault::EndIgnoresLimit => *limit = u32::MAX,
            Fault::EndOfNoneIsUnlimited if *limit == 0 => *limit = u32::MAX,
            Fault::EndHalvesIds if selection.ids.is_some() => *limit = limit.div_ceil(2),
            _ => {}
        }
    }

    async fn change_ended(&self, mut batch: EndedBatch, end: EndMany) -> EndedBatch {
        match self.fault {
            Fault::EndForgetsToGoOn => batch.next = None,
            Fault::EndGivesUp if batch.ended.is_empty() => batch.next = None,
            Fault::EndGivesUpBesideSignIns if !self.newcomers(&end).await.is_empty() => {
                batch.next = None;
            }
            Fault::EndTakesNewcomersUntold if batch.next.is_none() => {
                self.end_a_newcomer(&end).await;
            }
            Fault::EndTakesPrefixes => {
                if let TenantFilter::Is(Some(tenant)) = &end.selection.tenant {
                    let mut wider = self.alive().await;
                    wider
                        .retain(|session| session.owner.tenant_text().starts_with(tenant.as_str()));
                    for session in wider {
                        batch.ended.extend(self.end(session.id, end.cause).await);
                    }
                }
            }
            Fault::EndTellsAgain if end.after.is_none() => {
                let before = self.notes().ended.clone();
                batch.ended.extend(before);
            }
            Fault::EndCountsTwice => {
                let ids = end.selection.ids.into_iter().flatten().collect::<Vec<_>>();
                let times = |id: SessionId| ids.iter().filter(|i| **i == id).count().max(1);
                let twice = batch.ended.into_iter();
                batch.ended =
                    twice.flat_map(|e| std::iter::repeat_n(e.clone(), times(e.id))).collect();
            }
            _ => {}
        }
        batch
    }

    async fn end_selected(&self, end: &EndMany, limit: u32) -> EndedBatch {
        self.end_all_of(self.selected(&end.selection).await, limit, end.cause).await
    }

    async fn selected(&self, selection: &Selection) -> Vec<Session> {
        self.alive().await.into_iter().filter(|session| selection.covers(session)).collect()
    }

    /// The selected sessions that began after the walk did.
    async fn newcomers(&self, end: &EndMany) -> Vec<Session> {
        let mut newcomers = self.selected(&end.selection).await;
        newcomers.retain(|session| session.signed_in > end.at);
        newcomers
    }

    /// Waits a while for one.
    async fn end_a_newcomer(&self, end: &EndMany) {
        for _ in 0..1000 {
            if let Some(newcomer) = self.newcomers(end).await.first() {
                self.end(newcomer.id, end.cause).await;
                return;
            }
            self.dawdle().await;
        }
    }

    async fn end_without_a_most(&self, mut end: EndMany, limit: u32) -> EndedBatch {
        let mut all = Vec::new();
        loop {
            let left = limit.saturating_sub(u32::try_from(all.len()).unwrap());
            let batch = self.store().end_many(&end, left).await.unwrap();
            all.extend(batch.ended);
            end.after = batch.next;
            if end.after.is_none() || all.len() >= limit as usize {
                return EndedBatch { ended: all, next: end.after };
            }
        }
    }

    async fn end_in_parts(&self, mut end: EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        let ids = end.selection.ids.take();
        let Some(ids) = ids.filter(|ids| ids.len() > Selection::MAX_IDS) else {
            return self.store().end_many(&end, limit).await;
        };
        let mut batch = EndedBatch::default();
        for part in ids.chunks(Selection::MAX_IDS) {
            end.selection.ids = Some(part.to_vec());
            batch.ended.extend(self.store().end_many(&end, limit).await?.ended);
        }
        Ok(batch)
    }

    async fn end_limited_first(&self, end: &EndMany, limit: u32) -> EndedBatch {
        let wide = Selection {
            user: end.selection.user.clone(),
            ..Selection::within(end.selection.tenant.clone())
        };
        let mut chosen = self.selected(&wide).await;
        chosen.truncate(limit as usize);
        chosen.retain(|session| end.selection.covers(session));
        let mut batch = self.end_all_of(chosen, limit, end.cause).await;
        if batch.ended.len() < limit as usize {
            batch.next = None;
        }
        batch
    }

    async fn end_by_offset(&self, end: &EndMany, limit: u32) -> EndedBatch {
        let offset = end.after.as_ref().map_or(0, |after| usize::from(after.0[0]));
        let chosen = self.selected(&end.selection).await.into_iter().skip(offset).collect();
        let mut batch = self.end_all_of(chosen, limit, end.cause).await;
        let next = u8::try_from(offset + limit as usize).unwrap();
        batch.next = (!batch.ended.is_empty()).then(|| Continuation(vec![next]));
        batch
    }

    /// Ends up to so many of these, after some time, and tells all of them.
    async fn end_all_of(&self, chosen: Vec<Session>, limit: u32, cause: EndCause) -> EndedBatch {
        self.dawdle().await;
        let more = chosen.len() > limit as usize;
        let mut ended = Vec::new();
        for session in chosen.into_iter().take(limit as usize) {
            self.end(session.id, cause).await;
            ended.push(Ended { id: session.id, owner: session.owner });
        }
        let first = PageCursor { at: Timestamp::EPOCH, id: SessionId::from_bytes([0; 16]) };
        EndedBatch { ended, next: more.then(|| Continuation::at(first)) }
    }

    pub(crate) async fn note_ended(&self, batch: &EndedBatch, way: Way) {
        let ids: Vec<_> = batch.ended.iter().map(|ended| ended.id).collect();
        if self.fault == Fault::WalksEndInTwoSteps {
            self.notes().in_between.extend(&ids);
            self.dawdle().await;
        }
        self.after_ends(&ids, way).await;
        let mut notes = self.notes();
        notes.ended.extend(batch.ended.iter().cloned());
        match self.fault {
            Fault::LogMissesEnds => notes.hidden.extend(ids),
            Fault::LogLosesWhoEnded => notes.by_system.extend(ids),
            _ => {}
        }
    }

    pub(crate) async fn lie_in_sweep(
        &self,
        mut sweep: Sweep,
        mut limit: u32,
    ) -> Result<EndedBatch, StoreError> {
        if let Some(batch) = self.instead_of_sweep(&sweep, limit).await {
            return Ok(batch);
        }
        match self.fault {
            Fault::SweepIsEarly => sweep.overdue = Duration::ZERO,
            Fault::SweepOfNoneIsUnlimited if limit == 0 => limit = u32::MAX,
            _ => {}
        }
        let mut batch = match (self.fault, self.store().sweep(&sweep, limit).await) {
            (Fault::FarSweepsAreOver, Err(_)) if is_far(sweep.after.as_ref()) => {
                EndedBatch::default()
            }
            (Fault::MalformedSweepsBeginAgain, Err(_)) => {
                sweep.after = None;
                self.store().sweep(&sweep, limit).await?
            }
            (_, batch) => batch?,
        };
        match self.fault {
            Fault::SweepForgetsToGoOn => batch.next = None,
            Fault::SweepEndsTwice if batch.ended.len() < limit as usize => {
                let before = self.notes().ended.last().cloned();
                batch.ended.extend(before);
            }
            _ => {}
        }
        Ok(batch)
    }

    async fn instead_of_sweep(&self, sweep: &Sweep, limit: u32) -> Option<EndedBatch> {
        let line = host_clock().minus(sweep.overdue);
        let overdue = |session: &Session| session.deadline < line;
        Some(match self.fault {
            Fault::SweepDoesNotLookAgain => self.sweep_by_first_deadlines(overdue, limit).await,
            Fault::SweepGoesByItsFirstLook => {
                if sweep.after.is_none() {
                    let old = self.sessions_where(overdue).await;
                    self.notes().overdue = old;
                }
                let old = self.notes().overdue.clone();
                let batch = self.end_all_of(old, limit, EndCause::Expired).await;
                self.notes().overdue.drain(..batch.ended.len());
                batch
            }
            Fault::SweepYieldsToRotations => self.sweep_beside_nothing(overdue, limit).await,
            Fault::SweepStopsAtThoseInUse => self.sweep_where_still(overdue, limit).await,
            Fault::SweepLooksFirst | Fault::SweepTellsOthers => {
                self.sweep_alive(overdue, limit).await
            }
            Fault::SweepTakesTooMany if limit > EndedBatch::MAX_LIMIT => {
                self.sweep_alive(overdue, limit).await
            }
            Fault::SweepGoesByUse => {
                self.sweep_alive(|session| session.last_accessed < line, limit).await
            }
            Fault::SweepGoesByTheNode => {
                let line = sweep.at.minus(sweep.overdue);
                self.sweep_alive(|session| session.deadline < line, limit).await
            }
            _ => return None,
        })
    }

    async fn sessions_where(&self, is_meant: impl Fn(&Session) -> bool) -> Vec<Session> {
        let mut alive = self.alive().await;
        alive.retain(is_meant);
        alive
    }

    async fn sweep_alive(&self, is_old: impl Fn(&Session) -> bool, limit: u32) -> EndedBatch {
        let old = self.sessions_where(is_old).await;
        self.end_all_of(old, limit, EndCause::Expired).await
    }

    /// By the deadline as it was at sign-in: touches are looked up too late.
    async fn sweep_by_first_deadlines(
        &self,
        is_old: impl Fn(&Session) -> bool,
        limit: u32,
    ) -> EndedBatch {
        let old: HashSet<_> = {
            let notes = self.notes();
            notes.begun.values().filter(|session| is_old(session)).map(|s| s.id).collect()
        };
        let mut old = self.sessions_where(|session| old.contains(&session.id)).await;
        old.sort_by_key(|session| session.id);
        let batch = self.end_all_of(old, limit, EndCause::Expired).await;
        EndedBatch { next: None, ..batch }
    }

    /// Only those of users of whom nothing else is changed.
    async fn sweep_beside_nothing(
        &self,
        is_old: impl Fn(&Session) -> bool,
        limit: u32,
    ) -> EndedBatch {
        let mut batch = EndedBatch::default();
        for session in self.sessions_where(is_old).await.into_iter().take(limit as usize) {
            let seen = self.version(&session.owner).await;
            self.dawdle().await;
            if self.version(&session.owner).await == seen {
                batch.ended.extend(self.end(session.id, EndCause::Expired).await);
            }
        }
        batch
    }

    /// Of those that were overdue first, those that are so still; and is done then.
    async fn sweep_where_still(&self, is_old: impl Fn(&Session) -> bool, limit: u32) -> EndedBatch {
        let mut old: Vec<_> = self.notes().begun.values().cloned().collect();
        old.retain(&is_old);
        old.sort_by_key(|session| session.deadline);
        old.truncate(limit as usize);
        let mut batch = EndedBatch::default();
        for session in old {
            if self.find(session.id).await.is_some_and(|session| is_old(&session)) {
                batch.ended.extend(self.end(session.id, EndCause::Expired).await);
            }
        }
        batch
    }
}

/// Whether it is as long as one of a store in parts.
fn is_far(after: Option<&Continuation>) -> bool {
    after.is_some_and(|after| [2, 8, 26].contains(&after.0.len()))
}
