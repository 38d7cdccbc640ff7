//! Looks at every document: is everything where it belongs, and nothing else there?

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use session_core::store::UserTag;
use session_core::store::record::read_session;
use session_core::{Session, StoreError};

use crate::collections::Collections;
use crate::error::Failed;
use crate::read::sessions_in;
use crate::record::{self, Stored, tag_key};
use crate::store::MongoStore;

impl MongoStore {
    /// Compares all users' documents with the list and the history and answers what does not fit,
    /// each in a sentence. Reads everything: for tests and for an operator in doubt, while nothing
    /// changes.
    ///
    /// # Errors
    /// As any read of the store.
    pub async fn audit(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.calls.look().await?)
    }
}

impl Collections {
    async fn look(&self) -> Result<Vec<String>, Failed> {
        let mut complaints = Vec::new();
        let mut sessions: HashMap<String, Session> = HashMap::new();
        let users: Vec<Document> = self.users.find(doc! {}).await?.try_collect().await?;
        for user in &users {
            let tag = record::number(user, "_id")?;
            let found = sessions_in(user)?;
            if user.contains_key("waiting") || user.contains_key("outbox") {
                complaints.push(format!("user {tag} has changes that were not delivered"));
            }
            for session in found {
                let session = read_session(&Stored(session))?;
                if tag_key(UserTag::of(session.id)) != tag {
                    complaints.push(format!("{} is in the wrong document {tag}", session.id));
                }
                sessions.insert(record::name(session.id), session);
            }
        }
        let places: Vec<Document> = self.places.find(doc! {}).await?.try_collect().await?;
        for place in places.iter().filter(|place| place.contains_key("waiting")) {
            complaints.push(format!("{:?} has changes that were not delivered", place.get("_id")));
        }
        let listed: Vec<Document> = self.list.find(doc! {}).await?.try_collect().await?;
        let mut names = HashSet::new();
        for entry in &listed {
            let name = entry.get_str("_id").map_err(|_| record::malformed("_id"))?;
            names.insert(name.to_owned());
            let Some(session) = sessions.get(name) else {
                complaints.push(format!("{name} is listed and does not exist"));
                continue;
            };
            let right = record::listed(session);
            if *entry != right {
                complaints.push(format!("{name} is listed as {entry}, not as {right}"));
            }
        }
        let missing = sessions.keys().filter(|name| !names.contains(*name));
        complaints.extend(missing.map(|name| format!("{name} is not listed")));
        let ended: Vec<Document> = self.history.find(doc! {}).await?.try_collect().await?;
        for ended in &ended {
            let name = ended.get_str("_id").map_err(|_| record::malformed("_id"))?;
            if sessions.contains_key(name) {
                complaints.push(format!("{name} has ended and exists"));
            }
        }
        Ok(complaints)
    }
}
