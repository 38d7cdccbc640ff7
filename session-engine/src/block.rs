//! Blocks users, tenants and the deployment (G21).

use session_core::block::Block;
use session_core::planted::{self, Defect};
use session_core::policy::PolicyScope;
use session_core::store::{BlockChange, Selection, TenantFilter};
use session_core::{Actor, BlockReason, DeviceInfo, EndCause, InvalidField, Timestamp};

use crate::entry::ActiveSession;
use crate::error::Error;
use crate::node::Node;
use crate::notice;

/// Why and until when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewBlock {
    /// Why, in words for admins and for the user.
    pub reason: Option<BlockReason>,
    /// From when on sign-in is possible again; none until the block is lifted.
    pub until: Option<Timestamp>,
}

impl NewBlock {
    /// Sets [`NewBlock::reason`].
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Option<BlockReason>>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Sets [`NewBlock::until`].
    #[must_use]
    pub fn with_until(mut self, until: impl Into<Option<Timestamp>>) -> Self {
        self.until = until.into();
        self
    }
}

impl Node {
    pub(crate) async fn block(
        &self,
        scope: PolicyScope,
        block: NewBlock,
        by: Actor,
    ) -> Result<u64, Error> {
        self.block_from(scope, block, by, None).await
    }

    pub(crate) async fn block_by(
        &self,
        scope: PolicyScope,
        block: NewBlock,
        current: &ActiveSession,
    ) -> Result<u64, Error> {
        self.block_from(scope, block, current.actor(), current.device()).await
    }

    async fn block_from(
        &self,
        scope: PolicyScope,
        block: NewBlock,
        by: Actor,
        from: Option<DeviceInfo>,
    ) -> Result<u64, Error> {
        let selection = match &scope {
            PolicyScope::Deployment => Selection::within(TenantFilter::Any),
            PolicyScope::Tenant(tenant) => {
                Selection::within(TenantFilter::Is(Some(tenant.clone())))
            }
            PolicyScope::User(owner) => Selection::user(owner.clone()),
        };
        let NewBlock { reason, until } = block;
        self.know_the_time().await?;
        if until.is_some_and(|until| until <= self.now()) {
            return Err(InvalidField::malformed("until", "a time to come").into());
        }
        let until = until.filter(|_| !planted::is(Defect::BlockForEver));
        let block = Block { reason, until, since: self.now(), by: by.clone() };
        let node = self.clone();
        // A caller who goes away leaves no session standing behind the block.
        let set_and_end = async move {
            if planted::is(Defect::BlockAfterEnds) {
                let by = by.clone();
                node.end_all(selection, EndCause::Blocked, by.clone(), from).await?;
                return node.set_block(scope, Some(block), by).await.map(|()| 0);
            }
            node.set_block(scope, Some(block), by.clone()).await?;
            if planted::is(Defect::BlockKeepsSessions) {
                return Ok(0);
            }
            node.end_all(selection, EndCause::Blocked, by, from).await
        };
        self.shared().detached(set_and_end).await
    }

    pub(crate) async fn unblock(&self, scope: PolicyScope, by: Actor) -> Result<(), Error> {
        self.know_the_time().await?;
        self.set_block(scope, None, by).await
    }

    pub(crate) async fn block_at(&self, scope: &PolicyScope) -> Result<Option<Block>, Error> {
        self.shared().store_call("block", self.shared().store.block(scope)).await
    }

    async fn set_block(
        &self,
        scope: PolicyScope,
        block: Option<Block>,
        by: Actor,
    ) -> Result<(), Error> {
        let shared = self.shared();
        let change = BlockChange { scope, block, at: self.now(), by };
        shared.store_call("set_block", shared.store.set_block(&change)).await?;
        notice::log(&change.event());
        shared.changed(false);
        Ok(())
    }
}
