//! What a selection and a sweep do to the sessions that they have chosen, and the sweep itself.

use session_core::store::{
    Continuation, Ended, EndedBatch, Ending, Recheck, Sweep, UserTag, limit_within,
};
use session_core::{StoreError, UserKey};

use crate::change::{BATCH, confirm};
use crate::link::Call;
use crate::place::{Place, sort_key};
use crate::placement::Shard;
use crate::store::RedisStore;
use crate::walk::{CHUNK, EXAMINED};
use crate::{ended, entry, record};

/// One session to end.
pub(crate) struct Chosen {
    pub(crate) place: Place,
    pub(crate) owner: UserKey,
}

impl RedisStore {
    /// Goes through one shard after the other. What is chosen either ends or is in use again: in
    /// both cases it is not chosen a second time, so a continuation is the number of the shard. A
    /// member that cannot be read stays where it is, before all that each call looks at.
    pub(crate) async fn end_overdue(
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
        let limit = limit_within(limit, EndedBatch::MAX_LIMIT) as usize;
        let (recheck, ending) = (Recheck::from(sweep), Ending::from(sweep));
        let shard_of = |after: &Continuation| shard_of(after, self.placement.shards().len());
        let first = sweep.after.as_ref().map_or(Ok(Shard::FIRST), shard_of)?;
        let (mut ended, mut examined) = (Vec::new(), 0);
        for shard in self.placement.shards().skip(first.0) {
            let mut unreadable = 0;
            loop {
                if ended.len() >= limit || examined >= EXAMINED {
                    return Ok(EndedBatch { ended, next: Some(continuation(shard)) });
                }
                let count = CHUNK.min(limit - ended.len());
                let members = self.overdue(shard, sweep, unreadable, count).await?;
                examined += members.len();
                let read = members.iter().filter_map(|member| self.readable(shard, member));
                let chosen: Vec<_> = read.collect();
                unreadable += members.len() - chosen.len();
                ended.extend(self.end_chosen(&chosen, recheck, &ending).await?);
                // Behind so many that cannot be read, a walk would not come to its end.
                if members.len() < count || unreadable >= EXAMINED {
                    break;
                }
            }
            if unreadable > 0 {
                tracing::warn!(unreadable, "sessions cannot be read to end them");
            }
        }
        Ok(EndedBatch { ended, next: None })
    }

    /// The sessions of a shard that are overdue, by its server's clock, as the index names them: up to
    /// `count` behind the first `passed_over`.
    async fn overdue(
        &self,
        shard: Shard,
        sweep: &Sweep,
        passed_over: usize,
        count: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut call = Call::new(&self.scripts.overdue, &self.placement, shard);
        call.key(self.placement.due(shard)).number(sweep.overdue.as_micros());
        call.number(passed_over).number(count);
        // It may be all that a second try finds.
        self.link.change(&call).await
    }

    /// Ends those that are there and for which the recheck holds.
    pub(crate) async fn end_chosen(
        &self,
        chosen: &[Chosen],
        recheck: Recheck,
        ending: &Ending,
    ) -> Result<Vec<Ended>, StoreError> {
        let mut ended = Vec::new();
        for (shard, sessions) in self.by_shard(chosen, |chosen| chosen.place.id()) {
            for sessions in sessions.chunks(BATCH) {
                let call = self.ending_call(shard, sessions, recheck, ending)?;
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

    /// The session that a member of a shard's index names. One that cannot be read, or that names a
    /// session of another shard, stops no cleanup.
    fn readable(&self, shard: Shard, member: &[u8]) -> Option<Chosen> {
        let parse = || -> Result<_, StoreError> {
            let place = Place::parse(member)?;
            Ok(Chosen { place, owner: record::parse_owner(&member[Place::BYTES..])? })
        };
        parse()
            .inspect_err(|error| tracing::debug!(%error, "a session cannot be read to end it"))
            .ok()
            .filter(|chosen| self.placement.shard(UserTag::of(chosen.place.id())) == shard)
    }

    fn ending_call(
        &self,
        shard: Shard,
        sessions: &[&Chosen],
        recheck: Recheck,
        ending: &Ending,
    ) -> Result<Call<'_>, StoreError> {
        let placement = &self.placement;
        let mut call = Call::new(&self.scripts.end_sessions, placement, shard);
        call.key(placement.all(shard)).key(placement.due(shard));
        call.key(placement.log(shard)).key(placement.history(shard));
        let mark = self.logging(&mut call, true)?;
        call.key(placement.answer(shard, mark));
        call.arg(sort_key(ending.at)).number(self.remembered()).arg(ended::how(ending));
        let Recheck { accessed_before, overdue } = recheck;
        call.arg(overdue.map(|age| age.as_micros().to_string()).unwrap_or_default());
        call.arg(accessed_before.map(|at| at.as_micros().to_string()).unwrap_or_default());
        call.number(self.answer_kept());
        for Chosen { place, owner } in sessions {
            let tag = UserTag::of(place.id());
            call.key(placement.user(tag)).key(placement.history_of(tag));
            call.key(placement.ended(shard, place.id()));
            self.tenant_keys(&mut call, tag, owner);
            call.arg(record::owner(owner)).arg(place.as_bytes());
            let ended = Ended { id: place.id(), owner: owner.clone() };
            call.list(&entry::parts(&ending.event(&ended)));
        }
        Ok(call)
    }
}

fn continuation(shard: Shard) -> Continuation {
    Continuation((shard.0 as u64).to_be_bytes().to_vec())
}

/// Of so many shards.
fn shard_of(continuation: &Continuation, shards: usize) -> Result<Shard, StoreError> {
    let bytes = continuation.0.as_slice().try_into().map_err(|_| Continuation::malformed())?;
    let shard = usize::try_from(u64::from_be_bytes(bytes)).ok().filter(|shard| *shard < shards);
    shard.map(Shard).ok_or_else(Continuation::malformed)
}
