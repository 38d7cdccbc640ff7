//! Changes of sessions and policies.
//!
//! A user's document says what holds; the list and the log follow. In a transaction they follow in
//! the same atomic step. Without one, the step is a compare-and-swap on the user's document that
//! leaves in it what has to follow (see [`outbox`](crate::outbox)).

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use mongodb::ClientSession;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT;
use mongodb::options::Hint;
use session_core::cleanup::SweepRule;
use session_core::store::{Change, Commit, EndMany, Ended, Outcome, PolicyChange, UserTag};
use session_core::{Actor, EndCause, Event, EventKind, Session, SessionId, Timestamp, UserKey};
use tokio::time::{Duration, Instant};

use crate::error::Failed;
use crate::read::{by_tag, listed_owner, only, policy_key, sessions_in, tag_key, version_of};
use crate::store::{MongoStore, internal};
use crate::{outbox, record};

/// What happens to one user's document, and what follows from it.
#[derive(Default)]
pub(crate) struct Plan {
    set: Document,
    unset: Document,
    pub(crate) listed: Vec<Document>,
    pub(crate) unlisted: Vec<String>,
    pub(crate) events: Vec<Event>,
    until: Option<DateTime>,
    /// All sessions that are left, where so many end that naming each would cost more.
    whole: Option<Document>,
    /// Besides the version, what has to hold.
    condition: Document,
}

/// Runs an action in a session where there is one.
macro_rules! in_session {
    ($session:expr, $action:expr) => {
        match $session {
            Some(session) => $action.session(&mut **session).await,
            None => $action.await,
        }
    };
}
pub(crate) use in_session;

