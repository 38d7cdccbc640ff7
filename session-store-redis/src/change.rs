//! Changes, each one script in one slot.

use std::collections::HashMap;

use redis::cmd;
use session_core::cleanup::SweepRule;
use session_core::store::{Change, Commit, EndMany, Ended, Outcome, PolicyChange, Touch, UserTag};
use session_core::{
    Actor, EndCause, EventKind, Session, SessionId, StoreError, StoreErrorKind, TenantId,
    Timestamp, UserKey,
};

use crate::link::Call;
use crate::log::mark;
use crate::placement::Shard;
use crate::read::{CHUNK, policy_field};
use crate::record::{self, Place};
use crate::store::RedisStore;

/// Sessions that one script ends or touches: it blocks its server for about a millisecond.
const BATCH: usize = 100;

impl RedisStore {
    pub(crate) async fn write_commit(&self, commit: &Commit) -> Result<Outcome, StoreError> {
        let (placement, owner) = (&self.placement, &commit.owner);
        let tag = placement.tag(owner);
        let shard = placement.shard(tag);
        let mut call = Call::new(&self.scripts.commit, placement, shard);
        call.key(placement.user(tag)).key(placement.all(shard)).key(placement.used(shard));
        call.key(placement.expiring(shard)).key(placement.log(shard));
        if let Some(tenant) = &owner.tenant {
            call.key(placement.tenant(shard, tenant.as_str()));
            call.key(placement.name(shard, owner.user.as_str()));
        }
        call.arg(record::owner(owner)).arg(tenant_text(owner)).arg(owner.user.as_str());
        call.number(commit.expected.0).number(commit.at.as_micros()).number(&commit.by);
        call.arg(self.lasts_until(commit)).number(self.options.log_cap);
        call.number(mark()?).arg(self.publish());
        for change in &commit.changes {
            describe(&mut call, owner, tag, change)?;
        }
        match self.link.change(&call).await? {
            1 => Ok(Outcome::Done),
            _ => Ok(Outcome::Conflict),
        }
    }

    /// Until when, in milliseconds, the user's key has to last for the sessions that begin.
    fn lasts_until(&self, commit: &Commit) -> String {
        let mut latest = Some(0);
        for change in &commit.changes {
            if let Change::Insert(session) = change {
                let until = self.expires(session.last_accessed, session.absolute_expiry);
                latest = latest.zip(until).map(|(latest, until)| latest.max(until));
            }
        }
        // Never at once, whatever the times of the sessions.
        let now = commit.at.plus(self.options.expiry_margin).as_micros() / 1000;
        optional(latest.map(|latest| latest.max(now)))
    }

    /// When a record may expire by itself, in milliseconds.
    fn expires(&self, last_accessed: Timestamp, expiry: Option<Timestamp>) -> Option<i64> {
        let until = self.timeouts().deadline(last_accessed, expiry);
        until.map(|until| until.plus(self.options.expiry_margin).as_micros() / 1000)
    }

    pub(crate) async fn write_accesses(
        &self,
        batch: &[Touch],
    ) -> Result<Vec<SessionId>, StoreError> {
        let mut gone = Vec::new();
        for (shard, touches) in self.by_shard(batch, |touch| touch.id) {
            for touches in touches.chunks(BATCH) {
                let mut call = Call::new(&self.scripts.touch, &self.placement, shard);
                call.key(self.placement.used(shard));
                for touch in touches {
                    call.key(self.placement.user(UserTag::of(touch.id)));
                    call.arg(touch.id.as_bytes().to_vec()).number(touch.last_accessed.as_micros());
                    call.arg(record::address_list(&touch.ip_addresses));
                    call.arg(optional(self.expires(touch.last_accessed, None)));
                }
                let missing: Vec<usize> = self.link.run(&call).await?;
                gone.extend(missing.into_iter().filter_map(|n| Some(touches.get(n - 1)?.id)));
            }
        }
        Ok(gone)
    }

