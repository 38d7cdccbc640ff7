//! Reads of the sessions that there are, for pages and for applications.

use session_core::store::{Page, PageQuery, TenantFilter};
use session_core::{Session, SessionId, UserKey};

use crate::error::Error;
use crate::node::Node;

impl Node {
    pub(crate) async fn get(
        &self,
        id: SessionId,
        tenant: &TenantFilter,
    ) -> Result<Option<Session>, Error> {
        let shared = self.shared();
        let Some(loaded) = shared.store_call("load", shared.store.load(id)).await? else {
            return Ok(None);
        };
        let is_within = tenant.covers(loaded.session.owner.tenant.as_ref());
        Ok(if is_within { self.as_known(loaded.session) } else { None })
    }

    /// A stored session with what this node knows of its use; none past a timeout.
    pub(crate) fn as_known(&self, mut session: Session) -> Option<Session> {
        self.overlay(&mut session);
        let timeouts = self.options().timeouts_of(&session);
        let expired = timeouts.expired(session.last_accessed, session.absolute_expiry, self.now());
        (!expired).then_some(session)
    }

    pub(crate) async fn list(&self, query: &PageQuery) -> Result<Page, Error> {
        PageQuery::check_limit(query.limit)?;
        let shared = self.shared();
        let limit = query.limit;
        let mut query = query.clone();
        let mut listed = Page::default();
        // Where a filter leaves out nearly everything, a store's page is short.
        for _ in 0..MOST_SHORT_PAGES {
            let page = shared.store_call("page", shared.store.page(&query)).await?;
            listed.sessions.extend(page.sessions);
            listed.next = page.next;
            query.after = listed.next;
            query.limit = (limit as usize).saturating_sub(listed.sessions.len()) as u32;
            if query.limit == 0 || listed.next.is_none() {
                break;
            }
        }
        listed.sessions.iter_mut().for_each(|session| self.overlay(session));
        Ok(listed)
    }

    pub(crate) async fn count(&self, owner: &UserKey) -> Result<u64, Error> {
        let state = self.shared().store_call("user", self.shared().store.user(owner)).await?;
        let now = self.now();
        Ok(state.sessions.iter().filter(|session| session.deadline > now).count() as u64)
    }

    fn overlay(&self, session: &mut Session) {
        if let Some(entry) = self.shared().cache.seen(&session.id) {
            entry.overlay(session);
        }
    }
}

/// Pages of the store that one page of the manager is made of, at most.
pub(crate) const MOST_SHORT_PAGES: u32 = 8;
