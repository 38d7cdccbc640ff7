//! Sessions that end by a selection or by the cleanup's rule: chosen by the list, ended by what their
//! users' documents say.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use session_core::cleanup::SweepRule;
use session_core::store::{EndMany, Ended, UserTag};
use session_core::{Actor, EndCause, Event, EventKind, Session, SessionId, Timestamp, UserKey};

use crate::error::Failed;
use crate::read::{by_tag, listed_owner, only, sessions_in, version_of};
use crate::record::{self, field};
use crate::rewrite::Rewrite;
use crate::store::MongoStore;
use crate::transaction::{Step, Tries, in_session};

impl MongoStore {
    pub(crate) async fn end_selected(
        &self,
        end: &EndMany,
        limit: u32,
    ) -> Result<Vec<Ended>, Failed> {
        let kind = EventKind::Ended(end.cause);
        let mut ended = Vec::new();
        while ended.len() < limit as usize {
            let wanted = (limit as usize - ended.len()).min(BATCH);
            let chosen = self.selected(&end.selection, wanted).await?;
            ended.extend(self.end_chosen(&chosen, None, kind, end.at, &end.by).await?);
            // What is chosen leaves the list, also where it was gone already.
            if chosen.len() < wanted {
                break;
            }
        }
        Ok(ended)
    }

    /// Chooses by the list; the step that ends them checks the rule again.
    pub(crate) async fn end_old(
        &self,
        rule: &SweepRule,
        at: Timestamp,
        limit: u32,
    ) -> Result<Vec<Ended>, Failed> {
        let kind = EventKind::Ended(EndCause::Expired);
        let mut ended = Vec::new();
        for filter in old(rule) {
            loop {
                let wanted = (limit as usize - ended.len()).min(BATCH);
                if wanted == 0 {
                    return Ok(ended);
                }
                let find = self.list.find(filter.clone()).limit(wanted as i64);
                let found = find.projection(doc! { "tenant": 1, "user": 1 }).await?;
                let found: Vec<Document> = found.try_collect().await?;
                let chosen = found.iter().map(listed_owner).collect::<Result<Vec<_>, _>>()?;
                ended.extend(self.end_chosen(&chosen, Some(rule), kind, at, &Actor::System).await?);
                // Whoever was spared is no longer behind the line, not even in the list.
                if chosen.len() < wanted {
                    break;
                }
            }
        }
        Ok(ended)
    }

