//! Reads of the sessions that there are, for pages and for applications.

use session_core::store::{Page, PageCursor, PageQuery, TenantFilter};
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
        let read = |after, limit| {
            let mut query = query.clone();
            (query.after, query.limit) = (after, limit);
            async move {
                let page = shared.store_call("page", shared.store.page(&query)).await?;
                Ok((page.sessions, page.next))
            }
        };
        let (mut sessions, next) = filled(query.after, query.limit, read).await?;
        sessions.iter_mut().for_each(|session| self.overlay(session));
        Ok(Page { sessions, next })
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

/// A page of at most this many, and where to go on. Where a filter leaves out nearly everything, a store's
/// page is short: the page is made of several, [`MOST_SHORT_PAGES`] at most.
pub(crate) async fn filled<T, F>(
    mut after: Option<PageCursor>,
    limit: u32,
    read: impl Fn(Option<PageCursor>, u32) -> F,
) -> Result<(Vec<T>, Option<PageCursor>), Error>
where
    F: Future<Output = Result<(Vec<T>, Option<PageCursor>), Error>>,
{
    let mut found = Vec::new();
    for _ in 0..MOST_SHORT_PAGES {
        let left = (limit as usize).saturating_sub(found.len()) as u32;
        let (some, next) = read(after, left).await?;
        found.extend(some);
        after = next;
        if after.is_none() || found.len() >= limit as usize {
            break;
        }
    }
    Ok((found, after))
}

const MOST_SHORT_PAGES: u32 = 8;
