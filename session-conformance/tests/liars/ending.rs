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
        let first = end.after.is_none();
        match self.fault {
            Fault::EndCrossesTenants => end.selection.tenant = TenantFilter::Any,
            Fault::EndOverlooksSignIn => end.selection.signed_in_before = None,
            Fault::EndTakesTheLine => {
                let before = &mut end.selection.signed_in_before;
                *before = before.map(|line| line.plus(Duration::from_micros(1)));
            }
            Fault::EndOverlooksUse => end.selection.last_accessed_before = None,
            Fault::EndTakesTheLastUse => {
                let before = &mut end.selection.last_accessed_before;
                *before = before.map(|line| line.plus(Duration::from_micros(1)));
            }
            Fault::EndLooksFirst if end.selection.last_accessed_before.is_some() => {
                let chosen = self.selected(&end.selection).await;
                return Ok(self.end_all_of(chosen, limit, end.cause).await);
            }
            Fault::EndGoesByOldUse if end.selection.last_accessed_before.is_some() => {
                let mut chosen = self.alive().await;
                let old = self.notes().begun.clone();
                chosen.retain(|session| end.selection.covers(&old[&session.id]));
                return Ok(self.end_all_of(chosen, limit, end.cause).await);
            }
            Fault::EndSparesNobody => end.selection.except = None,
            Fault::EndSparesOnce if !first => end.selection.except = None,
            Fault::EndIgnoresLimit => limit = u32::MAX,
            Fault::EndOfNoneIsUnlimited if limit == 0 => limit = u32::MAX,
            Fault::EndOfNoneIsTheEnd if limit == 0 => return Ok(EndedBatch::default()),
            Fault::EndHalvesIds if end.selection.ids.is_some() => limit = limit.div_ceil(2),
            Fault::EndTakesTooMany => return Ok(self.end_without_a_most(end, limit).await),
            Fault::EndTakesTooManyIds => return self.end_in_parts(end, limit).await,
            Fault::EndLimitsFirst => return Ok(self.end_limited_first(&end, limit).await),
            Fault::EndCountsOffsets => return Ok(self.end_by_offset(&end, limit).await),
            Fault::EndTellsOthers => {
                let chosen = self.selected(&end.selection).await;
                return Ok(self.end_all_of(chosen, limit, end.cause).await);
            }
            _ => {}
        }
        let mut batch = match (self.fault, self.store().end_many(&end, limit).await) {
            (Fault::MalformedEndsAreOver, Err(_)) => EndedBatch::default(),
            (Fault::FarEndsAreOver, Err(_)) if is_far(end.after.as_ref()) => EndedBatch::default(),
            (Fault::MalformedEndsBeginAgain, Err(_)) => {
                end.after = None;
                self.store().end_many(&end, limit).await?
            }
            (_, batch) => batch?,
        };
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
                    let wider =
                        self.alive().await.into_iter().filter(|session| {
                            session.owner.tenant_text().starts_with(tenant.as_str())
                        });
                    for session in wider {
                        batch.ended.extend(self.end(session.id, end.cause).await);
                    }
                }
            }
            Fault::EndTellsAgain if first => {
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
        Ok(batch)
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
        let line = host_clock().minus(sweep.overdue);
        let covers = |s: &Session| s.deadline < line;
        match self.fault {
            Fault::SweepDoesNotLookAgain => {
                // The deadline as it was at sign-in: touches are looked up too late.
                let old: HashSet<_> = {
                    let notes = self.notes();
                    notes.begun.values().filter(|s| covers(s)).map(|s| s.id).collect()
                };
                let mut old: Vec<_> =
                    self.alive().await.into_iter().filter(|s| old.contains(&s.id)).collect();
                old.sort_by_key(|session| session.id);
                let mut batch = self.end_all_of(old, limit, EndCause::Expired).await;
                batch.next = None;
                return Ok(batch);
            }
            Fault::SweepLooksFirst | Fault::SweepTellsOthers => {
                let mut old = self.alive().await;
                old.retain(covers);
                return Ok(self.end_all_of(old, limit, EndCause::Expired).await);
            }
            Fault::SweepGoesByItsFirstLook => {
                if sweep.after.is_none() {
                    let mut old = self.alive().await;
                    old.retain(covers);
                    self.notes().overdue = old;
                }
                let old = self.notes().overdue.clone();
                let batch = self.end_all_of(old, limit, EndCause::Expired).await;
                self.notes().overdue.drain(..batch.ended.len());
                return Ok(batch);
            }
            Fault::SweepYieldsToRotations => {
                let mut old = self.alive().await;
                old.retain(covers);
                let mut batch = EndedBatch::default();
                for session in old.into_iter().take(limit as usize) {
                    let seen = self.version(&session.owner).await;
                    self.dawdle().await;
                    if self.version(&session.owner).await == seen {
                        batch.ended.extend(self.end(session.id, EndCause::Expired).await);
                    }
                }
                return Ok(batch);
            }
            Fault::SweepStopsAtThoseInUse => {
                let mut old: Vec<_> = self.notes().begun.values().cloned().collect();
                old.retain(covers);
                old.sort_by_key(|session| session.deadline);
                old.truncate(limit as usize);
                let mut batch = EndedBatch::default();
                for session in old {
                    if self.find(session.id).await.is_some_and(|session| covers(&session)) {
                        batch.ended.extend(self.end(session.id, EndCause::Expired).await);
                    }
                }
                return Ok(batch);
            }
            Fault::SweepGoesByUse => {
                let mut old = self.alive().await;
                old.retain(|session| session.last_accessed < line);
                return Ok(self.end_all_of(old, limit, EndCause::Expired).await);
            }
            Fault::SweepGoesByTheNode => {
                let mut old = self.alive().await;
                old.retain(|session| session.deadline < sweep.at.minus(sweep.overdue));
                return Ok(self.end_all_of(old, limit, EndCause::Expired).await);
            }
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
}

/// Whether it is as long as one of a store in parts.
fn is_far(after: Option<&Continuation>) -> bool {
    after.is_some_and(|after| [2, 8, 26].contains(&after.0.len()))
}
