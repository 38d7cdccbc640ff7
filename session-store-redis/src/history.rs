//! What is kept of ended sessions.
//!
//! Each is a key of its own, which expires by itself, and has a place in the shard's history, in
//! its user's and, where there is a tenant, in the tenant's. Where the key has expired, the places
//! are left over: readers pass over them, as over a record that cannot be read, and
//! [`Forget::OlderThan`] deletes them. A member of an index that is damaged, and so leads to no record, goes
//! in the same way.

use std::time::Duration;

use futures_util::future::try_join_all;
use redis::cmd;
use session_core::store::{
    EndedBatch, EndedSession, Forget, HistoryPage, HistoryQuery, PageQuery, TenantFilter, UserTag,
    limit_within,
};
use session_core::{SessionId, StoreError, TenantId, UserKey};

use crate::link::Call;
use crate::place::Place;
use crate::placement::Shard;
use crate::store::RedisStore;
use crate::walk::{CHUNK, EXAMINED, Member, Order, Range, Walk, places};
use crate::{ended, record};

/// One session that is to be forgotten.
struct Doomed {
    place: Place,
    /// What its member in the shard's history has behind the place: the owner.
    owner: Vec<u8>,
    /// None where there is none, or where the owner cannot be read.
    tenant: Option<TenantId>,
}

/// What a call of the script has found.
#[derive(Default)]
struct Forgotten {
    /// What it has deleted.
    gone: u32,
    /// What is old enough, also where another call has deleted it.
    old: usize,
}

impl RedisStore {
    pub(crate) async fn read_ended(
        &self,
        id: SessionId,
    ) -> Result<Option<EndedSession>, StoreError> {
        let tag = UserTag::of(id);
        let mut read = cmd("GET");
        read.arg(self.placement.ended(self.placement.shard(tag), id));
        let found: Option<Vec<u8>> = self.read_settled(tag, read).await?;
        found.map(|bytes| ended::read(id, &bytes)).transpose()
    }

    /// As a page of sessions.
    pub(crate) async fn read_history(
        &self,
        query: &HistoryQuery,
    ) -> Result<HistoryPage, StoreError> {
        let limit = limit_within(query.limit, PageQuery::MAX_LIMIT);
        let after = query.after.map(Place::from);
        let range = Range { after, before: query.since.map(Place::last_of) };
        let mut walk = Walk::over(self.histories(query), range, Order::Newest);
        let mut sessions: Vec<EndedSession> = Vec::new();
        let (mut count, mut examined) = (limit as usize + 1, 0);
        loop {
            let places = places(&walk.next(self, count, count).await?);
            let found = self.read_all_ended(&places).await?;
            for (place, bytes) in places.iter().zip(found) {
                let read = bytes.map(|bytes| ended::read(place.id(), &bytes));
                sessions.extend(read.and_then(Result::ok).filter(|s| query.covers(s)));
            }
            examined += places.len();
            if sessions.len() > limit as usize || places.len() < count {
                return Ok(HistoryPage::cut(sessions, limit));
            }
            if examined >= EXAMINED {
                return Ok(HistoryPage { sessions, next: places.last().map(Place::cursor) });
            }
            count = CHUNK;
        }
    }

    /// The indexes that have all that a query covers.
    fn histories(&self, query: &HistoryQuery) -> Vec<String> {
        let placement = &self.placement;
        match (&query.tenant, &query.user) {
            (TenantFilter::Is(tenant), Some(user)) => {
                let owner = UserKey { tenant: tenant.clone(), user: user.clone() };
                vec![placement.history_of(placement.tag(&owner))]
            }
            (TenantFilter::Is(Some(tenant)), None) => {
                let of_shard = |shard| placement.history_of_tenant(shard, tenant.as_str());
                placement.shards().map(of_shard).collect()
            }
            (TenantFilter::Is(None), None) | (TenantFilter::Any, _) => {
                placement.shards().map(|shard| placement.history(shard)).collect()
            }
        }
    }

    /// The records of these places in their order, none where one has expired.
    async fn read_all_ended(&self, places: &[Place]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let numbered: Vec<_> = places.iter().enumerate().collect();
        let shards = self.by_shard(&numbered, |(_, place)| place.id());
        let chunks = shards
            .iter()
            .flat_map(|(shard, places)| places.chunks(CHUNK).map(|places| (*shard, places)));
        let read = chunks.map(|(shard, places)| async move {
            let mut pipeline = redis::pipe();
            for (_, place) in places {
                pipeline.cmd("GET").arg(self.placement.ended(shard, place.id()));
            }
            let found: Vec<Option<Vec<u8>>> = self.link.pipe(&pipeline).await?;
            let numbers = places.iter().map(|(n, _)| *n);
            Ok::<_, StoreError>(numbers.zip(found).collect::<Vec<_>>())
        });
        let mut records = vec![None; places.len()];
        for (n, found) in try_join_all(read).await?.into_iter().flatten() {
            records[n] = found;
        }
        Ok(records)
    }

