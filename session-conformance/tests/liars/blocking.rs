//! Lies about blocks, and about the fleet's key.

use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::{
    BlockChange, Change, Commit, Outcome, PolicyChange, Selection, UserState,
};
use session_core::{Actor, FleetKey, Store, StoreError, Timestamp};

use crate::fault::Fault;
use crate::liar::{Liar, host_clock};

impl Liar {
    /// Whether this liar keeps the blocks itself, because the honest store would refuse sign-ins.
    fn keeps_blocks(&self) -> bool {
        matches!(
            self.fault,
            Fault::BlocksAreIgnored
                | Fault::BlocksStopEverything
                | Fault::BlocksStopTouches
                | Fault::LiftingOneLiftsAll
                | Fault::BlocksStopEnds
                | Fault::LiftedBlocksStay
                | Fault::BlocksCrossTenants
                | Fault::BlocksNeverEnd
                | Fault::BlocksKeepTheirTime
                | Fault::BlocksGoByTheNode
                | Fault::BlocksOfUsersComeLate
                | Fault::BlocksOfTenantsComeLate
                | Fault::BlocksOfAllComeLate
                | Fault::BlocksAreToldFirst
        )
    }

    pub(crate) async fn lie_in_block(
        &self,
        scope: &PolicyScope,
    ) -> Result<Option<Block>, StoreError> {
        if self.keeps_blocks() {
            return Ok(self.notes().blocks.get(scope).cloned());
        }
        let mut block = self.store().block(scope).await?;
        if self.fault == Fault::BlockAnswersTheLastOne {
            block = self.answer_the_last_one(|notes| &mut notes.untaken_blocks, block).await;
        }
        Ok(block.map(|mut block| {
            if self.fault == Fault::BlocksLoseReasons {
                block.reason = None;
            }
            block
        }))
    }

    pub(crate) async fn lie_in_set_block(&self, change: BlockChange) -> Result<(), StoreError> {
        if self.fault == Fault::BlocksAreToldFirst {
            self.store().set_block(&change).await?;
            tokio::task::yield_now().await;
        }
        if self.keeps_blocks() {
            self.keep(change);
            return Ok(());
        }
        let known = self.store().block(&change.scope).await?;
        match (self.fault, &change.scope) {
            (Fault::LiftedBlocksAreNotTold, _) if change.block.is_none() && known.is_none() => {
                return Ok(());
            }
            (Fault::BlocksUnsetPolicies, scope) => {
                let (scope, by) = (scope.clone(), Actor::System);
                let unset = PolicyChange { scope, policy: None, at: change.at, by };
                self.store().set_policy(&unset).await?;
            }
            (Fault::BlocksEndSessions, PolicyScope::User(owner)) => {
                self.end_where(Selection::user(owner.clone())).await;
            }
            (Fault::BlocksRaiseVersions, PolicyScope::User(owner)) => {
                if let Some(session) = self.store().user(owner).await?.sessions.first() {
                    self.force(owner, vec![Change::ClaimsChanged(session.id)]).await;
                }
            }
            _ => {}
        }
        self.store().set_block(&change).await
    }

    fn keep(&self, change: BlockChange) {
        let mut notes = self.notes();
        let known = notes.blocks.get(&change.scope).cloned();
        match (self.fault, change.block) {
            (Fault::LiftedBlocksStay, None) => {}
            (Fault::LiftingOneLiftsAll, None) => notes.blocks.clear(),
            (_, None) => _ = notes.blocks.remove(&change.scope),
            (Fault::BlocksKeepTheirTime, Some(mut block)) => {
                block.until = known.map_or(block.until, |known| known.until);
                notes.blocks.insert(change.scope, block);
            }
            (_, Some(block)) => _ = notes.blocks.insert(change.scope, block),
        }
    }

