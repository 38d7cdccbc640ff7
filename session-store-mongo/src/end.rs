//! Sessions that end by a selection or by the cleanup's rule: chosen by the list, ended by what their
//! users' documents say.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use session_core::cleanup::SweepRule;
use session_core::store::record::Fields;
use session_core::store::{EndMany, Ended, EndedBatch, Sweep, UserTag};
use session_core::{
    Actor, EndCause, Event, EventKind, InvalidField, SessionId, StoreError, Timestamp,
};

use crate::error::Failed;
use crate::read::{only, stored_session, version_of};
use crate::record::{self, Stored, field, tag_key};
use crate::rewrite::Rewrite;
use crate::store::MongoStore;
use crate::transaction::{Step, Tries, in_session};
use crate::walk::{Part, Place, Walk};

impl MongoStore {
    pub(crate) async fn end_selected(
        &self,
        end: &EndMany,
        limit: usize,
    ) -> Result<EndedBatch, Failed> {
        let after = end.after.as_ref().map(Place::parse).transpose()?;
        let after = after.map(|(_, place)| place);
        let Part { found, next } = self.walk(&Walk::selected(&end.selection), after, limit).await?;
        let ending = Ending { rule: None, cause: end.cause, at: end.at, by: &end.by };
        let ended = self.end_chosen(found, &ending).await?;
        Ok(EndedBatch { ended, next: next.map(|place| place.continuation(0)) })
    }

    /// Chooses by the list; the step that ends them checks the rule again.
    pub(crate) async fn end_old(&self, sweep: &Sweep, limit: usize) -> Result<EndedBatch, Failed> {
        let Sweep { rule, after, at } = sweep;
        let after = after.as_ref().map(Place::parse).transpose()?;
        let (mut line, mut place) = after.map_or((0, None), |(line, place)| (line, Some(place)));
        let ending = Ending { rule: Some(rule), cause: EndCause::Expired, at: *at, by: &SYSTEM };
        let mut ended = Vec::new();
        while let Some(walk) = old(rule).get(usize::from(line)) {
            let Part { found, next } = self.walk(walk, place, limit - ended.len()).await?;
            ended.extend(self.end_chosen(found, &ending).await?);
            let next = next.map(|place| place.continuation(line));
            if next.is_some() {
                return Ok(EndedBatch { ended, next });
            }
            (line, place) = (line + 1, None);
            if ended.len() == limit && line < 2 {
                return Ok(EndedBatch { ended, next: Some(FIRST.continuation(line)) });
            }
        }
        Ok(EndedBatch { ended, next: None })
    }

    /// Ends sessions in steps of at most [`BATCH`].
    async fn end_chosen(
        &self,
        chosen: Vec<Ended>,
        ending: &Ending<'_>,
    ) -> Result<Vec<Ended>, Failed> {
        let mut ended = Vec::new();
        for step in steps(chosen, self.transactional) {
            let mut tries = Tries::new(self.options.timeout);
            let gone = loop {
                let mut session = self.begin().await?;
                let result = self.try_end(&step, ending, &mut session.as_mut()).await;
                if let Some(gone) = self.finish(session, result, &mut tries).await? {
                    break gone;
                }
            };
            ended.extend(gone);
        }
        Ok(ended)
    }

    async fn try_end(
        &self,
        chosen: &[Ended],
        ending: &Ending<'_>,
        session: &mut Step<'_>,
    ) -> Result<Vec<Ended>, Failed> {
        let users = self.users_of(chosen, session).await?;
        let (mut ended, mut plans) = (Vec::new(), HashMap::new());
        for gone in chosen {
            let tag = UserTag::of(gone.id);
            let Some(user) = users.get(&tag_key(tag)) else {
                ended.extend(self.end_forgotten(gone, ending, session).await?);
                continue;
            };
            let Some(found) = stored_session(user, gone.id)? else {
                // It began and ended before its entry was delivered; nothing else removes that.
                self.unlist(gone.id, session).await?;
                continue;
            };
            let Some(condition) = ending.condition(gone.id, &Stored(found))? else {
                self.relist(gone.id, found, session).await?;
                continue;
            };
            let version = version_of(user)?;
            let plan = plans.entry(tag).or_insert_with(|| Rewrite::new(tag, Some(version)));
            plan.end(gone.id);
            plan.condition.extend(condition);
            plan.events.push(ending.event(gone));
            ended.push(gone.clone());
        }
        let plans: Vec<_> = plans.into_values().collect();
        if !plans.is_empty() && !self.apply(&plans, session).await? {
            return Err(Failed::Conflict);
        }
        Ok(ended)
    }

