//! What a change does to one user's document, put together before anything is written.

use std::collections::{HashMap, HashSet};

use mongodb::bson::{Bson, DateTime, Document, doc};
use session_core::{Event, SessionId};

use crate::error::Failed;
use crate::outbox;
use crate::record::{self, field, random};

/// What happens to one user's document, and what follows from it.
#[derive(Default)]
pub(crate) struct Rewrite {
    pub(crate) set: Document,
    pub(crate) unset: Document,
    pub(crate) listed: Vec<Document>,
    pub(crate) unlisted: Vec<String>,
    pub(crate) events: Vec<Event>,
    pub(crate) until: Option<DateTime>,
    /// All sessions that are left, where so many end that naming each would cost more.
    pub(crate) whole: Option<Document>,
    /// Besides the version, what has to hold.
    pub(crate) condition: Document,
}

impl Rewrite {
    pub(crate) fn replace(&mut self, id: SessionId, fields: Document) {
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
    pub(crate) fn condense(&mut self, user: &Document) {
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

    /// The change of the user's document; outside a transaction it has what follows, too.
    pub(crate) fn update(&self, alone: bool) -> Result<Document, Failed> {
        let mut set = match &self.whole {
            Some(sessions) => doc! { "sessions": sessions },
            None => self.set.clone(),
        };
        set.insert("version", random()?);
        let outbox = if alone { self.outbox()? } else { Vec::new() };
        if !outbox.is_empty() {
            set.insert("due", outbox::due(outbox.len()));
        }
        let mut update = doc! { "$set": set };
        if !self.unset.is_empty() && self.whole.is_none() {
            update.insert("$unset", self.unset.clone());
        }
        if let Some(until) = self.until {
            update.insert("$max", doc! { "until": until });
        }
        if !outbox.is_empty() {
            update.insert("$push", doc! { "outbox": { "$each": outbox } });
        }
        Ok(update)
    }

    pub(crate) fn end(&mut self, id: SessionId) {
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

    /// What has to follow, in order, for the [`outbox`](crate::outbox).
    fn outbox(&self) -> Result<Vec<Document>, Failed> {
        let listed: HashMap<_, _> = self
            .listed
            .iter()
            .filter_map(|listed| Some((listed.get_str("_id").ok()?, listed)))
            .collect();
        let mut outbox = Vec::new();
        for event in &self.events {
            let mark = random()?;
            let mut item = doc! { "mark": mark, "entry": record::event(event, mark) };
            if let Some(name) = event.session.map(record::name) {
                if let Some(listed) = listed.get(name.as_str()) {
                    item.insert("list", (*listed).clone());
                }
                if self.unlisted.contains(&name) {
                    item.insert("unlist", name);
                }
            }
            outbox.push(item);
        }
        Ok(outbox)
    }
}