/// The transaction that a step is part of, where there are transactions.
pub(crate) type Step<'s> = Option<&'s mut ClientSession>;

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
        let ids = commit.changes.iter().map(|change| match change {
            Change::Insert(session) => session.id,
            Change::End(id, _) | Change::ClaimsChanged(id) | Change::ReplaceToken { id, .. } => *id,
        });
        let mut find = self.users.find_one(by_tag(tag));
        let ends = commit.changes.iter().filter(|change| matches!(change, Change::End(..)));
        if ends.count() < MANY {
            find = find.projection(only(ids));
        }
        let user = in_session!(session.as_mut(), find)?;
        let version = user.as_ref().map(version_of).transpose()?;
        if version.map_or(0, |version| version.0) != commit.expected.0 {
            return Ok(Outcome::Conflict);
        }
        let there = user.as_ref().map(sessions_in).transpose()?.unwrap_or_default();
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
    ) -> Result<Option<Plan>, Failed> {
        let own = there.iter().filter(|session| session.owner == commit.owner);
        let mut own: HashMap<_, _> = own.map(|session| (session.id, ())).collect();
        let mut plan = Plan::default();
        for change in &commit.changes {
            match change {
                Change::Insert(session) => {
                    if session.owner != commit.owner || UserTag::of(session.id) != tag {
                        let text = "the id of a new session has to be made by Store::session_id";
                        return Err(internal(text).into());
                    }
                    if own.insert(session.id, ()).is_some() {
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
                    if own.remove(id).is_some() {
                        plan.end(*id);
                        plan.events.push(commit.event(EventKind::Ended(*cause), *id));
                    }
                }
                Change::ReplaceToken { id, token, authenticated_at } => {
                    if !own.contains_key(id) {
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
                    if own.contains_key(id) {
                        plan.events.push(commit.event(EventKind::ClaimsChanged, *id));
                    }
                }
            }
        }
        Ok(Some(plan))
    }

    /// Changes a user's document if its version still holds, and the list. In a transaction the log
    /// is left to its end, outside one it has what follows, too.
    async fn apply(
        &self,
        tag: UserTag,
        expected: Option<i64>,
        plan: &Plan,
        session: &mut Step<'_>,
    ) -> Result<bool, Failed> {
        let mut set = match &plan.whole {
            Some(sessions) => doc! { "sessions": sessions },
            None => plan.set.clone(),
        };
        set.insert("version", random()?);
        let outbox = if session.is_none() { plan.outbox()? } else { Vec::new() };
        if !outbox.is_empty() {
            set.insert("due", outbox::due(outbox.len()));
        }
        let mut update = doc! { "$set": set };
        if !plan.unset.is_empty() && plan.whole.is_none() {
            update.insert("$unset", plan.unset.clone());
        }
        if let Some(until) = plan.until {
            update.insert("$max", doc! { "until": until });
        }
        if !outbox.is_empty() {
            update.insert("$push", doc! { "outbox": { "$each": outbox } });
        }
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
            Err(error) if session.is_none() && crate::error::is_duplicate(&error) => {
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
        self.follow(plan, session).await?;
        Ok(true)
    }

    /// The list.
    async fn follow(&self, plan: &Plan, session: &mut Step<'_>) -> Result<(), Failed> {
        if !plan.listed.is_empty() {
            in_session!(session.as_mut(), self.list.insert_many(&plan.listed))?;
        }
        for gone in plan.unlisted.chunks(CHUNK) {
            let gone = doc! { "_id": { "$in": gone } };
            in_session!(session.as_mut(), self.list.delete_many(gone))?;
        }
        Ok(())
    }

    pub(crate) async fn end_selected(
        &self,
        end: &EndMany,
        limit: u32,
    ) -> Result<Vec<Ended>, Failed> {
        let kind = EventKind::Ended(end.cause);
        let mut ended = Vec::new();
        // The list may still have what is gone.
        let mut passed_over = Vec::new();
        while ended.len() < limit as usize {
            let wanted = (limit as usize - ended.len()).min(BATCH);
            let chosen = self.selected(&end.selection, wanted, &passed_over).await?;
            let gone = self.end_chosen(&chosen, None, kind, end.at, &end.by).await?;
            let gone_ids: Vec<_> = gone.iter().map(|ended| ended.id).collect();
            let spared = chosen.iter().filter(|(id, _)| !gone_ids.contains(id));
            passed_over.extend(spared.map(|(id, _)| record::name(*id)));
            ended.extend(gone);
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
        for (filter, index) in old(rule) {
            loop {
                let wanted = (limit as usize - ended.len()).min(BATCH);
                if wanted == 0 {
                    return Ok(ended);
                }
                let find = self.list.find(filter.clone()).hint(Hint::Keys(index.clone()));
                let find = find.limit(wanted as i64);
                let found = find.projection(doc! { "tenant": 1, "user": 1 }).await?;
                let found: Vec<Document> = found.try_collect().await?;
                let chosen = found.iter().map(listed_owner).collect::<Result<Vec<_>, _>>()?;
                let gone = self.end_chosen(&chosen, Some(rule), kind, at, &Actor::System).await?;
                let all = chosen.len() < wanted || gone.is_empty();
                ended.extend(gone);
                if all {
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
                let gone = self.end_forgotten(chosen, ending, session).await?;
                events.extend(gone.iter().map(|gone| ending.event(gone.id, &gone.owner)));
                if session.is_none() {
                    self.append(&std::mem::take(&mut events), session).await?;
                }
                ended.extend(gone);
                continue;
            };
            let there: HashMap<_, _> =
                sessions_in(&user)?.into_iter().map(|session| (session.id, session)).collect();
            let mut plan = Plan::default();
            let mut gone = Vec::new();
            for (id, owner) in chosen.iter().copied() {
                let Some(found) = there.get(id) else { continue };
                let covered = ending
                    .rule
                    .is_none_or(|rule| rule.covers(found.last_accessed, found.absolute_expiry));
                if covered {
                    plan.end(*id);
                    plan.condition.extend(ending.condition(found));
                    plan.events.push(ending.event(*id, owner));
                    gone.push(Ended { id: *id, owner: owner.clone() });
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
        ending: &Ending<'_>,
        session: &mut Step<'_>,
    ) -> Result<Vec<Ended>, Failed> {
        let mut ended = Vec::new();
        for (id, owner) in chosen.iter().copied() {
            let gone = self.list.delete_one(doc! { "_id": record::name(*id) });
            let gone = in_session!(session.as_mut(), gone)?;
            if gone.deleted_count == 1 && ending.rule.is_some() {
                ended.push(Ended { id: *id, owner: owner.clone() });
            }
        }
        Ok(ended)
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

    /// Begins a transaction, where there are any.
    async fn begin(&self) -> Result<Option<ClientSession>, Failed> {
        if !self.transactional {
            return Ok(None);
        }
        let mut session = self.client.start_session().await?;
        session
            .start_transaction()
            .write_concern(self.options.write_concern.clone())
            .read_concern(mongodb::options::ReadConcern::snapshot())
            .await?;
        Ok(Some(session))
    }

    /// Commits what worked; none, after a pause, where somebody else was in the way.
    async fn finish<T>(
        &self,
        session: Option<ClientSession>,
        result: Result<T, Failed>,
        tries: &mut Tries,
    ) -> Result<Option<T>, Failed> {
        let result = match (session, result) {
            (None, result) => result,
            (Some(mut session), Ok(done)) => commit(&mut session).await.map(|()| done),
            (Some(mut session), Err(failed)) => {
                let _ = session.abort_transaction().await;
                Err(failed)
            }
        };
        match result {
            Ok(done) => Ok(Some(done)),
            Err(failed) if failed.is_conflict() && tries.another().await => Ok(None),
            Err(failed) => Err(failed),
        }
    }
}

/// Who is past which line, and the index for it. Nothing is less than a number but a number.
pub(crate) fn old(rule: &SweepRule) -> [(Document, Document); 2] {
    [
        (
            doc! { "last_accessed": { "$lt": rule.inactive_before.as_micros() } },
            doc! { "last_accessed": 1 },
        ),
        (
            doc! { "absolute_expiry": { "$lte": rule.expired_by.as_micros() } },
            doc! { "absolute_expiry": 1 },
        ),
    ]
}

/// A commit whose outcome is unknown may be asked for again.
async fn commit(session: &mut ClientSession) -> Result<(), Failed> {
    const ASKED: u32 = 3;
    let mut asked = 0;
    loop {
        asked += 1;
        match session.commit_transaction().await {
            Err(error)
                if asked < ASKED && error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT) => {}
            result => return Ok(result?),
        }
    }
}

impl Plan {
    fn replace(&mut self, id: SessionId, fields: Document) {
        match self.set.get_document_mut(field(id, "")) {
            // It begins in the same step.
            Ok(session) => session.extend(fields),
            Err(_) => {
                let fields = fields.into_iter();
                self.set
                    .extend(fields.map(|(name, value)| (field(id, &format!(".{name}")), value)));
            }
        }
    }

    /// Writes what is left as a whole; an access meanwhile, which raises no version, is noticed.
    fn condense(&mut self, user: &Document) {
        let ended: HashSet<_> = self.unlisted.iter().collect();
        let all = user.get_document("sessions").into_iter().flatten();
        let left = all.filter(|(name, _)| !ended.contains(name));
        let mut sessions: Document =
            left.map(|(name, session)| (name.clone(), session.clone())).collect();
        for (path, value) in &self.set {
            let mut path = path.split('.').skip(1);
            match (path.next(), path.next()) {
                (Some(name), None) => drop(sessions.insert(name, value.clone())),
                (Some(name), Some(field)) => {
                    if let Ok(session) = sessions.get_document_mut(name) {
                        session.insert(field, value.clone());
                    }
                }
                _ => {}
            }
        }
        self.whole = Some(sessions);
        let accesses = user.get("accesses").cloned().unwrap_or(Bson::Null);
        self.condition.insert("accesses", accesses);
    }

    fn end(&mut self, id: SessionId) {
        // What begins and ends in one step was never there.
        let whole = field(id, "");
        let doomed: Vec<_> =
            self.set.keys().filter(|key| key.starts_with(&whole)).cloned().collect();
        doomed.iter().for_each(|key| drop(self.set.remove(key)));
        let name = record::name(id);
        self.listed.retain(|listed| listed.get_str("_id").is_ok_and(|listed| listed != name));
        self.unset.insert(field(id, ""), "");
        self.unlisted.push(name);
    }
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

/// How often a change is tried again when others are in the way.
pub(crate) struct Tries {
    count: u32,
    deadline: Instant,
}

impl Tries {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { count: 0, deadline: Instant::now() + timeout }
    }

    /// Waits a random time that grows; false when it is too late for another try.
    pub(crate) async fn another(&mut self) -> bool {
        self.count += 1;
        let ceiling = 1_u64 << self.count.min(6);
        let random = getrandom::u64().unwrap_or(0);
        tokio::time::sleep(Duration::from_micros(random % (ceiling * 1000))).await;
        Instant::now() < self.deadline
    }
}

/// Whatever else a filter says, a document is found by its `_id`.
pub(crate) fn by_id() -> Hint {
    Hint::Keys(doc! { "_id": 1 })
}

/// A user's document without sessions, and with nothing left to follow.
pub(crate) fn empty(tag: UserTag) -> Document {
    doc! { "_id": tag_key(tag), "sessions": {}, "due": { "$exists": false } }
}

/// A field of a session in its user's document.
pub(crate) fn field(id: SessionId, rest: &str) -> String {
    format!("sessions.{}{rest}", record::name(id))
}

/// A version that no user had before, or a mark that no entry has.
pub(crate) fn random() -> Result<i64, Failed> {
    let drawn = getrandom::u64().map_err(|error| internal(error.to_string()))?;
    // Never 0, which stands for none, and never negative.
    Ok(((drawn >> 1) | 1).cast_signed())
}

/// Sessions that one step chooses and ends.
const BATCH: usize = 50;
/// Changes from which on a user's document is written as a whole.
const MANY: usize = 64;
/// Documents in one command.
pub(crate) const CHUNK: usize = 100;