    pub(crate) async fn end_selected(
        &self,
        end: &EndMany,
        limit: u32,
    ) -> Result<Vec<Ended>, StoreError> {
        let (selection, limit) = (&end.selection, limit as usize);
        let ending = Ending {
            kind: EventKind::Ended(end.cause),
            at: end.at,
            by: end.by.clone(),
            rule: None,
        };
        let chosen = |sessions: Vec<Session>| -> Vec<(Place, UserKey)> {
            let covered = sessions.into_iter().filter(|session| selection.covers(session));
            covered.map(|session| (Place::of(&session), session.owner)).collect()
        };
        let mut ended = Vec::new();
        if let Some(ids) = &selection.ids {
            for ids in ids.chunks(CHUNK) {
                let mut chosen = chosen(self.read_sessions(ids.iter().copied()).await?);
                chosen.truncate(limit - ended.len());
                ended.extend(self.end_chosen(&chosen, &ending).await?);
            }
            return Ok(ended);
        }
        let mut walk = self.walk(&selection.tenant, selection.user.as_ref(), None).await?;
        while ended.len() < limit {
            let places = walk.next(self, (limit - ended.len()).min(CHUNK)).await?;
            if places.is_empty() {
                break;
            }
            let chosen = chosen(self.read_sessions(places.iter().map(Place::id)).await?);
            ended.extend(self.end_chosen(&chosen, &ending).await?);
        }
        Ok(ended)
    }

    /// Chooses by the indexes; the script that ends them checks the rule again.
    pub(crate) async fn end_old(
        &self,
        rule: &SweepRule,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<Ended>, StoreError> {
        let kind = EventKind::Ended(EndCause::Expired);
        let ending = Ending { kind, at, by: Actor::System, rule: Some(*rule) };
        let mut ended = Vec::new();
        for shard in self.placement.shards() {
            let lines = [
                (self.placement.used(shard), format!("({}", rule.inactive_before.as_micros())),
                (self.placement.expiring(shard), rule.expired_by.as_micros().to_string()),
            ];
            for (index, line) in lines {
                loop {
                    let left = (limit as usize - ended.len()).min(CHUNK);
                    if left == 0 {
                        return Ok(ended);
                    }
                    let mut read = cmd("ZRANGE");
                    read.arg(&index).arg("-inf").arg(&line).arg("BYSCORE");
                    read.arg("LIMIT").arg(0).arg(left);
                    let members: Vec<Vec<u8>> = self.link.query(&read).await?;
                    let chosen = members.iter().map(|member| {
                        let place = Place::parse(member)?;
                        Ok((place, record::parse_owner(&member[Place::BYTES..])?.0))
                    });
                    let chosen = chosen.collect::<Result<Vec<_>, StoreError>>()?;
                    let some = self.end_chosen(&chosen, &ending).await?;
                    // Who was spared was used meanwhile and is no longer behind the line.
                    let all = chosen.len() < left || some.is_empty();
                    ended.extend(some);
                    if all {
                        break;
                    }
                }
            }
        }
        Ok(ended)
    }

    async fn end_chosen(
        &self,
        chosen: &[(Place, UserKey)],
        ending: &Ending,
    ) -> Result<Vec<Ended>, StoreError> {
        let mut ended = Vec::new();
        let placement = &self.placement;
        for (shard, sessions) in self.by_shard(chosen, |(place, _)| place.id()) {
            for sessions in sessions.chunks(BATCH) {
                let mut call = Call::new(&self.scripts.end_sessions, placement, shard);
                call.key(placement.all(shard)).key(placement.used(shard));
                call.key(placement.expiring(shard)).key(placement.log(shard));
                call.arg(ending.kind.as_str()).number(ending.at.as_micros()).number(&ending.by);
                call.number(self.options.log_cap).number(mark()?).arg(self.publish());
                call.arg(optional(ending.rule.map(|rule| rule.inactive_before.as_micros())));
                call.arg(optional(ending.rule.map(|rule| rule.expired_by.as_micros())));
                for (place, owner) in sessions {
                    let user = placement.user(UserTag::of(place.id()));
                    call.key(user.as_str());
                    match &owner.tenant {
                        Some(tenant) => {
                            call.key(placement.tenant(shard, tenant.as_str()));
                            call.key(placement.name(shard, owner.user.as_str()));
                        }
                        // A script is told every key; these it does not use.
                        None => {
                            call.key(user.as_str()).key(user.as_str());
                        }
                    }
                    call.arg(record::owner(owner)).arg(tenant_text(owner));
                    call.arg(owner.user.as_str()).arg(place.as_bytes());
                }
                let gone: Vec<usize> = self.link.change(&call).await?;
                ended.extend(gone.into_iter().filter_map(|n| {
                    let (place, owner) = sessions.get(n - 1)?;
                    Some(Ended { id: place.id(), owner: owner.clone() })
                }));
            }
        }
        Ok(ended)
    }

    pub(crate) async fn write_policy(&self, change: &PolicyChange) -> Result<(), StoreError> {
        let policy = change.policy.as_ref().map(serde_json::to_string).transpose();
        let policy = policy.map_err(|error| StoreError::new(StoreErrorKind::Internal, error))?;
        let event = change.event();
        let mut call = Call::new(&self.scripts.policy, &self.placement, Shard::FIRST);
        call.key(self.placement.policies()).key(self.placement.log(Shard::FIRST));
        call.arg(policy_field(&change.scope)?).arg(policy.unwrap_or_default());
        call.number(event.at.as_micros()).number(&event.by);
        call.arg(event.tenant.as_ref().map_or("", TenantId::as_str));
        call.arg(event.user.as_ref().map_or("", |user| user.as_str()));
        call.arg(event.kind.as_str()).number(self.options.log_cap).number(mark()?);
        call.arg(self.publish());
        self.link.change(&call).await
    }

    fn by_shard<'i, T>(
        &self,
        items: &'i [T],
        id: impl Fn(&T) -> SessionId,
    ) -> HashMap<Shard, Vec<&'i T>> {
        let mut shards: HashMap<Shard, Vec<&T>> = HashMap::new();
        for item in items {
            shards.entry(self.placement.shard(UserTag::of(id(item)))).or_default().push(item);
        }
        shards
    }
}