    async fn end_chosen(
        &self,
        chosen: &[(SessionId, UserKey)],
        rule: Option<&SweepRule>,
        kind: EventKind,
        at: Timestamp,
        by: &Actor,
    ) -> Result<Vec<Ended>, Failed> {
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let mut users: HashMap<UserTag, Vec<&(SessionId, UserKey)>> = HashMap::new();
        for session in chosen {
            users.entry(UserTag::of(session.0)).or_default().push(session);
        }
        let ending = Ending { rule, kind, at, by };
        let mut ended = Vec::new();
        // Without transactions every user is a step of its own.
        let users: Vec<_> = users.into_iter().collect();
        for users in users.chunks(if self.transactional { users.len() } else { 1 }) {
            let mut tries = Tries::new(self.options.timeout);
            let gone = loop {
                let mut session = self.begin().await?;
                let result = self.try_end(users, &ending, &mut session.as_mut()).await;
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
        users: &[(UserTag, Vec<&(SessionId, UserKey)>)],
        ending: &Ending<'_>,
        session: &mut Step<'_>,
    ) -> Result<Vec<Ended>, Failed> {
        let (mut ended, mut events) = (Vec::new(), Vec::new());
        for (tag, chosen) in users {
            let ids = chosen.iter().map(|(id, _)| *id);
            let find = self.users.find_one(by_tag(*tag)).projection(only(ids));
            let user = in_session!(session.as_mut(), find)?;
            let Some(user) = user else {
                let gone = self.end_forgotten(chosen, session).await?;
                events.extend(gone.iter().map(|gone| ending.event(gone.id, &gone.owner)));
                if session.is_none() {
                    self.append(&std::mem::take(&mut events), session).await?;
                }
                ended.extend(gone);
                continue;
            };
            let there: HashMap<_, _> =
                sessions_in(&user)?.into_iter().map(|session| (session.id, session)).collect();
            let mut plan = Rewrite::default();
            let mut gone = Vec::new();
            for (id, owner) in chosen.iter().copied() {
                let Some(found) = there.get(id) else {
                    // Begun and ended while somebody delivered slowly: the list lags for ever.
                    self.unlist(*id, session).await?;
                    continue;
                };
                let covered = ending
                    .rule
                    .is_none_or(|rule| rule.covers(found.last_accessed, found.absolute_expiry));
                if covered {
                    plan.end(*id);
                    plan.condition.extend(ending.condition(found));
                    plan.events.push(ending.event(*id, owner));
                    gone.push(Ended { id: *id, owner: owner.clone() });
                } else {
                    self.relist(found, session).await?;
                }
            }
            if gone.is_empty() {
                continue;
            }
            if !self.apply(*tag, Some(version_of(&user)?.0), &plan, session).await? {
                return Err(Failed::Conflict);
            }
            events.extend(plan.events);
            ended.extend(gone);
        }
        if session.is_some() && !events.is_empty() {
            self.append(&events, session).await?;
        }
        Ok(ended)
    }

    /// The whole user has expired by itself: the list is cleared; who clears it tells of it.
    async fn end_forgotten(
        &self,
        chosen: &[&(SessionId, UserKey)],
        session: &mut Step<'_>,
    ) -> Result<Vec<Ended>, Failed> {
        let mut ended = Vec::new();
        for (id, owner) in chosen.iter().copied() {
            if self.unlist(*id, session).await? {
                ended.push(Ended { id: *id, owner: owner.clone() });
            }
        }
        Ok(ended)
    }

    /// Whether it was in the list.
    async fn unlist(&self, id: SessionId, session: &mut Step<'_>) -> Result<bool, Failed> {
        let gone = self.list.delete_one(doc! { "_id": record::name(id) });
        Ok(in_session!(session.as_mut(), gone)?.deleted_count == 1)
    }

    /// Puts the list right about a session that is spared: else it would be chosen again and again.
    async fn relist(&self, found: &Session, session: &mut Step<'_>) -> Result<(), Failed> {
        let name = doc! { "_id": record::name(found.id) };
        let used = doc! { "last_accessed": found.last_accessed.as_micros() };
        let expiry = found.absolute_expiry.map(Timestamp::as_micros);
        let right = doc! { "$max": used, "$set": { "absolute_expiry": expiry } };
        in_session!(session.as_mut(), self.list.update_one(name, right))?;
        Ok(())
    }
}

/// Who is past which line. Nothing is less than a number but a number.
pub(crate) fn old(rule: &SweepRule) -> [Document; 2] {
    [
        doc! { "last_accessed": { "$lt": rule.inactive_before.as_micros() } },
        doc! { "absolute_expiry": { "$lte": rule.expired_by.as_micros() } },
    ]
}

struct Ending<'e> {
    rule: Option<&'e SweepRule>,
    kind: EventKind,
    at: Timestamp,
    by: &'e Actor,
}

impl Ending<'_> {
    fn event(&self, id: SessionId, owner: &UserKey) -> Event {
        Event::of_session(self.kind, self.at, self.by.clone(), owner.clone(), id)
    }

    /// What has to hold of a session when it ends: an access does not raise the version.
    fn condition(&self, session: &Session) -> Document {
        let expired = |rule: &&SweepRule| {
            session.absolute_expiry.is_some_and(|expiry| expiry <= rule.expired_by)
        };
        match self.rule.filter(|rule| !expired(rule)) {
            Some(rule) => {
                let line = doc! { "$lt": rule.inactive_before.as_micros() };
                doc! { field(session.id, ".last_accessed"): line }
            }
            None => Document::new(),
        }
    }
}

/// Sessions that one step chooses and ends.
const BATCH: usize = 50;
