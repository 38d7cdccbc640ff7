//! Changes of sessions and policies.
//!
//! A user's document says what holds; the list and the log follow. In a transaction they follow in
//! the same atomic step. Without one, the step is a compare-and-swap on the user's document that
//! leaves in it what has to follow (see [`outbox`](crate::outbox)).

use std::collections::HashSet;

use mongodb::bson::doc;
use session_core::store::{Change, Commit, Outcome, PolicyChange, UserTag};
use session_core::{EventKind, Session};

use crate::error::{Failed, internal, is_duplicate};
use crate::read::{CHUNK, by_id, by_tag, empty, only, policy_key, sessions_in, version_of};
use crate::record::{self, field};
use crate::rewrite::Rewrite;
use crate::store::MongoStore;
use crate::transaction::{Step, Tries, in_session};

impl MongoStore {
    pub(crate) async fn write_commit(&self, commit: &Commit) -> Result<Outcome, Failed> {
        let mut tries = Tries::new(self.options.timeout);
        loop {
            let mut session = self.begin().await?;
            let result = self.try_commit(commit, &mut session.as_mut()).await;
            if let Some(done) = self.finish(session, result, &mut tries).await? {
                return Ok(done);
            }
        }
    }

    async fn try_commit(&self, commit: &Commit, session: &mut Step<'_>) -> Result<Outcome, Failed> {
        let tag = self.tags.tag(&commit.owner);
        let ids = commit.changes.iter().map(Change::session);
        let mut find = self.users.find_one(by_tag(tag));
        let ends = commit.changes.iter().filter(|change| matches!(change, Change::End(..)));
        if ends.count() < MANY {
            find = find.projection(only(ids));
        }
        let user = in_session!(session.as_mut(), find)?;
        let version = user.as_ref().map(version_of).transpose()?;
        let mut there = user.as_ref().map(sessions_in).transpose()?.unwrap_or_default();
        there.retain(|session| session.owner == commit.owner);
        if version.map_or(0, |version| version.0) != commit.expected.0 {
            // An earlier try may have done it and not been able to say so: an id is a commit's own.
            let begun = |change: &Change| match change {
                Change::Insert(new) => there.iter().any(|session| session.id == new.id),
                _ => false,
            };
            let done = commit.changes.iter().any(begun);
            return Ok(if done { Outcome::Done } else { Outcome::Conflict });
        }
        let Some(mut plan) = self.plan(commit, tag, &there)? else { return Ok(Outcome::Conflict) };
        if let Some(user) = user.as_ref().filter(|_| plan.unset.len() >= MANY) {
            plan.condense(user);
        }
        if plan.events.is_empty() {
            return Ok(Outcome::Done);
        }
        if !self.apply(tag, version.map(|version| version.0), &plan, session).await? {
            return Ok(Outcome::Conflict);
        }
        if session.is_some() {
            self.append(&plan.events, session).await?;
        }
        Ok(Outcome::Done)
    }

    /// What a commit does to these sessions; none where it cannot.
    fn plan(
        &self,
        commit: &Commit,
        tag: UserTag,
        there: &[Session],
    ) -> Result<Option<Rewrite>, Failed> {
        let mut own: HashSet<_> = there.iter().map(|session| session.id).collect();
        let mut plan = Rewrite::default();
        for change in &commit.changes {
            match change {
                Change::Insert(session) => {
                    if session.owner != commit.owner || UserTag::of(session.id) != tag {
                        let text = "the id of a new session has to be made by Store::session_id";
                        return Err(internal(text).into());
                    }
                    if !own.insert(session.id) {
                        return Ok(None);
                    }
                    let until =
                        self.until(session.last_accessed, session.absolute_expiry, commit.at);
                    plan.until = plan.until.max(Some(until));
                    plan.set.insert(field(session.id, ""), record::session(session));
                    plan.listed.push(record::listed(session, until));
                    plan.events.push(commit.event(EventKind::Created, session.id));
                }
                Change::End(id, cause) => {
                    if own.remove(id) {
                        plan.end(*id);
                        plan.events.push(commit.event(EventKind::Ended(*cause), *id));
                    }
                }
                Change::ReplaceToken { id, token, authenticated_at } => {
                    if !own.contains(id) {
                        return Ok(None);
                    }
                    let mut fields = record::token_fields(token);
                    if let Some(at) = authenticated_at {
                        fields.insert("authenticated_at", at.as_micros());
                    }
                    plan.replace(*id, fields);
                    plan.events.push(commit.event(EventKind::Rotated, *id));
                }
                Change::ClaimsChanged(id) => {
                    if own.contains(id) {
                        plan.events.push(commit.event(EventKind::ClaimsChanged, *id));
                    }
                }
            }
        }
        Ok(Some(plan))
    }

    /// Changes a user's document if its version still holds, and the list. In a transaction the log
    /// is left to its end, outside one it has what follows, too.
    pub(crate) async fn apply(
        &self,
        tag: UserTag,
        expected: Option<i64>,
        plan: &Rewrite,
        session: &mut Step<'_>,
    ) -> Result<bool, Failed> {
        let update = plan.update(session.is_none())?;
        let mut filter = by_tag(tag);
        match expected {
            Some(version) => filter.insert("version", version),
            // Whoever comes first makes it; the other one meets a duplicate.
            None => filter.insert("version", doc! { "$exists": false }),
        };
        filter.extend(plan.condition.clone());
        let write = self.users.update_one(filter, update).hint(by_id()).upsert(expected.is_none());
        let written = match in_session!(session.as_mut(), write) {
            // In a transaction the whole is tried again.
            Err(error) if session.is_none() && is_duplicate(&error) => {
                return Ok(false);
            }
            written => written?,
        };
        if written.matched_count == 0 && written.upserted_id.is_none() {
            return Ok(false);
        }
        if session.is_none() {
            self.deliver(tag).await?;
            return Ok(true);
        }
        if !plan.unlisted.is_empty() {
            // A user without sessions is forgotten.
            let forget = self.users.delete_one(empty(tag)).hint(by_id());
            in_session!(session.as_mut(), forget)?;
        }
        if !plan.listed.is_empty() {
            in_session!(session.as_mut(), self.list.insert_many(&plan.listed))?;
        }
        for gone in plan.unlisted.chunks(CHUNK) {
            let gone = doc! { "_id": { "$in": gone } };
            in_session!(session.as_mut(), self.list.delete_many(gone))?;
        }
        Ok(true)
    }

    pub(crate) async fn write_policy(&self, change: &PolicyChange) -> Result<(), Failed> {
        let mut tries = Tries::new(self.options.timeout);
        loop {
            let mut session = self.begin().await?;
            let result = self.try_policy(change, &mut session.as_mut()).await;
            if self.finish(session, result, &mut tries).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Without transactions two steps: a policy holds from the first one on, the second one only
    /// tells of it.
    async fn try_policy(
        &self,
        change: &PolicyChange,
        session: &mut Step<'_>,
    ) -> Result<(), Failed> {
        let key = policy_key(&change.scope)?;
        match &change.policy {
            Some(policy) => {
                let text = serde_json::to_string(policy).map_err(internal)?;
                let set = doc! { "$set": { "policy": text } };
                let write = self.policies.update_one(doc! { "_id": key }, set).upsert(true);
                in_session!(session.as_mut(), write)?;
            }
            None => {
                in_session!(session.as_mut(), self.policies.delete_one(doc! { "_id": key }))?;
            }
        }
        self.append(&[change.event()], session).await
    }
}

/// Changes from which on a user's document is written as a whole.
const MANY: usize = 64;