    pub(crate) async fn delete_history(
        &self,
        forget: &Forget,
        limit: u32,
    ) -> Result<u32, StoreError> {
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT) as usize;
        match forget {
            Forget::OlderThan(age) => self.forget_old(*age, limit).await,
            Forget::User(owner) => self.forget_user(owner, limit).await,
        }
    }

    /// The sessions that ended first. Goes on behind those that others have deleted by now: zero says
    /// that none is left to go.
    async fn forget_old(&self, age: Duration, limit: usize) -> Result<u32, StoreError> {
        let histories = self.placement.shards().map(|shard| self.placement.history(shard));
        let mut walk = Walk::over(histories.collect(), Range::default(), Order::Oldest);
        // Each shard has about as many as the others.
        let chunk = (2 * limit).div_ceil(self.placement.shards().len()).min(limit);
        loop {
            let members = walk.next(self, limit, chunk).await?;
            let (is_end, mut gone, mut doomed) = (members.len() < limit, 0, Vec::new());
            for Member { index, bytes } in members {
                let shard = Shard(index);
                match self.doomed(shard, &bytes) {
                    Some(found) => doomed.push(found),
                    None => gone += self.remove(&self.placement.history(shard), &bytes).await?,
                }
            }
            let forgotten = self.forget_all(&doomed, Some(age.as_micros())).await?;
            gone += forgotten.gone;
            if gone > 0 || is_end || forgotten.old < doomed.len() {
                return Ok(gone);
            }
        }
    }

    /// The session that a member of a shard's history names; none where it is damaged, and names none
    /// of the shard.
    fn doomed(&self, shard: Shard, member: &[u8]) -> Option<Doomed> {
        let place = Place::parse(member).ok()?;
        if self.placement.shard(UserTag::of(place.id())) != shard {
            return None;
        }
        let owner = &member[Place::BYTES..];
        let tenant = record::parse_owner(owner).ok().and_then(|owner| owner.tenant);
        Some(Doomed { place, owner: owner.to_vec(), tenant })
    }

    /// Takes a damaged member out of an index: nothing else leads to it.
    async fn remove(&self, index: &str, member: &[u8]) -> Result<u32, StoreError> {
        tracing::warn!(index, "a member that names no session leaves the index");
        self.link.query(cmd("ZREM").arg(index).arg(member)).await
    }

    /// Another user's sessions are in the same index where their tags are the same.
    async fn forget_user(&self, owner: &UserKey, limit: usize) -> Result<u32, StoreError> {
        let history = self.placement.history_of(self.placement.tag(owner));
        let mut walk = Walk::over(vec![history.clone()], Range::default(), Order::Newest);
        loop {
            let members = walk.next(self, limit, limit).await?;
            let (is_end, mut gone, mut doomed) = (members.len() < limit, 0, Vec::new());
            let found = self.read_all_ended(&places(&members)).await?;
            for (Member { bytes, .. }, found) in members.iter().zip(found) {
                let Ok(place) = Place::parse(bytes) else {
                    gone += self.remove(&history, bytes).await?;
                    continue;
                };
                let of = found.map(|found| ended::owner_of(&found));
                // What cannot be read is not kept for that.
                if of.is_none_or(|of| of.map_or(true, |of| of == *owner)) {
                    let (tenant, owner) = (owner.tenant.clone(), record::owner(owner));
                    doomed.push(Doomed { place, owner, tenant });
                }
            }
            gone += self.forget_all(&doomed, None).await?.gone;
            if gone > 0 || is_end {
                return Ok(gone);
            }
        }
    }

    async fn forget_all(
        &self,
        doomed: &[Doomed],
        older_than: Option<u128>,
    ) -> Result<Forgotten, StoreError> {
        let mut forgotten = Forgotten::default();
        for (shard, sessions) in self.by_shard(doomed, |doomed| doomed.place.id()) {
            for sessions in sessions.chunks(CHUNK) {
                let call = self.forget_call(shard, sessions, older_than);
                let (gone, old): (u32, usize) = self.link.change(&call).await?;
                forgotten.gone += gone;
                forgotten.old += old;
            }
        }
        Ok(forgotten)
    }

    fn forget_call(
        &self,
        shard: Shard,
        sessions: &[&Doomed],
        older_than: Option<u128>,
    ) -> Call<'_> {
        let placement = &self.placement;
        let mut call = Call::new(&self.scripts.forget, placement, shard);
        call.key(placement.history(shard));
        call.arg(older_than.map(|age| age.to_string()).unwrap_or_default());
        for Doomed { place, owner, tenant } in sessions {
            let of_user = placement.history_of(UserTag::of(place.id()));
            let tenant = tenant.as_ref();
            let of_tenant = tenant.map(|of| placement.history_of_tenant(shard, of.as_str()));
            call.key(placement.ended(shard, place.id())).key(of_user.as_str());
            call.key(of_tenant.unwrap_or(of_user));
            call.arg(place.as_bytes()).arg(owner.as_slice()).number(place.at().as_micros());
        }
        call
    }
}
