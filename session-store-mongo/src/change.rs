//! Changes of sessions and policies.
//!
//! A user's document says what holds; the list and the log follow. In a transaction they follow in
//! the same atomic step. Without one, the step is a compare-and-swap on the user's document that
//! leaves in it what has to follow (see [`outbox`](crate::outbox)).

use std::collections::HashMap;

use mongodb::bson::{DateTime, Document, doc};
use session_core::store::record::{read_ended, session_fields, token_fields};
use session_core::store::{Change, Commit, Ended, Outcome, PolicyChange, UserTag, Version};
use session_core::{Session, SessionId, StoreError, UserKey};

use crate::error::{Failed, is_duplicate};
use crate::read::{by_tag, only, policy_key, sessions_in, version_of};
use crate::record::{self, Stored, field, tag_key};
use crate::rewrite::{Rewrite, first_version, pending};
use crate::store::MongoStore;
use crate::transaction::{Step, Tries, in_session};

impl MongoStore {
    pub(crate) async fn write_commit(&self, commit: &Commit) -> Result<Outcome, Failed> {
        let mut tries = Tries::new(self.options.timeout);
        loop {
            let mut session = self.begin().await?;
            let result = self.try_commit(commit, tries.is_first(), &mut session.as_mut()).await;
            if let Some(done) = self.finish(session, result, &mut tries).await? {
                return Ok(done);
            }
        }
    }

    async fn try_commit(
        &self,
        commit: &Commit,
        first: bool,
        session: &mut Step<'_>,
    ) -> Result<Outcome, Failed> {
        let tag = self.tags.tag(&commit.owner);
        // Sessions that begin are checked by the update's own filter. Where that was in conflict, in
        // a transaction, the next try finds out with what.
        let begins = first
            && commit.expected.0 < NEVER_REACHED
            && commit.changes.iter().all(|change| matches!(change, Change::Insert(_)));
        let (version, there) = match begins {
            true => (commit.expected, HashMap::new()),
            false => self.owners(tag, commit, session).await?,
        };
        if version != commit.expected {
            return Ok(Outcome::Conflict);
        }
        let mut plan = Rewrite::new(tag, (version != Version::NONE).then_some(version));
        for change in &commit.changes {
            if !self.plan(commit, change, &there, &mut plan)? {
                return Ok(Outcome::Conflict);
            }
        }
        if plan.events.is_empty() || self.apply(&[plan], session).await? {
            return Ok(Outcome::Done);
        }
        if session.is_none() {
            // It may have been an earlier try that came first.
            self.owners(tag, commit, session).await?;
        }
        Ok(Outcome::Conflict)
    }

    /// The user's version, and those of the commit's sessions that exist, with their owners.
    async fn owners(
        &self,
        tag: UserTag,
        commit: &Commit,
        session: &mut Step<'_>,
    ) -> Result<(Version, HashMap<SessionId, UserKey>), Failed> {
        let ids = commit.changes.iter().map(Change::session);
        let find = self.users.find_one(by_tag(tag)).projection(only(ids));
        let Some(user) = in_session!(session.as_mut(), find)? else {
            return Ok((Version::NONE, HashMap::new()));
        };
        self.settled(Some(&user)).await?;
        let stored = sessions_in(&user)?.into_iter();
        let owner = |stored| read_ended(&Stored(stored)).map(|Ended { id, owner }| (id, owner));
        Ok((version_of(&user)?, stored.map(owner).collect::<Result<_, _>>()?))
    }

    /// Plans one change of a commit; false where it cannot be.
    fn plan(
        &self,
        commit: &Commit,
        change: &Change,
        there: &HashMap<SessionId, UserKey>,
        plan: &mut Rewrite,
    ) -> Result<bool, Failed> {
        let id = change.session();
        let own = there.get(&id).is_some_and(|owner| *owner == commit.owner);
        match change {
            // An id leads to its user's document, by the tag that `Store::session_id` puts into it.
            Change::Insert(_) if there.contains_key(&id) || UserTag::of(id) != plan.tag() => {
                return Ok(false);
            }
            Change::Insert(session) => self.plan_insert(session, commit, plan),
            Change::ReplaceToken { .. } if !own => return Ok(false),
            Change::End(..) | Change::ClaimsChanged(_) if !own => return Ok(true),
            Change::End(..) => plan.end(id),
            Change::ReplaceToken { token, authenticated_at, .. } => {
                let mut fields = record::document(token_fields(token));
                if let Some(at) = authenticated_at {
                    fields.insert("authenticated_at", at.as_micros());
                }
                plan.replace(id, fields);
            }
            Change::ClaimsChanged(_) => {}
        }
        plan.events.push(commit.event(change.kind(), id));
        Ok(true)
    }

