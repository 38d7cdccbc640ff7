//! Lies about pages.

use std::cmp::Reverse;
use std::time::Duration;

use session_core::store::{Page, PageCursor, PageQuery, TenantFilter};
use session_core::{Session, SessionId, Store, StoreError, Timestamp};

use crate::fault::Fault;
use crate::liar::Liar;

impl Liar {
    pub(crate) async fn lie_in_page(&self, mut query: PageQuery) -> Result<Page, StoreError> {
        match (self.fault, query.after) {
            (Fault::PageRepeats, Some(after)) => {
                let before = after.at.plus(MICROSECOND);
                query.after = Some(PageCursor { at: before, id: after.id });
            }
            (Fault::PageSkipsTies, Some(after)) => {
                let id = SessionId::from_bytes([0xff; 16]);
                query.after = Some(PageCursor { id, ..after });
            }
            (Fault::PageNeedsItsSession, Some(after)) if self.find(after.id).await.is_none() => {
                return Ok(Page::default());
            }
            (Fault::PageOfUserBeginsAgain, Some(_)) if query.user.is_some() => query.after = None,
            (Fault::PageCountsOffsets, _) => return self.by_offset(query).await,
            (Fault::PageLimitsFirst, _) => return self.limited_first(&query).await,
            (Fault::PageGoesByUse, _) => return Ok(self.by_use(&query).await),
            (Fault::PageCrossesTenants, _) => query.tenant = TenantFilter::Any,
            (Fault::PageListsExpired, _) => query.now = Timestamp::EPOCH,
            (Fault::PageOverlooksClient, _) => query.client_id = None,
            (Fault::PageOfNoneIsTheEnd, _) if query.limit == 0 => return Ok(Page::default()),
            (Fault::PageIsTooLong, _) if query.limit > PageQuery::MAX_LIMIT => {
                let mut all = self.alive().await;
                all.retain(|session| query.covers(session));
                return Ok(Page { sessions: all, next: None });
            }
            (Fault::PageIsLate, _) => query.now = query.now.minus(MICROSECOND),
            (Fault::PageIsEarly, _) => query.now = query.now.plus(MICROSECOND),
            _ => {}
        }
        let mut page = self.store().page(&query).await?;
        match self.fault {
            Fault::PageForgetsToGoOn => page.next = None,
            Fault::PageGivesUp if page.sessions.is_empty() => page.next = None,
            Fault::PageSkipsUnderFilters if query.device_kind.is_some() => {
                if let Some(next) = &mut page.next {
                    next.at = next.at.minus(Duration::from_secs(1));
                }
            }
            _ => {}
        }
        Ok(page)
    }

    async fn by_offset(&self, mut query: PageQuery) -> Result<Page, StoreError> {
        let seen = query.after.map_or(0, |after| after.at.as_micros());
        let limit = query.limit;
        query.after = None;
        query.limit = PageQuery::MAX_LIMIT;
        let mut all = self.store().page(&query).await?.sessions;
        let rest = all.split_off(all.len().min(usize::try_from(seen).unwrap()));
        let mut page = Page::cut(rest, limit);
        page.next = page
            .next
            .map(|next| PageCursor { at: Timestamp::from_micros(seen + i64::from(limit)), ..next });
        Ok(page)
    }

    async fn limited_first(&self, query: &PageQuery) -> Result<Page, StoreError> {
        let mut any = PageQuery::live(TenantFilter::Any, query.now);
        any.after = query.after;
        any.limit = query.limit;
        let mut page = self.store().page(&any).await?;
        page.sessions.retain(|session| query.covers(session));
        page.next = page.next.filter(|_| page.sessions.len() == query.limit as usize);
        Ok(page)
    }

    async fn by_use(&self, query: &PageQuery) -> Page {
        let place = |session: &Session| (Reverse(session.last_accessed), session.id);
        let after = query.after.map(|after| (Reverse(after.at), after.id));
        let mut all = self.alive().await;
        all.retain(|s| query.covers(s) && after.is_none_or(|after| place(s) > after));
        all.sort_by_key(place);
        let mut page = Page::cut(all, query.limit);
        if let (Some(next), Some(last)) = (&mut page.next, page.sessions.last()) {
            next.at = last.last_accessed;
        }
        page
    }
}

const MICROSECOND: Duration = Duration::from_micros(1);
