//! Lies about the history.

use std::collections::HashSet;
use std::time::Duration;

use session_core::store::{
    Change, Commit, EndedSession, Forget, HistoryPage, HistoryQuery, Outcome, PageCursor,
    PageQuery, TenantFilter,
};
use session_core::{Actor, EndCause, SessionId, Store, StoreError, Timestamp};

use crate::fault::Fault;
use crate::liar::{Liar, host_clock};

impl Liar {
    pub(crate) async fn lie_in_ended(
        &self,
        id: SessionId,
    ) -> Result<Option<EndedSession>, StoreError> {
        let mut found = self.store().ended(id).await?;
        if self.fault == Fault::EndedAnswersTheLastOne {
            found = self.answer_the_last_one(|notes| &mut notes.untaken_ends, found).await;
        }
        let known = self.notes().remembered_alive.get(&id).cloned();
        let found = match (self.fault, known) {
            (Fault::HistoryKeepsWhatItKnew, Some(known)) => Some(known),
            (_, known) => found.or(known),
        };
        let found = found.or_else(|| self.notes().conflicts.get(&id).cloned());
        let refused = |ended: &EndedSession| ended.cause == EndCause::Unknown;
        if self.fault == Fault::HistoryRefusesTheUnknown && found.as_ref().is_some_and(refused) {
            return Err(StoreError::corrupt("a cause that is not known"));
        }
        Ok(found.filter(|ended| !self.is_hidden(ended)).map(|ended| self.distorted_end(ended)))
    }

    fn is_hidden(&self, ended: &EndedSession) -> bool {
        let notes = self.notes();
        let id = ended.session.id;
        let misses = match notes.ended_by.get(&id) {
            Some(Way::Commit) => Fault::HistoryMissesCommits,
            Some(Way::Selection) => Fault::HistoryMissesSelections,
            Some(Way::Sweep) => Fault::HistoryMissesSweeps,
            None => Fault::None,
        };
        let missed = misses == self.fault && misses != Fault::None;
        missed || notes.in_between.contains(&id) || notes.forgotten.contains(&id)
    }

    /// The ended session as this liar reads it.
    fn distorted_end(&self, mut ended: EndedSession) -> EndedSession {
        let notes = self.notes();
        let id = &ended.session.id;
        match self.fault {
            Fault::HistoryLosesWhere => ended.from = None,
            Fault::HistoryLosesDigests => ended.session.token.retired = None,
            Fault::HistoryKeepsOldRecords => {
                ended.session = notes.begun.get(id).cloned().unwrap_or(ended.session);
            }
            Fault::HistoryCopiesFirst => {
                ended.session = notes.copies.get(id).cloned().unwrap_or(ended.session);
            }
            Fault::HistoryTakesTheLastEnd | Fault::HistoryTellsTheLastToTry => {
                ended.cause = notes.tried.get(id).copied().unwrap_or(ended.cause);
            }
            _ => {}
        }
        ended
    }

    /// Puts the record of a session that lives into the history.
    pub(crate) async fn remember_alive(&self, id: SessionId) {
        let session = self.find(id).await.unwrap();
        let (ended, cause, by) = (Timestamp::EPOCH, EndCause::Evicted, Actor::System);
        let known = EndedSession { session, ended, cause, by, from: None };
        self.notes().remembered_alive.insert(id, known);
    }

    /// Whether these may end.
    pub(crate) fn can_end(&self, ids: &[SessionId]) -> Result<(), StoreError> {
        let notes = self.notes();
        let stays = |id: &SessionId| notes.remembered_alive.contains_key(id);
        match self.fault == Fault::RememberedSessionsStay && ids.iter().any(stays) {
            true => Err(StoreError::unavailable("other changes kept coming first")),
            false => Ok(()),
        }
    }

