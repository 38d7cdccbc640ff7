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
/// [`MAX_EXAMINED`](session_core::store::PageQuery::MAX_EXAMINED), so that a call that finds nothing
/// ends within some tens of milliseconds.
pub(crate) const EXAMINED: usize = 16 * CHUNK;

/// A walk over several indexes at once, merged.
pub(crate) struct Walk {
    indexes: Vec<Index>,
}

struct Index {
    key: Option<String>,
    /// What has been read and not been passed on.
    ahead: VecDeque<Place>,
    after: Option<Place>,
    done: bool,
}

impl RedisStore {
    /// Begins to walk over sessions in the order of pages: all of a tenant, of a user, or all.
    pub(crate) async fn walk(
        &self,
        tenant: &TenantFilter,
        user: Option<&UserId>,
        after: Option<Place>,
    ) -> Result<Walk, StoreError> {
        let keys = self.indexes(tenant, user);
        let mut indexes: Vec<_> = keys.into_iter().map(|key| Index::new(key, after)).collect();
        if let Some(owner) = unindexed(tenant, user) {
            indexes.push(self.places_of(&owner, after).await?);
        }
        Ok(Walk { indexes })
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

    async fn places_of(&self, owner: &UserKey, after: Option<Place>) -> Result<Index, StoreError> {
        let (_, sessions) = self.sessions_of(owner).await?;
        let places = sessions.iter().map(Place::of);
        let mut places: Vec<_> = places.filter(|place| after.is_none_or(|a| *place > a)).collect();
        places.sort();
        Ok(Index { key: None, ahead: places.into(), after, done: true })
    }
}

/// The user whose sessions are in no index that [`RedisStore::indexes`] names: a user's own key serves
/// as one.
pub(crate) fn unindexed(tenant: &TenantFilter, user: Option<&UserId>) -> Option<UserKey> {
    let tenant = match tenant {
        TenantFilter::Is(tenant) => tenant.clone(),
        TenantFilter::Any => None,
    };
    Some(UserKey { tenant, user: user?.clone() })
}

/// Reads the next members of an index of places.
pub(crate) fn range(key: &str, after: Option<Place>, count: usize) -> Cmd {
    let mut from = vec![b'-'];
    if let Some(after) = &after {
        from = [b"(", after.as_bytes()].concat();
    }
    let mut read = cmd("ZRANGE");
    read.arg(key).arg(from).arg("+").arg("BYLEX").arg("LIMIT").arg(0).arg(count);
    read
}

pub(crate) fn places(members: &[Vec<u8>]) -> Result<Vec<Place>, StoreError> {
    members.iter().map(|member| Ok(Place::parse(member)?)).collect()
}

impl Walk {
    /// The next places, at most this many: fewer at the end.
    pub(crate) async fn next(
        &mut self,
        store: &RedisStore,
        count: usize,
    ) -> Result<Vec<Place>, StoreError> {
        let mut places = Vec::with_capacity(count);
        while places.len() < count {
            // An index that has run dry may hold what comes next.
            let dry = self.indexes.iter_mut().filter(|index| index.ahead.is_empty());
            try_join_all(dry.map(|index| index.read(store, count))).await?;
            let next = self.indexes.iter_mut().filter(|index| !index.ahead.is_empty());
            let Some(index) = next.min_by_key(|index| index.ahead[0]) else { break };
            places.extend(index.ahead.pop_front());
        }
        Ok(places)
    }
}

impl Index {
    const fn new(key: String, after: Option<Place>) -> Self {
        Self { key: Some(key), ahead: VecDeque::new(), after, done: false }
    }

    async fn read(&mut self, store: &RedisStore, count: usize) -> Result<(), StoreError> {
        let (Some(key), false) = (&self.key, self.done) else { return Ok(()) };
        let members: Vec<_> = store.link.query(&range(key, self.after, count)).await?;
        let places = places(&members)?;
        self.done = places.len() < count;
        self.after = places.last().copied().or(self.after);
        self.ahead.extend(places);
        Ok(())
    }
}
