//! Changes of one user's sessions.
//!
//! A user's document says what holds; the log, the list and the history follow. In a transaction
//! they follow in the same atomic step. Without one, the step is a compare-and-swap on the user's
//! document that leaves in it what has to follow (see [`outbox`](crate::outbox)).

use std::collections::HashMap;

use mongodb::bson::{Document, doc};
use session_core::store::record::{Fields, read_ended};
use session_core::store::{Change, Commit, Ended, Ending, Outcome, Recheck, UserTag, Version};
use session_core::{EndCause, SessionId, StoreError};

use crate::collections::Collections;
use crate::error::{Failed, is_duplicate};
use crate::outbox::{empty, forgotten};
use crate::read::{by_tag, only, sessions_in, version_of};
use crate::record::{Stored, tag_key};
use crate::rewrite::Rewrite;
use crate::transaction::{Step, Tries, in_session};

/// Those of a commit's sessions that exist, as they are stored.
type Known = HashMap<SessionId, (Ended, Document)>;

impl Collections {
    pub(crate) async fn write_commit(&self, commit: &Commit) -> Result<Outcome, Failed> {
        let begun: Vec<_> = commit
            .changes
            .iter()
            .filter(|change| matches!(change, Change::Insert(_)))
            .map(Change::session)
            .collect();
        if begun.is_empty() {
            return self.change_user(commit).await;
        }
        // A session that ends while this is under way raises the version.
        let (ended, blocked) =
            tokio::try_join!(self.has_ended(&begun), self.is_blocked(&commit.owner))?;
        if ended || blocked {
            return Ok(Outcome::Conflict);
        }
        self.begin_sessions(commit, begun).await
    }

    async fn begin_sessions(
        &self,
        commit: &Commit,
        begun: Vec<SessionId>,
    ) -> Result<Outcome, Failed> {
        let outcome = self.change_user(commit).await?;
        if outcome == Outcome::Conflict {
            return Ok(outcome);
        }
        // A block that is set beside it is not seen by a transaction, and there is no shared lock.
        // This second look, after the insert has reached a majority, is enough: either it sees the
        // block and takes the insert back, or the block came after the insert, and the call that
        // ends the sessions under the block finds this one. What else the commit ended, that call
        // would have ended.
        if self.is_blocked(&commit.owner).await.map_err(Failed::after_the_change)? {
            self.take_back(commit, begun).await.map_err(Failed::after_the_change)?;
            return Ok(Outcome::Conflict);
        }
        Ok(outcome)
    }

    async fn take_back(&self, commit: &Commit, begun: Vec<SessionId>) -> Result<(), Failed> {
        let begun = begun.into_iter().map(|id| Ended { id, owner: commit.owner.clone() });
        let ending = Ending { from: None, ..Ending::of_commit(commit, EndCause::Blocked) };
        self.end_chosen(begun.collect(), &ending, Recheck::default()).await?;
        Ok(())
    }

