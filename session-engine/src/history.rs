//! What is known of sessions that have ended, and of one user in all (G20).

use session_core::block::Block;
use session_core::planted::{self, Defect};
use session_core::policy::{Policy, PolicyScope};
use session_core::store::{
    EndedBatch, EndedSession, Forget, HistoryPage, HistoryQuery, PageQuery, TenantFilter,
};
use session_core::{Actor, Session, Timestamp, UserKey};

use crate::error::Error;
use crate::listing::filled;
use crate::node::Node;

/// Everything that is kept of one user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UserExport {
    /// Live sessions, newest sign-in first.
    pub sessions: Vec<Session>,
    /// Ended sessions, latest end first.
    pub history: Vec<EndedSession>,
    /// The user's own policy, where one is set.
    pub policy: Option<Policy>,
    /// The user's own block, where one is set.
    pub block: Option<Block>,
}

/// What an erasure has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Erased {
    /// Sessions that it has ended.
    pub sessions: u64,
    /// Records of ended sessions.
    pub history: u64,
}

impl Node {
    pub(crate) async fn history(&self, query: &HistoryQuery) -> Result<HistoryPage, Error> {
        PageQuery::check_limit(query.limit)?;
        let shared = self.shared();
        let read = |after, limit| {
            let mut query = query.clone();
            (query.after, query.limit) = (after, limit);
            async move {
                let page = shared.store_call("history", shared.store.history(&query)).await?;
                Ok((page.sessions, page.next))
            }
        };
        let (sessions, next) = filled(query.after, query.limit, read).await?;
        Ok(HistoryPage { sessions, next })
    }

    pub(crate) async fn export_user(&self, owner: &UserKey) -> Result<UserExport, Error> {
        let mut sessions = Vec::new();
        // Also what is past its deadline and still kept.
        let mut query = PageQuery::live(TenantFilter::Is(owner.tenant.clone()), Timestamp::EPOCH);
        query.user = Some(owner.user.clone());
        query.limit = PageQuery::MAX_LIMIT;
        loop {
            let page = self.list(&query).await?;
            sessions.extend(page.sessions);
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        let mut history = Vec::new();
        let mut query = HistoryQuery::user(owner.clone());
        query.limit = PageQuery::MAX_LIMIT;
        loop {
            let page = self.history(&query).await?;
            history.extend(page.sessions);
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        let scope = PolicyScope::User(owner.clone());
        let (policy, block) = (self.policy(&scope).await?, self.block_at(&scope).await?);
        Ok(UserExport { sessions, history, policy, block })
    }

    pub(crate) async fn erase_user(&self, owner: &UserKey, by: Actor) -> Result<Erased, Error> {
        let shared = self.shared();
        let sessions = self.revoke_user(owner.clone(), by.clone()).await?;
        let forget = Forget::User(owner.clone());
        let mut history = 0;
        while !planted::is(Defect::EraseKeepsHistory) {
            let turn = shared.paces.forget.begin(EndedBatch::MAX_LIMIT);
            let call = shared.store.forget(&forget, turn.size);
            let gone = shared.store_call("forget", call).await?;
            if gone == 0 {
                break;
            }
            history += u64::from(gone);
            shared.sleep(turn.over(gone as usize)).await;
        }
        let scope = PolicyScope::User(owner.clone());
        if self.policy(&scope).await?.is_some() {
            self.set_policy(scope, None, by).await?;
        }
        Ok(Erased { sessions, history })
    }
}