    /// Called before a call that may end these.
    pub(crate) async fn before_ends(&self, ids: &[SessionId], way: Way, cause: EndCause) {
        match self.fault {
            Fault::EndsInTwoSteps => self.notes().in_between.extend(ids),
            Fault::HistoryCopiesFirst => {
                for id in ids {
                    let copy = self.find(*id).await;
                    self.notes().copies.extend(copy.map(|session| (*id, session)));
                }
                self.dawdle().await;
            }
            Fault::HistoryTakesTheLastEnd if way == Way::Commit => {
                self.notes().tried.extend(ids.iter().map(|id| (*id, cause)));
            }
            Fault::HistoryTellsTheLastToTry => {
                self.notes().tried.extend(ids.iter().map(|id| (*id, cause)));
            }
            _ => {}
        }
    }

    /// Called after a call that may have ended these.
    pub(crate) async fn after_ends(&self, ids: &[SessionId], way: Way) {
        if self.fault == Fault::EndsInTwoSteps {
            self.dawdle().await;
        }
        let mut notes = self.notes();
        for id in ids {
            notes.in_between.remove(id);
            notes.ended_by.entry(*id).or_insert(way);
        }
    }

    /// What a commit that has conflicted would have ended.
    pub(crate) async fn note_conflict(&self, commit: &Commit, outcome: Outcome) {
        if self.fault != Fault::HistoryKeepsConflicts || outcome != Outcome::Conflict {
            return;
        }
        for change in &commit.changes {
            let Change::End(id, cause) = change else { continue };
            let Some(session) = self.find(*id).await else { continue };
            let (ended, by, from) = (commit.at, commit.by.clone(), commit.from.clone());
            let ended = EndedSession { session, ended, cause: *cause, by, from };
            self.notes().conflicts.insert(*id, ended);
        }
    }

    pub(crate) async fn lie_in_history(
        &self,
        mut query: HistoryQuery,
    ) -> Result<HistoryPage, StoreError> {
        match (self.fault, query.after) {
            (Fault::HistoryCrossesTenants, _) => query.tenant = TenantFilter::Any,
            (Fault::HistoryOverlooksCause, _) => query.cause = None,
            (Fault::HistoryOverlooksClient, _) => query.client_id = None,
            (Fault::SinceIsLate, _) => {
                query.since = query.since.map(|since| since.plus(Duration::from_micros(1)));
            }
            (Fault::HistorySkipsTies, Some(after)) => {
                let id = SessionId::from_bytes([0xff; 16]);
                query.after = Some(PageCursor { id, ..after });
            }
            (Fault::HistoryNeedsItsSession, Some(after))
                if self.store().ended(after.id).await?.is_none() =>
            {
                return Ok(HistoryPage::default());
            }
            (Fault::HistoryOfNoneIsTheEnd, _) if query.limit == 0 => {
                return Ok(HistoryPage::default());
            }
            (Fault::HistoryIsTooLong, _) if query.limit > PageQuery::MAX_LIMIT => {
                let mut sessions = self.remembered().await;
                sessions.retain(|ended| query.covers(ended));
                return Ok(HistoryPage { sessions, next: None });
            }
            (Fault::HistoryTakesPrefixes, _) => return Ok(self.by_prefix(&query).await),
            (Fault::HistoryLimitsFirst, _) => return self.history_limited_first(&query).await,
            (Fault::HistoryCountsOffsets, _) => return Ok(self.history_by_offset(&query).await),
            _ => {}
        }
        let mut page = self.store().history(&query).await?;
        match self.fault {
            Fault::HistoryForgetsToGoOn => page.next = None,
            Fault::HistoryGivesUp if page.sessions.is_empty() => page.next = None,
            _ => {}
        }
        let shown = page.sessions.into_iter().filter(|ended| !self.is_hidden(ended));
        page.sessions = shown.map(|ended| self.distorted_end(ended)).collect();
        Ok(page)
    }

