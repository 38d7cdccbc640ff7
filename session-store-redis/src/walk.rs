//! Walks over places in indexes, in the order of pages.

use std::collections::VecDeque;

use futures_util::future::try_join_all;
use redis::{Cmd, cmd};
use session_core::store::TenantFilter;
use session_core::{StoreError, UserId, UserKey};

use crate::place::Place;
use crate::placement::Shard;
use crate::store::RedisStore;

/// The most records, or members of an index, in one command's answer.
pub(crate) const CHUNK: usize = 256;

/// The most places that one call examines: fewer than
/// [`MAX_EXAMINED`](session_core::store::PageQuery::MAX_EXAMINED), so that a call that finds
/// nothing ends within some tens of milliseconds.
pub(crate) const EXAMINED: usize = 8 * CHUNK;

/// A walk over several indexes at once, merged. It passes on members as they are.
pub(crate) struct Walk {
    indexes: Vec<Index>,
    order: Order,
}

/// What a walk passes on.
pub(crate) struct Member {
    /// The number of the index that it is in, among those of the walk.
    pub(crate) index: usize,
    pub(crate) bytes: Vec<u8>,
}

/// In which order members come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The latest time first.
    Newest,
    /// The earliest time first.
    Oldest,
}

struct Index {
    key: Option<String>,
    /// What has been read and not been passed on.
    ahead: VecDeque<Vec<u8>>,
    range: Range,
    /// The last member that has been read: a damaged one may have no place.
    last: Option<Vec<u8>>,
    done: bool,
}

/// A part of an index, in the order of pages.
#[derive(Clone, Copy, Default)]
pub(crate) struct Range {
    /// What comes after this place; none for the beginning.
    pub(crate) after: Option<Place>,
    /// What comes before this one; none for the end.
    pub(crate) before: Option<Place>,
}

impl RedisStore {
    /// Begins to walk over sessions in the order of pages: all of a tenant, of a user, or all.
    pub(crate) async fn walk(
        &self,
        tenant: &TenantFilter,
        user: Option<&UserId>,
        after: Option<Place>,
    ) -> Result<Walk, StoreError> {
        let range = Range { after, before: None };
        let mut walk = Walk::over(self.indexes(tenant, user), range, Order::Newest);
        if let Some(owner) = unindexed(tenant, user) {
            walk.indexes.push(self.places_of(&owner, range).await?);
        }
        Ok(walk)
    }

    /// The indexes that hold the places of these sessions, one of each shard.
    pub(crate) fn indexes(&self, tenant: &TenantFilter, user: Option<&UserId>) -> Vec<String> {
        let placement = &self.placement;
        let of_each = |key: &dyn Fn(Shard) -> String| placement.shards().map(key).collect();
        match (tenant, user) {
            (TenantFilter::Is(_), Some(_)) => Vec::new(),
            (TenantFilter::Any, Some(user)) => {
                of_each(&|shard| placement.name(shard, user.as_str()))
            }
            (TenantFilter::Is(Some(tenant)), None) => {
                of_each(&|shard| placement.tenant(shard, tenant.as_str()))
            }
            // The users outside all tenants have no index: most often they are all users.
            (TenantFilter::Is(None) | TenantFilter::Any, None) => {
                of_each(&|shard| placement.all(shard))
            }
        }
    }

    async fn places_of(&self, owner: &UserKey, range: Range) -> Result<Index, StoreError> {
        let mut places = self.own_places(owner).await?;
        places.retain(|place| range.after.is_none_or(|after| *place > after));
        places.sort();
        let ahead = places.iter().map(|place| place.as_bytes().to_vec()).collect();
        Ok(Index { key: None, ahead, range, last: None, done: true })
    }
}

/// The user whose sessions are in no index that [`RedisStore::indexes`] names: a user's own key
/// serves as one.
pub(crate) fn unindexed(tenant: &TenantFilter, user: Option<&UserId>) -> Option<UserKey> {
    let tenant = match tenant {
        TenantFilter::Is(tenant) => tenant.clone(),
        TenantFilter::Any => None,
    };
    Some(UserKey { tenant, user: user?.clone() })
}

impl Range {
    /// Reads the members of an index of places that come after `last`, or the first ones. Members may
    /// have more after their place.
    pub(crate) fn read(self, key: &str, order: Order, last: Option<&[u8]>, count: usize) -> Cmd {
        let place = |place: Place, end: &[u8]| [b"(", place.as_bytes(), end].concat();
        let mut from = self.after.map_or_else(|| b"-".to_vec(), |after| place(after, &[u8::MAX]));
        let mut to = self.before.map_or_else(|| b"+".to_vec(), |before| place(before, &[]));
        if let Some(last) = last {
            let end = if order == Order::Newest { &mut from } else { &mut to };
            *end = [b"(", last].concat();
        }
        let mut read = cmd("ZRANGE");
        read.arg(key);
        match order {
            Order::Newest => read.arg(from).arg(to).arg("BYLEX"),
            Order::Oldest => read.arg(to).arg(from).arg("BYLEX").arg("REV"),
        };
        read.arg("LIMIT").arg(0).arg(count);
        read
    }
}

/// The places of members. At that of a damaged one there is no session.
pub(crate) fn places(members: &[Member]) -> Vec<Place> {
    members.iter().map(|member| Place::of_member(&member.bytes)).collect()
}

impl Walk {
    pub(crate) fn over(keys: Vec<String>, range: Range, order: Order) -> Self {
        let index = |key| {
            let ahead = VecDeque::new();
            Index { key: Some(key), ahead, range, last: None, done: false }
        };
        Self { indexes: keys.into_iter().map(index).collect(), order }
    }

    /// The next members, at most this many: fewer at the end. Reads a chunk of an index at a time.
    pub(crate) async fn next(
        &mut self,
        store: &RedisStore,
        count: usize,
        chunk: usize,
    ) -> Result<Vec<Member>, StoreError> {
        let mut members = Vec::with_capacity(count);
        while members.len() < count {
            // An index that has run dry may hold what comes next.
            let order = self.order;
            let dry = self.indexes.iter_mut().filter(|index| index.ahead.is_empty());
            try_join_all(dry.map(|index| index.read(store, order, chunk))).await?;
            let next = self.indexes.iter_mut().enumerate();
            let next = next.filter(|(_, index)| !index.ahead.is_empty());
            let next = match order {
                Order::Newest => next.min_by(|(_, a), (_, b)| a.ahead[0].cmp(&b.ahead[0])),
                Order::Oldest => next.max_by(|(_, a), (_, b)| a.ahead[0].cmp(&b.ahead[0])),
            };
            let Some((n, index)) = next else { break };
            members.extend(index.ahead.pop_front().map(|bytes| Member { index: n, bytes }));
        }
        Ok(members)
    }
}

impl Index {
    async fn read(
        &mut self,
        store: &RedisStore,
        order: Order,
        count: usize,
    ) -> Result<(), StoreError> {
        let (Some(key), false) = (&self.key, self.done) else { return Ok(()) };
        let read = self.range.read(key, order, self.last.as_deref(), count);
        let members: Vec<Vec<u8>> = store.link.query(&read).await?;
        self.done = members.len() < count;
        self.last = members.last().cloned();
        self.ahead.extend(members);
        Ok(())
    }
}
