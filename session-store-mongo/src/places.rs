//! Policies and blocks: one document for each place where there are any.

use futures_util::TryStreamExt;
use mongodb::ClientSession;
use mongodb::bson::{Bson, Document, doc};
use session_core::block::Block;
use session_core::policy::{Policy, PolicyLayers, PolicyScope};
use session_core::store::record::Fields;
use session_core::store::{BlockChange, PolicyChange};
use session_core::{Event, StoreError, Timestamp, UserKey};

use crate::collections::Collections;
use crate::error::Failed;
use crate::record::{self, Stored};
use crate::rewrite::{ENTRY, first_version, pending};
use crate::transaction::{Step, Tries, in_session};

/// What is set at the places that concern a user.
#[derive(Default)]
pub(crate) struct Places {
    pub(crate) policies: PolicyLayers,
    pub(crate) blocks: Vec<(PolicyScope, Block)>,
}

impl Collections {
    pub(crate) async fn places_of(
        &self,
        owner: &UserKey,
        session: &mut ClientSession,
    ) -> Result<Places, Failed> {
        let mut places = Places::default();
        let scopes = PolicyScope::of(owner);
        let mut found = self.places.find(at_places(&scopes)).session(&mut *session).await?;
        while let Some(document) = found.next(session).await.transpose()? {
            let key = document.get_str("_id").map_err(|_| record::malformed("_id"))?;
            let Some(scope) = scopes.iter().find(|scope| place_key(scope) == key) else { continue };
            places.policies.set(scope, policy_in(&document)?);
            places.blocks.extend(block_in(&document)?.map(|block| (scope.clone(), block)));
        }
        Ok(places)
    }

    pub(crate) async fn read_policy(&self, scope: &PolicyScope) -> Result<Option<Policy>, Failed> {
        Ok(self.place(scope).await?.as_ref().map(policy_in).transpose()?.flatten())
    }

    pub(crate) async fn read_block(&self, scope: &PolicyScope) -> Result<Option<Block>, Failed> {
        Ok(self.place(scope).await?.as_ref().map(block_in).transpose()?.flatten())
    }

    async fn place(&self, scope: &PolicyScope) -> Result<Option<Document>, Failed> {
        Ok(self.places.find_one(doc! { "_id": place_key(scope) }).await?)
    }

    /// Whether a block holds for the user, by the server's clock.
    pub(crate) async fn is_blocked(&self, owner: &UserKey) -> Result<bool, Failed> {
        let stages = [
            doc! { "$match": at_places(&PolicyScope::of(owner)) },
            doc! { "$project": { "blocked_until": 1, "clock": "$$NOW" } },
        ];
        let mut session = self.session().await?;
        let mut found = self.places.aggregate(stages).session(&mut session).await?;
        let found: Vec<Document> = found.stream(&mut session).try_collect().await?;
        for place in &found {
            let until = Stored(place).integer("blocked_until")?;
            if until > Some(record::time(place, "clock")?.as_micros()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) async fn write_policy(&self, change: &PolicyChange) -> Result<(), Failed> {
        let policy = change.policy.as_ref().map(Policy::to_stored);
        self.write_place(&change.scope, &doc! { "policy": policy }, &change.event()).await
    }

    pub(crate) async fn write_block(&self, change: &BlockChange) -> Result<(), Failed> {
        let block = change.block.as_ref();
        let until = block.map(|block| block.until.unwrap_or(Timestamp::MAX).as_micros());
        let set = doc! { "block": block.map(Block::to_stored), "blocked_until": until };
        self.write_place(&change.scope, &set, &change.event()).await
    }

    /// Sets fields at one place; null is none.
    ///
    /// The entry counts in no user's version. So that it stands in the log after what was committed
    /// before and before what follows, both get their numbers now.
    async fn write_place(
        &self,
        scope: &PolicyScope,
        set: &Document,
        event: &Event,
    ) -> Result<(), Failed> {
        while self.number_pending().await? {}
        let mut tries = Tries::new(self.options.timeout);
        loop {
            let mut transaction = self.begin().await?;
            let result = self.try_place(scope, set, event, &mut transaction.step()).await;
            if self.finish(transaction, result, &mut tries).await?.is_some() {
                break;
            }
        }
        while self.number_pending().await.map_err(Failed::after_the_change)? {}
        Ok(())
    }

    /// Without transactions what is set holds from the first step on, with its entry in the outbox.
    async fn try_place(
        &self,
        scope: &PolicyScope,
        set: &Document,
        event: &Event,
        session: &mut Step<'_>,
    ) -> Result<(), Failed> {
        let place = doc! { "_id": place_key(scope) };
        let entry = pending(event, first_version(self.known_clock.now())?, NO_USER)?;
        let mut change = doc! { "$set": set };
        if session.is_none() {
            change.insert("$push", doc! { "outbox": { ENTRY: &entry } });
            change.insert("$currentDate", doc! { "waiting": true });
        }
        let write = self.places.update_one(place.clone(), change).upsert(true);
        in_session!(session.as_mut(), write)?;
        match session {
            Some(_) => self.append(&[&entry], session).await?,
            None => self.deliver(&self.places, place.clone()).await?,
        }
        if set.values().all(|value| *value == Bson::Null) {
            let mut nothing = place;
            nothing.extend(doc! { "policy": null, "block": null, "waiting": null });
            in_session!(session.as_mut(), self.places.delete_one(nothing))?;
        }
        Ok(())
    }
}

/// The `_id` of a place; the length tells where the tenant ends.
pub(crate) fn place_key(scope: &PolicyScope) -> String {
    let (tenant, user) = scope.key();
    format!("{}:{tenant}{user}", tenant.len())
}

pub(crate) fn at_places(scopes: &[PolicyScope]) -> Document {
    let keys: Vec<_> = scopes.iter().map(place_key).collect();
    doc! { "_id": { "$in": keys } }
}

fn policy_in(place: &Document) -> Result<Option<Policy>, StoreError> {
    Stored(place).text("policy")?.as_deref().map(Policy::from_stored).transpose()
}

fn block_in(place: &Document) -> Result<Option<Block>, StoreError> {
    Stored(place).text("block")?.as_deref().map(Block::from_stored).transpose()
}

/// The tag of entries that are no user's.
const NO_USER: i64 = -1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_keys_of_their_own() {
        let owner = |tenant: &str, user: &str| UserKey {
            tenant: Some(tenant).filter(|t| !t.is_empty()).map(|t| t.parse().unwrap()),
            user: user.parse().unwrap(),
        };
        let owners = [owner("", "ab"), owner("a", "b"), owner("ab", "c"), owner("a", "bc")];
        let mut keys: Vec<_> =
            owners.iter().flat_map(PolicyScope::of).map(|scope| place_key(&scope)).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 7, "{keys:?}: the deployment, two tenants, four users");
    }
}