    fn plan_insert(&self, session: &Session, commit: &Commit, plan: &mut Rewrite) {
        let until = self.until(session.last_accessed, session.absolute_expiry, commit.at);
        plan.until = plan.until.max(Some(until));
        plan.condition.insert(field(session.id, ""), doc! { "$exists": false });
        plan.set.insert(field(session.id, ""), record::document(session_fields(session)));
        plan.listed.push(record::listed(session, until));
    }

    /// Changes users' documents, the list and the log, if every document's version still holds. In a
    /// transaction these are five commands, however many documents. Outside one there is one
    /// document, and its outbox has what follows.
    pub(crate) async fn apply(
        &self,
        plans: &[Rewrite],
        session: &mut Step<'_>,
    ) -> Result<bool, Failed> {
        if session.is_none() {
            let [plan] = plans else { return Err(StoreError::internal("one document").into()) };
            return self.apply_alone(plan).await;
        }
        let (mut updates, mut entries) = (Vec::new(), Vec::new());
        for plan in plans {
            let own = plan.entries()?;
            let update = plan.update(&own, false);
            updates.push(doc! { "q": plan.filter(), "u": update, "upsert": plan.is_first() });
            entries.extend(own);
        }
        if self.update_each(&self.users, &updates, session).await? != updates.len() {
            return Ok(false);
        }
        self.append(&entries, session).await?;
        let listed: Vec<_> = plans.iter().flat_map(|plan| &plan.listed).collect();
        if !listed.is_empty() {
            let list = self.list.insert_many(listed);
            in_session!(session.as_mut(), list)?;
        }
        let unlisted: Vec<_> = plans.iter().flat_map(|plan| &plan.unlisted).collect();
        if !unlisted.is_empty() {
            let unlist = self.list.delete_many(doc! { "_id": { "$in": unlisted } });
            in_session!(session.as_mut(), unlist)?;
            let tags = plans.iter().map(|plan| tag_key(plan.tag()));
            let forget = self.users.update_many(empty(tags), forgotten());
            in_session!(session.as_mut(), forget)?;
        }
        Ok(true)
    }

    async fn apply_alone(&self, plan: &Rewrite) -> Result<bool, Failed> {
        let update = plan.update(&plan.entries()?, true);
        let write = self.users.update_one(plan.filter(), update).upsert(plan.is_first());
        let written = match write.await {
            Err(error) if is_duplicate(&error) => return Ok(false),
            written => written?,
        };
        if written.matched_count == 0 && written.upserted_id.is_none() {
            return Ok(false);
        }
        self.deliver(tag_key(plan.tag())).await.map_err(Failed::after_the_change)?;
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
        let place = doc! { "_id": policy_key(&change.scope) };
        match &change.policy {
            Some(policy) => {
                let set = doc! { "$set": { "policy": policy.to_stored() } };
                let write = self.policies.update_one(place, set).upsert(true);
                in_session!(session.as_mut(), write)?;
            }
            None => {
                in_session!(session.as_mut(), self.policies.delete_one(place))?;
            }
        }
        let entry = [pending(&change.event(), first_version()?, NO_USER)?];
        self.append(&entry, session).await
    }
}

/// Those of the users' documents that have neither sessions nor anything to deliver.
pub(crate) fn empty(tags: impl IntoIterator<Item = i64>) -> Document {
    let tags: Vec<_> = tags.into_iter().collect();
    doc! { "_id": { "$in": tags }, "sessions": {}, "due": { "$exists": false } }
}

/// A user without sessions is forgotten, but only once the log's entries surely have their numbers:
/// until then its versions go on where they were.
pub(crate) fn forgotten() -> Document {
    let until = DateTime::from_millis(DateTime::now().timestamp_millis() + REMEMBERED_MILLIS);
    doc! { "$set": { "until": until } }
}

/// Beyond every version, whenever its user signed in first.
const NEVER_REACHED: i64 = i64::MAX - (1 << 32);
const REMEMBERED_MILLIS: i64 = 3_600_000;
/// The tag of entries that are no user's.
const NO_USER: i64 = -1;
