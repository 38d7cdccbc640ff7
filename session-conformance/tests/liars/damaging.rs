//! Records that cannot be read, and lies about them. A memory store has none, so a note stands for
//! one.

use session_core::policy::PolicyScope;
use session_core::store::{
    Commit, EndedBatch, EndedSession, HistoryPage, Loaded, LogPage, Outcome, Page,
};
use session_core::{SessionId, StoreError};

use crate::fault::Fault;
use crate::liar::Liar;

/// What is set at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Setting {
    Policy,
    Block,
}

impl Liar {
    fn is_damaged(&self, id: SessionId) -> bool {
        self.notes().damaged.contains(&id)
    }

    /// Fails with this fault while there is damage.
    pub(crate) fn stumbles(&self, fault: Fault) -> Result<(), StoreError> {
        match self.fault == fault && !self.notes().damaged.is_empty() {
            true => Err(StoreError::corrupt("damaged")),
            false => Ok(()),
        }
    }

    /// What this liar makes of a commit beside damage.
    pub(crate) async fn meets_damage(
        &self,
        commit: &Commit,
    ) -> Option<Result<Outcome, StoreError>> {
        if self.notes().damaged.is_empty() {
            return None;
        }
        match self.fault {
            Fault::DamageHalvesCommits => {
                self.force(&commit.owner, vec![commit.changes[0].clone()]).await;
                Some(Err(StoreError::corrupt("damaged")))
            }
            Fault::DamageLosesCommits => Some(Ok(Outcome::Done)),
            Fault::DamageIsAConflict => Some(Ok(Outcome::Conflict)),
            _ => None,
        }
    }

    /// Fails where a setting of these places cannot be read; false where this liar hides that.
    pub(crate) fn settings_are_readable(
        &self,
        settings: &[Setting],
        scopes: &[PolicyScope],
    ) -> Result<bool, StoreError> {
        let damaged = self.notes().damaged_settings.clone();
        // Of policies or of blocks alone.
        let is_of = |what| damaged.iter().all(|(setting, _)| *setting == what);
        let is_damaged = |(setting, scope): &(Setting, PolicyScope)| {
            settings.contains(setting) && scopes.contains(scope)
        };
        let hides = match self.fault {
            Fault::DamagedSettingsAreNone => true,
            Fault::UserOverlooksDamagedPolicies => settings.len() > 1 && is_of(Setting::Policy),
            Fault::UserOverlooksDamagedBlocks => settings.len() > 1 && is_of(Setting::Block),
            _ => false,
        };
        match damaged.iter().any(is_damaged) {
            true if !hides => Err(StoreError::corrupt("damaged")),
            is_damaged => Ok(!is_damaged),
        }
    }

    pub(crate) fn readable(&self, loaded: Option<Loaded>) -> Result<Option<Loaded>, StoreError> {
        match loaded {
            Some(loaded) if self.is_damaged(loaded.session.id) => match self.fault {
                Fault::DamageIsLoaded => Ok(Some(loaded)),
                Fault::DamageIsNone => Ok(None),
                _ => Err(StoreError::corrupt("damaged")),
            },
            loaded => Ok(loaded),
        }
    }

    pub(crate) fn readable_end(
        &self,
        ended: Option<EndedSession>,
    ) -> Result<Option<EndedSession>, StoreError> {
        match ended {
            Some(ended) if self.is_damaged(ended.session.id) => match self.fault {
                Fault::DamageIsNotRemembered => Ok(None),
                _ => Err(StoreError::corrupt("damaged")),
            },
            ended => Ok(ended),
        }
    }

    pub(crate) fn readable_page(&self, mut page: Page) -> Result<Page, StoreError> {
        let all = page.sessions.len();
        page.sessions.retain(|session| !self.is_damaged(session.id));
        match (self.fault, page.sessions.len() < all) {
            (Fault::DamageStopsPages, true) => Err(StoreError::corrupt("damaged")),
            (Fault::DamageEndsPages, true) => Ok(Page { next: None, ..page }),
            _ => Ok(page),
        }
    }

    pub(crate) fn readable_history(
        &self,
        mut page: HistoryPage,
    ) -> Result<HistoryPage, StoreError> {
        let all = page.sessions.len();
        page.sessions.retain(|ended| !self.is_damaged(ended.session.id));
        match (self.fault, page.sessions.len() < all) {
            (Fault::DamageStopsHistory, true) => Err(StoreError::corrupt("damaged")),
            (Fault::DamageEndsHistory, true) => Ok(HistoryPage { next: None, ..page }),
            _ => Ok(page),
        }
    }

    pub(crate) fn readable_log(&self, mut page: LogPage) -> Result<LogPage, StoreError> {
        let mut notes = self.notes();
        let all = page.events.len();
        page.events
            .retain(|event| !event.session.is_some_and(|id| notes.damaged_entries.contains(&id)));
        let damaged = page.events.len() < all;
        match self.fault {
            Fault::DamagedEntriesStopTheLog if damaged => {
                return Err(StoreError::corrupt("damaged"));
            }
            Fault::DamagedEntriesAreNoGap => {}
            Fault::DamagedEntriesStayAGap => {
                notes.damage_was_read |= damaged;
                page.gap |= notes.damage_was_read;
            }
            _ => page.gap |= damaged,
        }
        Ok(page)
    }

    /// What of a batch this liar tells that it has ended.
    pub(crate) fn told_of(&self, mut batch: EndedBatch) -> EndedBatch {
        if self.fault == Fault::DamageEndsUntold {
            batch.ended.retain(|ended| !self.is_damaged(ended.id));
        }
        batch
    }

    /// What a touch says is gone.
    pub(crate) fn gone_by_damage(&self, touched: &[SessionId]) -> Vec<SessionId> {
        let damaged = touched.iter().copied().filter(|id| self.is_damaged(*id));
        damaged.filter(|_| self.fault == Fault::DamageIsGone).collect()
    }
}