    /// Everything that is remembered, the latest end first.
    async fn remembered(&self) -> Vec<EndedSession> {
        let mut query = HistoryQuery::within(TenantFilter::Any);
        query.limit = PageQuery::MAX_LIMIT;
        let mut all = Vec::new();
        loop {
            let page = self.store().history(&query).await.unwrap();
            all.extend(page.sessions);
            query.after = page.next;
            if query.after.is_none() {
                return all;
            }
        }
    }

    async fn by_prefix(&self, query: &HistoryQuery) -> HistoryPage {
        let any = HistoryQuery { tenant: TenantFilter::Any, ..query.clone() };
        let begins = |ended: &EndedSession| match &query.tenant {
            TenantFilter::Is(Some(tenant)) => {
                ended.session.owner.tenant_text().starts_with(tenant.as_str())
            }
            tenant => tenant.covers(ended.session.owner.tenant.as_ref()),
        };
        let mut sessions = self.remembered().await;
        sessions.retain(|ended| any.covers(ended) && begins(ended));
        HistoryPage { sessions, next: None }
    }

    async fn history_limited_first(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        let mut any = HistoryQuery::within(TenantFilter::Any);
        any.after = query.after;
        any.limit = query.limit;
        let mut page = self.store().history(&any).await?;
        page.sessions.retain(|ended| query.covers(ended));
        page.next = page.next.filter(|_| page.sessions.len() == query.limit as usize);
        Ok(page)
    }

    async fn history_by_offset(&self, query: &HistoryQuery) -> HistoryPage {
        let seen = query.after.map_or(0, |after| after.at.as_micros());
        let mut all = self.remembered().await;
        all.retain(|ended| query.covers(ended));
        let rest = all.split_off(all.len().min(usize::try_from(seen).unwrap()));
        let mut page = HistoryPage::cut(rest, query.limit);
        let at = Timestamp::from_micros(seen + i64::from(query.limit));
        page.next = page.next.map(|next| PageCursor { at, ..next });
        page
    }

    pub(crate) async fn lie_in_forget(
        &self,
        mut forget: Forget,
        mut limit: u32,
    ) -> Result<u32, StoreError> {
        match (self.fault, &mut forget) {
            (Fault::ForgetIgnoresAges, Forget::OlderThan(_)) => return Ok(0),
            (Fault::ForgetIsEarly, Forget::OlderThan(age)) => *age /= 2,
            (Fault::ForgetTakesTheNewest, Forget::OlderThan(age)) => {
                let line = host_clock().minus(*age);
                let mut old = self.remembered().await;
                old.retain(|ended| ended.ended < line && !self.is_hidden(ended));
                old.truncate(limit as usize);
                self.notes().forgotten.extend(old.iter().map(|ended| ended.session.id));
                return Ok(u32::try_from(old.len()).unwrap());
            }
            (Fault::ForgetCrossesTenants, Forget::User(owner)) => {
                let same: HashSet<_> = {
                    let notes = self.notes();
                    let owners = notes.begun.values().map(|session| session.owner.clone());
                    owners.filter(|other| other.user == owner.user).collect()
                };
                for owner in same {
                    self.store().forget(&Forget::User(owner), limit).await?;
                }
            }
            (Fault::ForgetCountsOthers, Forget::User(owner)) => {
                let all = self.store().history(&HistoryQuery::user(owner.clone())).await?;
                let count = limit.min(u32::try_from(all.sessions.len()).unwrap());
                self.dawdle().await;
                self.store().forget(&forget, limit).await?;
                return Ok(count);
            }
            (Fault::ForgetGivesUp, _) => {
                let chosen = self.remembered().await.len();
                self.dawdle().await;
                if self.remembered().await.len() < chosen {
                    return Ok(0);
                }
            }
            (Fault::ForgetOfNoneIsNone, _) if limit == 0 => return Ok(0),
            (Fault::ForgetIgnoresLimit, _) => limit = u32::MAX,
            _ => {}
        }
        self.store().forget(&forget, limit).await
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Commit,
    Selection,
    Sweep,
}
