//! Ends sessions by selection and by rule, a bounded number of places at a time.
//!
//! A walk goes through one index after the other. A continuation is the number of the index and the
//! last place in it that was looked at.

use futures_util::future::try_join_all;
use redis::{Cmd, FromRedisValue, cmd};
use session_core::cleanup::SweepRule;
use session_core::store::{
    Continuation, EndMany, Ended, EndedBatch, Selection, Sweep, TenantFilter, UserTag, limit_within,
};
use session_core::{Actor, EndCause, Event, EventKind, SessionId, StoreError, Timestamp, UserKey};

use crate::change::{BATCH, confirm, optional};
use crate::entry;
use crate::link::{Call, Wait};
use crate::place::Place;
use crate::placement::Shard;
use crate::record::{self, Fixed};
use crate::store::RedisStore;
use crate::walk::{CHUNK, EXAMINED, places, range, unindexed};

/// The log entry of the sessions that end, and the sweep rule, if any.
struct Ending {
    kind: EventKind,
    at: Timestamp,
    by: Actor,
    rule: Option<SweepRule>,
}

/// One session to end.
struct Chosen {
    place: Place,
    owner: UserKey,
}

/// Where sessions are looked for.
enum Source {
    /// Ids in their order, as places of one time.
    Listed(Vec<Place>),
    /// A shard's index of places.
    Index(Shard, String),
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
        let kind = EventKind::Ended(end.cause);
        let ending = Ending { kind, at: end.at, by: end.by.clone(), rule: None };
        let sources = self.sources(selection).await?;
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT) as usize;
        let mut spot = end.after.as_ref().map_or(Ok(Spot::START), Spot::parse)?;
        let (mut ended, mut examined) = (Vec::new(), 0);
        while let Some(source) = sources.get(usize::from(spot.source)) {
            if ended.len() >= limit || examined >= EXAMINED {
                return Ok(EndedBatch { ended, next: Some(spot.continuation()) });
            }
            let (places, is_last) = self.next_places(source, spot.after).await?;
            examined += places.len();
            let mut chosen = self.choose(selection, &places).await?;
            // What is too much is left to the call that goes on before the first of it.
            let left = limit - ended.len();
            let cut = chosen.get(left).map(|(n, _)| *n);
            chosen.truncate(left);
            let chosen: Vec<_> = chosen.into_iter().map(|(_, chosen)| chosen).collect();
            ended.extend(self.end_chosen(&chosen, &ending).await?);
            spot = match cut {
                Some(n) => spot.at(places[..n].last()),
                None if is_last => spot.beyond(),
                None => spot.at(places.last()),
            };
        }
        Ok(EndedBatch { ended, next: None })
    }

    async fn sources(&self, selection: &Selection) -> Result<Vec<Source>, StoreError> {
        let Selection { tenant, user, ids, .. } = selection;
        if let Some(ids) = ids {
            return Ok(vec![Source::listed(ids.iter().copied())]);
        }
        let indexes = self.placement.shards().zip(self.indexes(tenant, user.as_ref()));
        let mut sources: Vec<_> = indexes.map(|(shard, key)| Source::Index(shard, key)).collect();
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
            Source::Index(shard, key) => {
                let members: Vec<_> = self.confirmed(*shard, range(key, after, CHUNK)).await?;
                let places = places(&members)?;
                let is_last = places.len() < CHUNK;
                Ok((places, is_last))
            }
            Source::Listed(places) => {
                let from = places.partition_point(|place| after.is_some_and(|a| *place <= a));
                let next: Vec<_> = places[from..].iter().take(CHUNK).copied().collect();
                let is_last = from + next.len() == places.len();
                Ok((next, is_last))
            }
        }
    }

    /// Those of the places whose sessions are selected, each with its number among the places.
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
                let Some(fixed) = fixed else { continue };
                let fixed = Fixed::parse(fixed)?;
                if let Some(owner) = fixed.selected(place.id(), selection)? {
                    chosen.push((*n, Chosen { place: fixed.place(place.id()), owner }));
                }
            }
            Ok::<_, StoreError>(chosen)
        });
        let mut chosen: Vec<_> = try_join_all(read).await?.into_iter().flatten().collect();
        chosen.sort_by_key(|(n, _)| *n);
        Ok(chosen)
    }

    /// Chooses by the indexes; the script that ends the sessions checks the rule again.
    pub(crate) async fn end_old(
        &self,
        sweep: &Sweep,
        limit: u32,
    ) -> Result<EndedBatch, StoreError> {
        self.announce(self.placement.shards()).await?;
        let batch = self.sweep_some(sweep, limit).await?;
        self.still_announced(self.placement.shards()).await?;
        Ok(batch)
    }

    async fn sweep_some(&self, sweep: &Sweep, limit: u32) -> Result<EndedBatch, StoreError> {
        let Sweep { rule, after, at } = sweep;
        let kind = EventKind::Ended(EndCause::Expired);
        let ending = Ending { kind, at: *at, by: Actor::System, rule: Some(*rule) };
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT) as usize;
        let lines = self.lines(rule);
        let mut line = after.as_ref().map_or(Ok(Line::START), Line::parse)?;
        let (mut ended, mut examined) = (Vec::new(), 0);
        while let Some((shard, index, until)) = lines.get(usize::from(line.index)) {
            if ended.len() >= limit || examined >= EXAMINED {
                return Ok(EndedBatch { ended, next: Some(line.continuation()) });
            }
            let count = CHUNK.min(limit - ended.len());
            let (chosen, last) = self.past(*shard, &line.range(index, until, count)).await?;
            examined += chosen.len();
            let some = self.end_chosen(&chosen, &ending).await?;
            line = match last {
                Some(last) if chosen.len() == count => {
                    line.after(last, !some.is_empty() || count < CHUNK)
                }
                _ => line.beyond(),
            };
            ended.extend(some);
        }
        Ok(EndedBatch { ended, next: None })
    }

    /// The indexes by time of every shard, and up to which score the rule covers them.
    fn lines(&self, rule: &SweepRule) -> Vec<(Shard, String, String)> {
        let inactive = format!("({}", rule.inactive_before.as_micros());
        let expired = rule.expired_by.as_micros().to_string();
        let of_shard = |shard| {
            let used = (shard, self.placement.used(shard), inactive.clone());
            [used, (shard, self.placement.expiring(shard), expired.clone())]
        };
        self.placement.shards().flat_map(of_shard).collect()
    }

    /// The next sessions of an index by time, and the score of the last.
    async fn past(
        &self,
        shard: Shard,
        read: &Cmd,
    ) -> Result<(Vec<Chosen>, Option<i64>), StoreError> {
        let members: Vec<(Vec<u8>, f64)> = self.confirmed(shard, read.clone()).await?;
        let chosen = members.iter().map(|(member, _)| {
            let place = Place::parse(member)?;
            Ok(Chosen { place, owner: record::parse_owner(&member[Place::BYTES..])? })
        });
        let chosen = chosen.collect::<Result<Vec<_>, StoreError>>()?;
        Ok((chosen, members.last().map(|(_, score)| *score as i64)))
    }

    async fn end_chosen(
        &self,
        chosen: &[Chosen],
        ending: &Ending,
    ) -> Result<Vec<Ended>, StoreError> {
        let mut ended = Vec::new();
        let placement = &self.placement;
        for (shard, sessions) in self.by_shard(chosen, |chosen| chosen.place.id()) {
            for sessions in sessions.chunks(BATCH) {
                let mut call = Call::new(&self.scripts.end_sessions, placement, shard);
                call.key(placement.all(shard)).key(placement.used(shard));
                call.key(placement.expiring(shard)).key(placement.log(shard));
                self.logging(&mut call)?;
                call.arg(optional(ending.rule.map(|rule| rule.inactive_before.as_micros())));
                call.arg(optional(ending.rule.map(|rule| rule.expired_by.as_micros())));
                for Chosen { place, owner } in sessions {
                    self.keys_of(&mut call, place, owner);
                    call.arg(record::owner(owner)).arg(place.as_bytes());
                    call.list(&entry::parts(&ending.event(place.id(), owner)));
                }
                let doubt = sessions.iter().map(|chosen| UserTag::of(chosen.place.id()));
                let doubt = self.doubt(doubt)?;
                let gone: Vec<usize> = self.link.change(&call).await?;
                confirm(doubt);
                ended.extend(gone.into_iter().filter_map(|n| {
                    let Chosen { place, owner } = sessions.get(n - 1)?;
                    Some(Ended { id: place.id(), owner: owner.clone() })
                }));
            }
        }
        Ok(ended)
    }

    fn keys_of(&self, call: &mut Call<'_>, place: &Place, owner: &UserKey) {
        let tag = UserTag::of(place.id());
        let (shard, user) = (self.placement.shard(tag), self.placement.user(tag));
        call.key(user.as_str());
        match &owner.tenant {
            Some(tenant) => {
                call.key(self.placement.tenant(shard, tenant.as_str()));
                call.key(self.placement.name(shard, owner.user.as_str()));
            }
            // Keys must be declared; without a tenant the script does not use these two.
            None => {
                call.key(user.as_str()).key(user.as_str());
            }
        }
    }
}

