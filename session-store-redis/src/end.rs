//! Ends sessions by selection, a bounded number of places at a time.
//!
//! A walk goes through one index after the other. A continuation is the number of the index and the
//! last place in it that was looked at.

use futures_util::future::try_join_all;
use redis::{Cmd, FromRedisValue, cmd};
use session_core::store::{
    Continuation, EndMany, EndedBatch, Ending, Recheck, Selection, TenantFilter, UserTag,
    limit_within,
};
use session_core::{SessionId, StoreError, Timestamp, UserKey};

use crate::ending::Chosen;
use crate::link::Wait;
use crate::place::Place;
use crate::placement::Shard;
use crate::record::Fixed;
use crate::store::RedisStore;
use crate::walk::{CHUNK, EXAMINED, Order, Range, unindexed};

/// Where sessions are looked for.
enum Source {
    /// Ids in their order, as places of one time.
    Listed(Vec<Place>),
    /// A part of a shard's index of places.
    Index(Shard, String, Range),
}

/// Where a walk over sources is.
struct Spot {
    source: u16,
    after: Option<Place>,
}

impl RedisStore {
    pub(crate) async fn end_selected(
        &self,
        end: &EndMany,
        limit: u32,
    ) -> Result<EndedBatch, StoreError> {
        let selection = &end.selection;
        selection.check().map_err(StoreError::refused)?;
        let shards = self.shards_of(selection);
        // Also where nothing is left to end: a second try announces what a first one has ended.
        self.announce(shards.iter().copied()).await?;
        let batch = self.end_some(end, limit).await?;
        self.still_announced(shards).await?;
        Ok(batch)
    }

    fn shards_of(&self, selection: &Selection) -> Vec<Shard> {
        let Selection { tenant, user, ids, .. } = selection;
        match (ids, tenant, user) {
            (Some(ids), _, _) => {
                ids.iter().map(|id| self.placement.shard(UserTag::of(*id))).collect()
            }
            (None, TenantFilter::Is(tenant), Some(user)) => {
                let owner = UserKey { tenant: tenant.clone(), user: user.clone() };
                vec![self.placement.shard(self.placement.tag(&owner))]
            }
            _ => self.placement.shards().collect(),
        }
    }

