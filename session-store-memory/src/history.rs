//! What is kept of ended sessions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use session_core::store::{
    EndedSession, Forget, HistoryPage, HistoryQuery, PageCursor, PageQuery, limit_within,
};
use session_core::{SessionId, Timestamp};

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    sessions: BTreeMap<SessionId, EndedSession>,
    latest_first: BTreeSet<(Reverse<Timestamp>, SessionId)>,
    /// Nothing is kept.
    pub(crate) off: bool,
}

impl History {
    pub(crate) fn get(&self, id: SessionId) -> Option<&EndedSession> {
        self.sessions.get(&id)
    }

    pub(crate) fn add(&mut self, ended: EndedSession) {
        if self.off {
            return;
        }
        let id = ended.session.id;
        self.latest_first.insert((Reverse(ended.ended), id));
        self.sessions.insert(id, ended);
    }

    pub(crate) fn page(&self, query: &HistoryQuery) -> HistoryPage {
        let after = query.after.map(|PageCursor { at, id }| (Reverse(at), id));
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let limit = limit_within(query.limit, PageQuery::MAX_LIMIT);
        let mut covered = Vec::new();
        let walk = self.latest_first.range((from, Bound::Unbounded));
        for (examined, (_, id)) in (1..).zip(walk) {
            let Some(ended) = self.sessions.get(id) else { continue };
            if query.covers(ended) {
                covered.push(ended.clone());
            }
            if covered.len() > limit as usize {
                break;
            }
            if examined == PageQuery::MAX_EXAMINED {
                return HistoryPage { sessions: covered, next: Some(ended.position()) };
            }
        }
        HistoryPage::cut(covered, limit)
    }

    pub(crate) fn forget(&mut self, forget: &Forget, now: Timestamp, limit: u32) -> u32 {
        let most = limit as usize;
        let oldest_first = self.latest_first.iter().rev();
        let leaving: Vec<_> = match forget {
            Forget::OlderThan(age) => {
                let line = now.minus(*age);
                let old = oldest_first.take_while(|(Reverse(ended), _)| *ended < line);
                old.take(most).copied().collect()
            }
            Forget::User(owner) => {
                let is_of = |ended: &EndedSession| ended.session.owner == *owner;
                let of = oldest_first.filter(|(_, id)| self.sessions.get(id).is_some_and(is_of));
                of.take(most).copied().collect()
            }
        };
        for place in &leaving {
            self.latest_first.remove(place);
            self.sessions.remove(&place.1);
        }
        u32::try_from(leaving.len()).unwrap_or(limit)
    }
}
