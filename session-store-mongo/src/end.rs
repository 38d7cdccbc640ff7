//! Sessions that end by a selection or in the cleanup: chosen by the list, ended by what their
//! users' documents say.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use session_core::store::record::read_ended;
use session_core::store::{
    Continuation, EndMany, Ended, EndedBatch, Ending, Recheck, Sweep, UserTag, Version,
};
use session_core::{SessionId, StoreError, Timestamp};

use crate::collections::Collections;
use crate::error::Failed;
use crate::read::{stored_session, users_of, version_of};
use crate::record::{self, Stored, tag_key};
use crate::rewrite::Rewrite;
use crate::transaction::{Step, Tries, in_session};
use crate::walk::{Part, Place, Walk};

/// Documents of users by their tags, and for those that cannot be read the reason.
type Users = HashMap<i64, Result<Document, StoreError>>;

/// A session that is to end.
struct Found<'d> {
    user: &'d Document,
    session: &'d Document,
    version: Version,
}

impl Collections {
    pub(crate) async fn end_selected(
        &self,
        end: &EndMany,
        limit: usize,
    ) -> Result<EndedBatch, Failed> {
        let after = end.after.as_ref().map(Continuation::place).transpose()?.map(Place::from);
        let part = self.walk(&self.list, &Walk::selected(&end.selection), after, limit).await?;
        self.end_part(part, &end.into(), end.into()).await
    }

    /// Chooses by the list, which may lag behind; the step that ends them looks at the deadline again.
    pub(crate) async fn end_overdue(
        &self,
        sweep: &Sweep,
        limit: usize,
    ) -> Result<EndedBatch, Failed> {
        let after = sweep.after.as_ref().map(Continuation::place).transpose()?.map(Place::from);
        let walk = Walk::overdue(self.clock().await?.minus(sweep.overdue));
        let part = self.walk(&self.list, &walk, after, limit).await?;
        self.end_part(part, &sweep.into(), sweep.into()).await
    }

    async fn end_part(
        &self,
        Part { found, next }: Part,
        ending: &Ending,
        recheck: Recheck,
    ) -> Result<EndedBatch, Failed> {
        let chosen: Vec<_> = found.iter().filter_map(readable).collect();
        let unreadable = found.len() - chosen.len();
        if unreadable > 0 {
            tracing::warn!(unreadable, "sessions cannot be read to end them");
        }
        let ended = self.end_chosen(chosen, ending, recheck).await?;
        Ok(EndedBatch { ended, next: next.map(|place| Continuation::at(place.into())) })
    }