/// What the script has to know of one change.
fn describe(
    call: &mut Call<'_>,
    owner: &UserKey,
    tag: UserTag,
    change: &Change,
) -> Result<(), StoreError> {
    let mut step = |what: &str, id: SessionId, kind: EventKind| {
        call.arg(what).arg(id.as_bytes().to_vec()).arg(kind.as_str());
    };
    match change {
        Change::Insert(session) => {
            if session.owner != *owner || UserTag::of(session.id) != tag {
                let text = "the id of a new session has to be made by Store::session_id";
                return Err(StoreError::new(StoreErrorKind::Internal, text));
            }
            step("insert", session.id, EventKind::Created);
            call.arg(record::fixed(session));
            call.arg(record::accesses(session.last_accessed, &session.ip_addresses));
            call.arg(record::token(&session.token, session.authenticated_at));
            call.number(session.last_accessed.as_micros());
            call.arg(optional(session.absolute_expiry.map(Timestamp::as_micros)));
        }
        Change::End(id, cause) => step("end", *id, EventKind::Ended(*cause)),
        Change::ClaimsChanged(id) => step("tell", *id, EventKind::ClaimsChanged),
        Change::ReplaceToken { id, token, authenticated_at } => {
            step("rotate", *id, EventKind::Rotated);
            call.arg(record::token(token, authenticated_at.unwrap_or(Timestamp::EPOCH)));
            call.arg(if authenticated_at.is_some() { "1" } else { "0" });
        }
    }
    Ok(())
}

struct Ending {
    kind: EventKind,
    at: Timestamp,
    by: Actor,
    rule: Option<SweepRule>,
}

fn tenant_text(owner: &UserKey) -> &str {
    owner.tenant.as_ref().map_or("", TenantId::as_str)
}

fn optional(number: Option<i64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}