    /// The documents of these sessions' users, by their tags.
    async fn users_of(
        &self,
        chosen: &[Ended],
        session: &mut Step<'_>,
    ) -> Result<HashMap<i64, Document>, Failed> {
        let mut tags: Vec<_> = chosen.iter().map(|gone| tag_key(UserTag::of(gone.id))).collect();
        tags.dedup();
        let ids = chosen.iter().map(|gone| gone.id);
        let find = self.users.find(doc! { "_id": { "$in": tags } }).projection(only(ids));
        let users: Vec<Document> = match session.as_mut() {
            Some(step) => {
                let mut cursor = find.session(&mut step.session).await?;
                cursor.stream(&mut step.session).try_collect().await?
            }
            None => find.await?.try_collect().await?,
        };
        for user in &users {
            self.settled(Some(user)).await?;
        }
        let keyed = users.into_iter().map(|user| Ok((record::number(&user, "_id")?, user)));
        Ok(keyed.collect::<Result<_, InvalidField>>()?)
    }

    /// The whole user has expired by itself: the list is cleared, and the step that clears it tells
    /// of the end.
    async fn end_forgotten(
        &self,
        gone: &Ended,
        ending: &Ending<'_>,
        session: &mut Step<'_>,
    ) -> Result<Option<Ended>, Failed> {
        if !self.unlist(gone.id, session).await? {
            return Ok(None);
        }
        let mut plan = Rewrite::new(UserTag::of(gone.id), None);
        plan.events.push(ending.event(gone));
        self.append(&plan.entries()?, session).await?;
        Ok(Some(gone.clone()))
    }

    /// Whether it was in the list.
    async fn unlist(&self, id: SessionId, session: &mut Step<'_>) -> Result<bool, Failed> {
        let gone = self.list.delete_one(doc! { "_id": record::name(id) });
        Ok(in_session!(session.as_mut(), gone)?.deleted_count == 1)
    }

    /// Puts the list right about a session that is spared, so that no later walk chooses it.
    async fn relist(
        &self,
        id: SessionId,
        found: &Document,
        session: &mut Step<'_>,
    ) -> Result<(), Failed> {
        let found = Stored(found);
        let used = doc! { "last_accessed": found.integer("last_accessed")? };
        let expiry = found.integer("absolute_expiry")?;
        let right = doc! { "$max": used, "$set": { "absolute_expiry": expiry } };
        let name = doc! { "_id": record::name(id) };
        in_session!(session.as_mut(), self.list.update_one(name, right))?;
        Ok(())
    }
}

/// The lines that a rule draws.
pub(crate) fn old(rule: &SweepRule) -> [Walk; 2] {
    [
        Walk::up_to("last_accessed", "$lt", rule.inactive_before.as_micros()),
        Walk::up_to("absolute_expiry", "$lte", rule.expired_by.as_micros()),
    ]
}

/// Groups sessions by user, and cuts them into steps.
fn steps(chosen: Vec<Ended>, transactional: bool) -> Vec<Vec<Ended>> {
    let mut users: Vec<Vec<Ended>> = Vec::new();
    let mut places: HashMap<UserTag, usize> = HashMap::new();
    for gone in chosen {
        let place = *places.entry(UserTag::of(gone.id)).or_insert(users.len());
        match users.get_mut(place) {
            Some(user) => user.push(gone),
            None => users.push(vec![gone]),
        }
    }
    // Without transactions, one document is a step.
    if transactional {
        users = vec![users.concat()];
    }
    let steps = users.iter().flat_map(|sessions| sessions.chunks(BATCH));
    steps.map(<[Ended]>::to_vec).collect()
}

struct Ending<'e> {
    rule: Option<&'e SweepRule>,
    cause: EndCause,
    at: Timestamp,
    by: &'e Actor,
}

impl Ending<'_> {
    fn event(&self, gone: &Ended) -> Event {
        let kind = EventKind::Ended(self.cause);
        Event::of_session(kind, self.at, self.by.clone(), gone.owner.clone(), gone.id)
    }

    /// What has to hold of a session when it ends, because an access does not raise the version;
    /// none where the rule does not cover it.
    fn condition(
        &self,
        id: SessionId,
        session: &Stored<'_>,
    ) -> Result<Option<Document>, StoreError> {
        let Some(rule) = self.rule else { return Ok(Some(Document::new())) };
        let time = |name| -> Result<_, StoreError> {
            Ok(session.integer(name)?.map(Timestamp::from_micros))
        };
        let used = time("last_accessed")?.ok_or(record::malformed("last_accessed"))?;
        let expiry = time("absolute_expiry")?;
        if !rule.covers(used, expiry) {
            return Ok(None);
        }
        if expiry.is_some_and(|expiry| expiry <= rule.expired_by) {
            return Ok(Some(Document::new()));
        }
        let line = doc! { "$lt": rule.inactive_before.as_micros() };
        Ok(Some(doc! { field(id, ".last_accessed"): line }))
    }
}

const SYSTEM: Actor = Actor::System;
/// Before every place of a sweep.
const FIRST: Place = Place { key: i64::MIN, id: SessionId::from_bytes([0; 16]) };
/// Sessions that one step ends. Each is a field of its user's document, an entry of the list and one
/// of the log.
const BATCH: usize = 100;