    async fn end_some(&self, end: &EndMany, limit: u32) -> Result<EndedBatch, StoreError> {
        let selection = &end.selection;
        let (recheck, ending) = (Recheck::from(end), Ending::from(end));
        let sources = self.sources(selection).await?;
        // The script that ends a session knows its last access.
        let choice = Selection { last_accessed_before: None, ..selection.clone() };
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT) as usize;
        let parse = |after: &Continuation| Spot::parse(after, sources.len());
        let mut spot = end.after.as_ref().map_or(Ok(Spot::START), parse)?;
        let (mut ended, mut examined) = (Vec::new(), 0);
        while let Some(source) = sources.get(usize::from(spot.source)) {
            if ended.len() >= limit || examined >= EXAMINED {
                return Ok(EndedBatch { ended, next: Some(spot.continuation()) });
            }
            let (places, is_last) = self.next_places(source, spot.after).await?;
            examined += places.len();
            let mut chosen = self.choose(&choice, &places).await?;
            // What is too much is left to the call that goes on before the first of it.
            let left = limit - ended.len();
            let cut = chosen.get(left).map(|(n, _)| *n);
            chosen.truncate(left);
            let chosen: Vec<_> = chosen.into_iter().map(|(_, chosen)| chosen).collect();
            ended.extend(self.end_chosen(&chosen, recheck, &ending).await?);
            spot = match cut {
                Some(n) => spot.at(places[..n].last()),
                None if is_last => spot.beyond(),
                None => spot.at(places.last()),
            };
        }
        Ok(EndedBatch { ended, next: None })
    }

    async fn sources(&self, selection: &Selection) -> Result<Vec<Source>, StoreError> {
        let Selection { tenant, user, ids, signed_in_before, .. } = selection;
        if let Some(ids) = ids {
            return Ok(vec![Source::listed(ids.iter().copied())]);
        }
        let after = signed_in_before.map(Place::last_of);
        let range = Range { after, before: None };
        let indexes = self.placement.shards().zip(self.indexes(tenant, user.as_ref()));
        let of_index = |(shard, key)| Source::Index(shard, key, range);
        let mut sources: Vec<_> = indexes.map(of_index).collect();
        if let Some(owner) = unindexed(tenant, user.as_ref()) {
            let tag = self.placement.tag(&owner);
            let mut read = cmd("HKEYS");
            read.arg(self.placement.user(tag));
            let names: Vec<Vec<u8>> = self.confirmed(self.placement.shard(tag), read).await?;
            let ids = names.into_iter().filter_map(|name| <[u8; 16]>::try_from(name).ok());
            sources.push(Source::listed(ids.map(SessionId::from_bytes)));
        }
        Ok(sources)
    }

    /// A read that may be all that a second try finds.
    async fn confirmed<T: FromRedisValue>(&self, shard: Shard, read: Cmd) -> Result<T, StoreError> {
        let mut commands = redis::pipe();
        commands.add_command(read);
        let (answer,) = self.link.confirmed(commands, &Wait::on(&self.placement, shard)).await?;
        Ok(answer)
    }

    /// The next places of a source, and whether they are its last.
    async fn next_places(
        &self,
        source: &Source,
        after: Option<Place>,
    ) -> Result<(Vec<Place>, bool), StoreError> {
        match source {
            Source::Index(shard, key, range) => {
                let range = Range { after: after.or(range.after), ..*range };
                let read = range.read(key, Order::Newest, None, CHUNK);
                let members: Vec<Vec<u8>> = self.confirmed(*shard, read).await?;
                let is_last = members.len() < CHUNK;
                Ok((members.iter().map(|member| Place::of_member(member)).collect(), is_last))
            }
            Source::Listed(places) => {
                let from = places.partition_point(|place| after.is_some_and(|a| *place <= a));
                let next: Vec<_> = places[from..].iter().take(CHUNK).copied().collect();
                let is_last = from + next.len() == places.len();
                Ok((next, is_last))
            }
        }
    }

    /// Those of the places whose sessions are selected, each with its number among the places. Passes
    /// over a session where what the selection goes by cannot be read.
    async fn choose(
        &self,
        selection: &Selection,
        places: &[Place],
    ) -> Result<Vec<(usize, Chosen)>, StoreError> {
        let numbered: Vec<_> = places.iter().enumerate().collect();
        let shards = self.by_shard(&numbered, |(_, place)| place.id());
        let read = shards.iter().map(|(shard, places)| async move {
            let mut pipeline = redis::pipe();
            for (_, place) in places {
                let key = self.placement.user(UserTag::of(place.id()));
                pipeline.cmd("HGET").arg(key).arg(&place.id().as_bytes()[..]);
            }
            let wait = Wait::on(&self.placement, *shard);
            let found: Vec<Option<Vec<u8>>> = self.link.confirmed(pipeline, &wait).await?;
            let mut chosen = Vec::new();
            for ((n, place), fixed) in places.iter().zip(&found) {
                let (Some(fixed), id) = (fixed, place.id()) else { continue };
                match selected(id, fixed, selection) {
                    Ok(found) => chosen.extend(found.map(|found| (*n, found))),
                    Err(error) => tracing::warn!(%id, %error, "a session cannot be read to end it"),
                }
            }
            Ok::<_, StoreError>(chosen)
        });
        let mut chosen: Vec<_> = try_join_all(read).await?.into_iter().flatten().collect();
        chosen.sort_by_key(|(n, _)| *n);
        Ok(chosen)
    }
}

fn selected(
    id: SessionId,
    fixed: &[u8],
    selection: &Selection,
) -> Result<Option<Chosen>, StoreError> {
    let fixed = Fixed::parse(fixed)?;
    let owner = fixed.selected(id, selection)?;
    Ok(owner.map(|owner| Chosen { place: fixed.place(id), owner }))
}

impl Source {
    fn listed(ids: impl Iterator<Item = SessionId>) -> Self {
        let mut places: Vec<_> = ids.map(|id| Place::new(Timestamp::EPOCH, id)).collect();
        places.sort();
        places.dedup();
        Self::Listed(places)
    }
}

impl Spot {
    const START: Self = Self { source: 0, after: None };

    fn at(self, last: Option<&Place>) -> Self {
        Self { source: self.source, after: last.copied().or(self.after) }
    }

    const fn beyond(self) -> Self {
        Self { source: self.source + 1, after: None }
    }

    fn continuation(&self) -> Continuation {
        let after = self.after.as_ref().map_or(&[][..], Place::as_bytes);
        Continuation([&self.source.to_be_bytes()[..], after].concat())
    }

    /// In a walk over so many sources. None goes on behind the last one.
    fn parse(continuation: &Continuation, sources: usize) -> Result<Self, StoreError> {
        let (source, after) =
            continuation.0.split_first_chunk().ok_or_else(Continuation::malformed)?;
        let source = u16::from_be_bytes(*source);
        if usize::from(source) >= sources {
            return Err(Continuation::malformed());
        }
        let after = match after.len() {
            0 => None,
            Place::BYTES => Some(Place::parse(after).map_err(StoreError::refused)?),
            _ => return Err(Continuation::malformed()),
        };
        Ok(Self { source, after })
    }
}