    async fn change_user(&self, commit: &Commit) -> Result<Outcome, Failed> {
        let mut tries = Tries::new(self.options.timeout);
        loop {
            let mut transaction = self.begin().await?;
            let result = self.try_commit(commit, tries.is_first(), &mut transaction.step()).await;
            if let Some(done) = self.finish(transaction, result, &mut tries).await? {
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
        // Sessions that begin are checked by the update's own filter. Where that was in conflict,
        // in a transaction, the next try finds out with what.
        let begins = first
            && commit.expected.0 < NEVER_REACHED
            && commit.changes.iter().all(|change| matches!(change, Change::Insert(_)));
        let (version, known) = match begins {
            true => (commit.expected, HashMap::new()),
            false => self.known(tag, commit, session).await?,
        };
        if version != commit.expected {
            return Ok(Outcome::Conflict);
        }
        let mut plan = Rewrite::new(tag, (version != Version::NONE).then_some(version));
        for change in &commit.changes {
            if !self.plan(commit, change, &known, &mut plan)? {
                return Ok(Outcome::Conflict);
            }
        }
        if plan.changes_nothing() || self.apply(&[plan], session).await? {
            return Ok(Outcome::Done);
        }
        // Outside a transaction it may have been an earlier try that came first, or a write-back of
        // a session that ends.
        if session.is_none() && self.known(tag, commit, session).await?.0 == commit.expected {
            return Err(Failed::Conflict);
        }
        Ok(Outcome::Conflict)
    }

    /// The user's version, and those of the commit's sessions that exist.
    async fn known(
        &self,
        tag: UserTag,
        commit: &Commit,
        session: &mut Step<'_>,
    ) -> Result<(Version, Known), Failed> {
        let ids = commit.changes.iter().map(Change::session);
        let find = self.users.find_one(by_tag(tag)).projection(only(ids));
        let Some(user) = in_session!(session.as_mut(), find)? else {
            return Ok((Version::NONE, HashMap::new()));
        };
        self.settled(Some(&user)).await?;
        let stored = sessions_in(&user)?;
        if stored.is_empty() {
            self.check_sessions(tag, session).await?;
        }
        let known = |stored: &Document| -> Result<_, StoreError> {
            let ended = read_ended(&Stored(stored))?;
            Ok((ended.id, (ended, stored.clone())))
        };
        Ok((version_of(&user)?, stored.into_iter().map(known).collect::<Result<_, _>>()?))
    }

    /// Plans one change of a commit; false where it cannot be.
    fn plan(
        &self,
        commit: &Commit,
        change: &Change,
        known: &Known,
        plan: &mut Rewrite,
    ) -> Result<bool, Failed> {
        let id = change.session();
        let own = known.get(&id).filter(|(ended, _)| ended.owner == commit.owner);
        let event = commit.event(change.kind(), id);
        match (change, own) {
            (Change::Insert(session), _) => {
                // An id leads to its user's document, by the tag that `Store::session_id` puts into
                // it.
                if known.contains_key(&id) || UserTag::of(id) != plan.tag() {
                    return Ok(false);
                }
                plan.begin(session, event);
            }
            (Change::End(_, cause), Some((_, stored))) => {
                let ending = Ending::of_commit(commit, *cause);
                plan.end(id, stored, self.remembered(id, stored, &ending), event);
            }
            (Change::Update { session, .. }, Some((_, stored))) => {
                plan.update(session, Stored(stored).integer("deadline")?, event);
            }
            (Change::Update { .. }, None) => return Ok(false),
            (Change::ClaimsChanged(_), Some(_)) => plan.tell(event),
            (Change::End(..) | Change::ClaimsChanged(_), None) => {}
        }
        Ok(true)
    }

    /// Changes users' documents, the list, the log and the history, if every document's version
    /// still holds. In a transaction these are a few commands, however many documents. Outside one
    /// there is one document, and its outbox has what follows.
    pub(crate) async fn apply(
        &self,
        plans: &[Rewrite],
        session: &mut Step<'_>,
    ) -> Result<bool, Failed> {
        if session.is_none() {
            let [plan] = plans else { return Err(StoreError::internal("one document").into()) };
            return self.apply_alone(plan).await;
        }
        let (mut updates, mut items) = (Vec::new(), Vec::new());
        for plan in plans {
            let own = plan.items(self.known_clock.now())?;
            let update = plan.change(&own, false);
            updates.push(doc! { "q": plan.filter(), "u": update, "upsert": plan.is_first() });
            items.extend(own);
        }
        if self.update_each(&self.users, &updates, session).await? != updates.len() {
            return Ok(false);
        }
        self.follow(&items, session).await?;
        if plans.iter().any(Rewrite::ends) {
            let tags = plans.iter().map(|plan| tag_key(plan.tag()));
            let forget = self.users.update_many(empty(tags), forgotten());
            in_session!(session.as_mut(), forget)?;
        }
        Ok(true)
    }

    async fn apply_alone(&self, plan: &Rewrite) -> Result<bool, Failed> {
        let update = plan.change(&plan.items(self.known_clock.now())?, true);
        let write = self.users.update_one(plan.filter(), update).upsert(plan.is_first());
        let written = match write.await {
            Err(error) if is_duplicate(&error) => return Ok(false),
            written => written?,
        };
        if written.matched_count == 0 && written.upserted_id.is_none() {
            return Ok(false);
        }
        self.deliver(&self.users, doc! { "_id": tag_key(plan.tag()) })
            .await
            .map_err(Failed::after_the_change)?;
        Ok(true)
    }
}

/// Beyond every version, whenever its user signed in first.
const NEVER_REACHED: i64 = i64::MAX - (1 << 32);

#[cfg(all(test, feature = "server-tests"))]
mod tests {
    use session_core::block::Block;
    use session_core::policy::PolicyScope;
    use session_core::store::{BlockChange, Entries};
    use session_core::{Actor, EventKind, FleetKey, Session, Store, Timestamp, Token, UserKey};

    use super::*;
    use crate::MongoStore;
    use crate::options::{MongoOptions, Transactions};

    async fn open(transactions: Transactions) -> MongoStore {
        let url = std::env::var("SESSION_KIT_MONGODB_URL")
            .expect("SESSION_KIT_MONGODB_URL names a server; `cargo xtask test` starts one");
        let database = format!("change_{:x}", getrandom::u64().unwrap());
        let options = MongoOptions::default().with_database(database).with_push(false);
        MongoStore::connect_with(&url, options.with_transactions(transactions)).await.unwrap()
    }

    fn sign_in(store: &MongoStore, at: Timestamp) -> (Session, Commit) {
        let owner = UserKey::new("alice".parse().unwrap());
        let id = store.session_id(&owner, at, [7; 16]);
        let token = Token::new(&FleetKey::from_bytes([7; 32]), id, [2; 12], [3; 16]);
        let session = Session::new(owner.clone(), &token, at);
        let changes = vec![Change::Insert(Box::new(session.clone()))];
        let (expected, by) = (Version::NONE, Actor::Application);
        (session, Commit { owner, expected, changes, at, by, from: None })
    }

    /// A node whose own clock is a day behind begins no user's versions below those of a life before.
    #[tokio::test]
    async fn a_users_first_version_goes_by_the_servers_clock() {
        for transactions in [Transactions::WhereThereAre, Transactions::Never] {
            let store = open(transactions).await;
            let clock = store.log_since(None, Entries::All, 0).await.unwrap().clock;
            let tomorrow = clock.plus(std::time::Duration::from_secs(24 * 3600));
            store.calls.known_clock.heard(tomorrow);
            let (_, commit) = sign_in(&store, clock);
            assert_eq!(store.calls.change_user(&commit).await.unwrap(), Outcome::Done);
            let version = store.user(&commit.owner).await.unwrap().version.0;
            let began = (version >> 31) - tomorrow.as_micros() / 1_000_000;
            assert!((0..60).contains(&began), "{began} s after the clock that was heard");
        }
    }

    /// The block came after the first look.
    #[tokio::test]
    async fn an_insert_beside_a_block_is_taken_back() {
        for transactions in [Transactions::WhereThereAre, Transactions::Never] {
            let store = open(transactions).await;
            let log = store.log_since(None, Entries::All, 0).await.unwrap();
            let (at, by) = (log.clock, Actor::Application);
            let block = Block { reason: None, until: None, since: at, by: by.clone() };
            let scope = PolicyScope::Deployment;
            let change = BlockChange { scope, block: Some(block), at, by };
            store.set_block(&change).await.unwrap();

            let (session, commit) = sign_in(&store, at);
            let id = session.id;
            let outcome = store.calls.begin_sessions(&commit, vec![id]).await.unwrap();
            assert_eq!(outcome, Outcome::Conflict);
            assert_eq!(store.load(id).await.unwrap(), None);
            let ended = store.ended(id).await.unwrap().unwrap();
            assert_eq!((ended.session, ended.cause), (session, EndCause::Blocked));
            assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Conflict);
            let told = store.log_since(Some(&log.next), Entries::All, 10).await.unwrap().events;
            let told: Vec<_> = told.iter().map(|event| event.kind).collect();
            let gone = EventKind::Ended(EndCause::Blocked);
            assert_eq!(told, [EventKind::BlockSet, EventKind::Created, gone]);
            assert_eq!(store.audit().await.unwrap(), [""; 0]);
        }
    }
}
