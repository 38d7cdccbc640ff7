//! What is kept of ended sessions.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use session_core::store::{
    EndedSession, Forget, HistoryPage, HistoryQuery, PageCursor, PageQuery, limit_within,
};
use session_core::{SessionId, Timestamp, UserKey};

type Place = (Reverse<Timestamp>, SessionId);

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    sessions: BTreeMap<SessionId, EndedSession>,
    latest_first: BTreeSet<Place>,
    /// The same by user; no user without any.
    of_users: BTreeMap<UserKey, BTreeSet<Place>>,
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
        self.remove(ended.session.id);
        let place = place(&ended);
        self.latest_first.insert(place);
        self.of_users.entry(ended.session.owner.clone()).or_default().insert(place);
        self.sessions.insert(ended.session.id, ended);
    }

    fn remove(&mut self, id: SessionId) {
        let Some(ended) = self.sessions.remove(&id) else { return };
        self.latest_first.remove(&place(&ended));
        if let Entry::Occupied(mut of_user) = self.of_users.entry(ended.session.owner.clone()) {
            of_user.get_mut().remove(&place(&ended));
            if of_user.get().is_empty() {
                of_user.remove();
            }
        }
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
        let leaving: Vec<_> = match forget {
            Forget::OlderThan(age) => {
                let line = now.minus(*age);
                let oldest_first = self.latest_first.iter().rev();
                let old = oldest_first.take_while(|(Reverse(ended), _)| *ended < line);
                old.take(most).map(|(_, id)| *id).collect()
            }
            Forget::User(owner) => {
                let of_user = self.of_users.get(owner).into_iter().flatten();
                of_user.rev().take(most).map(|(_, id)| *id).collect()
            }
        };
        leaving.iter().for_each(|id| self.remove(*id));
        u32::try_from(leaving.len()).unwrap_or(limit)
    }
}

const fn place(ended: &EndedSession) -> Place {
    (Reverse(ended.ended), ended.session.id)
}