    pub(crate) fn lie_about_blocks(&self, scopes: &[PolicyScope], state: &mut UserState) {
        if self.keeps_blocks() {
            let notes = self.notes();
            let of = |scope: &PolicyScope| Some((scope.clone(), notes.blocks.get(scope)?.clone()));
            state.blocks = scopes.iter().filter_map(of).collect();
        }
        if self.fault == Fault::UserHidesBlocks {
            state.blocks.clear();
        }
    }

    /// Refuses a commit as this liar understands its blocks.
    pub(crate) async fn refuses(&self, commit: &Commit) -> Option<Outcome> {
        if !self.keeps_blocks() {
            return None;
        }
        let any = |is: fn(&Change) -> bool| commit.changes.iter().any(is);
        let concerned = match self.fault {
            Fault::BlocksAreIgnored => false,
            Fault::BlocksStopEverything => true,
            Fault::BlocksStopEnds => any(|c| matches!(c, Change::Insert(_) | Change::End(..))),
            _ => any(|c| matches!(c, Change::Insert(_))),
        };
        let late = |scope: &PolicyScope| match self.fault {
            Fault::BlocksOfUsersComeLate => matches!(scope, PolicyScope::User(_)),
            Fault::BlocksOfTenantsComeLate => matches!(scope, PolicyScope::Tenant(_)),
            Fault::BlocksOfAllComeLate => matches!(scope, PolicyScope::Deployment),
            _ => false,
        };
        let looked_first = self.is_blocked(commit, late);
        if matches!(
            self.fault,
            Fault::BlocksOfUsersComeLate
                | Fault::BlocksOfTenantsComeLate
                | Fault::BlocksOfAllComeLate
        ) {
            self.dawdle().await;
        }
        let blocked = looked_first || self.is_blocked(commit, |scope| !late(scope));
        (concerned && blocked).then_some(Outcome::Conflict)
    }

    /// Of a sign-in that a block comes before, while it is under way, the evictions stand.
    pub(crate) async fn meets_a_block(&self, commit: &Commit) -> Option<Outcome> {
        let blocked = async || !self.store().user(&commit.owner).await.unwrap().blocks.is_empty();
        let is_eviction = |change: &Change| matches!(change, Change::End(..));
        if self.fault != Fault::BlocksLeaveEvictions
            || !commit.changes.iter().any(is_eviction)
            || blocked().await
        {
            return None;
        }
        self.dawdle().await;
        if !blocked().await {
            return None;
        }
        let evicted = commit.changes.iter().filter(|change| is_eviction(change)).cloned();
        self.force(&commit.owner, evicted.collect()).await;
        Some(Outcome::Conflict)
    }

    fn is_blocked(&self, commit: &Commit, looks: impl Fn(&PolicyScope) -> bool) -> bool {
        let now = match self.fault {
            Fault::BlocksGoByTheNode => commit.at,
            Fault::BlocksNeverEnd => Timestamp::from_micros(i64::MIN),
            _ => host_clock(),
        };
        let of = PolicyScope::of(&commit.owner);
        let concerns = |scope: &PolicyScope| match (self.fault, scope) {
            (Fault::BlocksCrossTenants, PolicyScope::User(other)) => {
                other.user == commit.owner.user
            }
            _ => of.contains(scope),
        };
        let notes = self.notes();
        notes.blocks.iter().any(|(scope, b)| looks(scope) && concerns(scope) && b.holds(now))
    }

    pub(crate) async fn lie_in_fleet_key(
        &self,
        proposed: &FleetKey,
    ) -> Result<FleetKey, StoreError> {
        match self.fault {
            Fault::EveryNodeHasAKey => Ok(proposed.clone()),
            Fault::KeyLooksFirst => {
                let known = self.notes().key.clone();
                self.dawdle().await;
                let key = known.unwrap_or_else(|| proposed.clone());
                self.notes().key = Some(key.clone());
                Ok(key)
            }
            _ => self.store().fleet_key(proposed).await,
        }
    }
}
