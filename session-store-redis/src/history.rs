//! What is kept of ended sessions.
//!
//! Each is a key of its own, which expires by itself, and has a place in the shard's history, in
//! its user's and, where there is a tenant, in the tenant's. Where the key has expired, the places
//! are left over: readers pass over them, as over a record that cannot be read, and
//! [`Forget::OlderThan`] deletes them.

use futures_util::future::try_join_all;
use redis::cmd;
use session_core::store::{
    EndedBatch, EndedSession, Forget, HistoryPage, HistoryQuery, PageQuery, TenantFilter, UserTag,
    limit_within,
};
use session_core::{SessionId, StoreError, UserKey};

use crate::link::Call;
use crate::place::Place;
use crate::placement::Shard;
use crate::store::RedisStore;
use crate::walk::{CHUNK, EXAMINED, Order, Range, Walk, places};
use crate::{ended, record};

/// One session that is to be forgotten.
struct Doomed {
    place: Place,
    owner: UserKey,
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
            let places = places(&walk.next(self, count, count).await?)?;
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
            Forget::OlderThan(age) => {
                let doomed = self.oldest(limit).await?;
                self.forget_all(&doomed, Some(age.as_micros())).await
            }
            Forget::User(owner) => self.forget_user(owner, limit).await,
        }
    }

    /// The sessions that ended first.
    async fn oldest(&self, count: usize) -> Result<Vec<Doomed>, StoreError> {
        let histories = self.placement.shards().map(|shard| self.placement.history(shard));
        let mut walk = Walk::over(histories.collect(), Range::default(), Order::Oldest);
        // Each shard has about as many as the others.
        let chunk = (2 * count).div_ceil(self.placement.shards().len()).min(count);
        let members = walk.next(self, count, chunk).await?;
        let doomed = members.iter().map(|member| {
            let place = Place::parse(member)?;
            Ok(Doomed { place, owner: record::parse_owner(&member[Place::BYTES..])? })
        });
        doomed.collect()
    }

    /// Another user's sessions are in the same index where their tags are the same.
    async fn forget_user(&self, owner: &UserKey, limit: usize) -> Result<u32, StoreError> {
        let history = self.placement.history_of(self.placement.tag(owner));
        let mut walk = Walk::over(vec![history], Range::default(), Order::Newest);
        let mut forgotten = 0;
        loop {
            let places = places(&walk.next(self, limit, limit).await?)?;
            let found = self.read_all_ended(&places).await?;
            let mut doomed = Vec::new();
            for (place, found) in places.iter().zip(found) {
                let of = found.map(|found| ended::owner_of(&found));
                // What cannot be read is not kept for that.
                if of.is_none_or(|of| of.map_or(true, |of| of == *owner)) {
                    doomed.push(Doomed { place: *place, owner: owner.clone() });
                }
            }
            forgotten += self.forget_all(&doomed, None).await?;
            if forgotten > 0 || places.len() < limit {
                return Ok(forgotten);
            }
        }
    }

    async fn forget_all(
        &self,
        doomed: &[Doomed],
        older_than: Option<u128>,
    ) -> Result<u32, StoreError> {
        let mut forgotten = 0;
        for (shard, sessions) in self.by_shard(doomed, |doomed| doomed.place.id()) {
            for sessions in sessions.chunks(CHUNK) {
                let call = self.forget_call(shard, sessions, older_than);
                forgotten += self.link.change::<u32>(&call).await?;
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
        for Doomed { place, owner } in sessions {
            let of_user = placement.history_of(UserTag::of(place.id()));
            let tenant = owner.tenant.as_ref();
            let of_tenant = tenant.map(|of| placement.history_of_tenant(shard, of.as_str()));
            call.key(placement.ended(shard, place.id())).key(of_user.as_str());
            call.key(of_tenant.unwrap_or(of_user));
            call.arg(place.as_bytes()).arg(record::owner(owner)).number(place.at().as_micros());
        }
        call
    }
}