    /// Ends sessions in steps of at most [`BATCH`], those for which the recheck holds.
    pub(crate) async fn end_chosen(
        &self,
        chosen: Vec<Ended>,
        ending: &Ending,
        recheck: Recheck,
    ) -> Result<Vec<Ended>, Failed> {
        let mut ended = Vec::new();
        for step in steps(chosen, self.transactional) {
            let mut tries = Tries::new(self.options.timeout);
            let gone = loop {
                let mut transaction = self.begin().await?;
                let result = self.try_end(&step, ending, recheck, &mut transaction.step()).await;
                if let Some(gone) = self.finish(transaction, result, &mut tries).await? {
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
        ending: &Ending,
        recheck: Recheck,
        session: &mut Step<'_>,
    ) -> Result<Vec<Ended>, Failed> {
        let users = self.users_of(chosen, session).await?;
        let (mut ended, mut plans) = (Vec::new(), HashMap::new());
        for gone in chosen {
            let tag = UserTag::of(gone.id);
            let found = match look_up(gone.id, &users) {
                Ok(found) => found,
                Err(error) => {
                    let name = record::name(gone.id);
                    tracing::warn!(name, %error, "a session cannot be read to end it");
                    continue;
                }
            };
            let Some(Found { user, session: found, version }) = found else {
                // It began and ended before its entry was delivered; nothing else removes that.
                self.unlist(gone.id, session).await?;
                continue;
            };
            if !holds(recheck, user, found)? {
                self.relist(gone.id, found, session).await?;
                continue;
            }
            let plan = plans.entry(tag).or_insert_with(|| Rewrite::new(tag, Some(version)));
            let remembered = self.remembered(gone.id, found, ending);
            plan.end(gone.id, found, remembered, ending.event(gone));
            ended.push(gone.clone());
        }
        let plans: Vec<_> = plans.into_values().collect();
        if !plans.is_empty() && !self.apply(&plans, session).await? {
            return Err(Failed::Conflict);
        }
        Ok(ended)
    }

    /// The documents of these sessions' users, by their tags, with the server's clock.
    async fn users_of(&self, chosen: &[Ended], session: &mut Step<'_>) -> Result<Users, Failed> {
        let ids: Vec<_> = chosen.iter().map(|gone| gone.id).collect();
        let find = self.users.aggregate(users_of(&ids));
        let users: Vec<Document> = match session.as_mut() {
            Some(step) => {
                let mut cursor = find.session(&mut **step).await?;
                cursor.stream(step).try_collect().await?
            }
            None => find.await?.try_collect().await?,
        };
        let mut keyed = HashMap::new();
        for user in users {
            let tag = record::number(&user, "_id")?;
            let settled = match self.settled(Some(&user)).await {
                Ok(()) => Ok(user),
                Err(failed) if failed.is_corrupt() => Err(failed.into()),
                Err(failed) => return Err(failed),
            };
            keyed.insert(tag, settled);
        }
        Ok(keyed)
    }

    async fn unlist(&self, id: SessionId, session: &mut Step<'_>) -> Result<(), Failed> {
        let gone = self.list.delete_one(doc! { "_id": record::name(id) });
        in_session!(session.as_mut(), gone)?;
        Ok(())
    }

    /// Puts the list right about a session that is spared, so that no later walk chooses it.
    async fn relist(
        &self,
        id: SessionId,
        found: &Document,
        session: &mut Step<'_>,
    ) -> Result<(), Failed> {
        // One of them can be read, or the session would not be spared.
        let readable = |name| Some((name, record::number(found, name).ok()?));
        let known = ["last_accessed", "deadline"].into_iter().filter_map(readable);
        let right: Document = known.map(|(name, time)| (name.to_owned(), time.into())).collect();
        let (name, right) = (doc! { "_id": record::name(id) }, doc! { "$max": right });
        in_session!(session.as_mut(), self.list.update_one(name, right))?;
        Ok(())
    }
}

/// The session that an entry of the list names. One that cannot be read stops no walk.
fn readable(entry: &Document) -> Option<Ended> {
    let name = entry.get_str("_id").unwrap_or_default();
    let read = read_ended(&Stored(entry));
    read.inspect_err(|error| tracing::debug!(name, %error, "a session cannot be read to end it"))
        .ok()
}

/// A session in its user's document; none where it has ended.
fn look_up(id: SessionId, users: &Users) -> Result<Option<Found<'_>>, StoreError> {
    let user = match users.get(&tag_key(UserTag::of(id))) {
        None => return Ok(None),
        Some(user) => user.as_ref().map_err(|error| StoreError::corrupt(error.to_string()))?,
    };
    let Some(session) = stored_session(user, id)? else { return Ok(None) };
    Ok(Some(Found { user, session, version: version_of(user)? }))
}

/// By the server's clock, as of the read that found the session in this step. Where a field cannot
/// be read, that of the list holds.
fn holds(recheck: Recheck, user: &Document, session: &Document) -> Result<bool, Failed> {
    let Recheck { accessed_before, overdue } = recheck;
    let is_before = |field, line: Timestamp| {
        record::number(session, field).map_or(true, |value| value < line.as_micros())
    };
    if accessed_before.is_some_and(|line| !is_before("last_accessed", line)) {
        return Ok(false);
    }
    let Some(overdue) = overdue else { return Ok(true) };
    Ok(is_before("deadline", record::time(user, "clock")?.minus(overdue)))
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

/// Sessions that one step ends. Each is a field of its user's document, an entry of the list, one
/// of the log and a record of the history.
const BATCH: usize = 100;