impl Ending {
    fn event(&self, id: SessionId, owner: &UserKey) -> Event {
        Event::of_session(self.kind, self.at, self.by.clone(), owner.clone(), id)
    }
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

    fn parse(continuation: &Continuation) -> Result<Self, StoreError> {
        let (source, after) =
            continuation.0.split_first_chunk().ok_or_else(Continuation::malformed)?;
        let after = match after.len() {
            0 => None,
            Place::BYTES => Some(Place::parse(after).map_err(StoreError::refused)?),
            _ => return Err(Continuation::malformed()),
        };
        Ok(Self { source: u16::from_be_bytes(*source), after })
    }
}

/// Where a sweep is: in which index, and at which score.
struct Line {
    index: u16,
    /// The score of the last session that was looked at.
    score: i64,
    /// Whether others of the same score may be left.
    again: bool,
}

impl Line {
    const START: Self = Self { index: 0, score: i64::MIN, again: true };

    /// Those that ended have left the index, those that are in use again have moved on in it. If none
    /// of a whole chunk ended, nothing is to be gained by looking at its last score again.
    const fn after(self, score: i64, again: bool) -> Self {
        Self { index: self.index, score, again }
    }

    const fn beyond(self) -> Self {
        Self { index: self.index + 1, ..Self::START }
    }

    /// Reads the next members of this index, up to a score.
    fn range(&self, index: &str, until: &str, count: usize) -> Cmd {
        let open = if self.again { "" } else { "(" };
        let mut read = cmd("ZRANGE");
        read.arg(index).arg(format!("{open}{}", self.score)).arg(until).arg("BYSCORE");
        read.arg("LIMIT").arg(0).arg(count).arg("WITHSCORES");
        read
    }

    fn continuation(&self) -> Continuation {
        let again = [u8::from(self.again)];
        Continuation([&self.index.to_be_bytes()[..], &again, &self.score.to_be_bytes()].concat())
    }

    fn parse(continuation: &Continuation) -> Result<Self, StoreError> {
        let (index, rest) =
            continuation.0.split_first_chunk().ok_or_else(Continuation::malformed)?;
        let (again, score) = rest.split_first().ok_or_else(Continuation::malformed)?;
        let score = i64::from_be_bytes(score.try_into().map_err(|_| Continuation::malformed())?);
        Ok(Self { index: u16::from_be_bytes(*index), score, again: *again == 1 })
    }
}
