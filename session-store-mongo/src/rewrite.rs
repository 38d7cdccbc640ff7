//! What a change does to one user's document, put together before anything is written.

use std::collections::HashMap;

use mongodb::bson::{Bson, DateTime, Document, doc};
use session_core::store::{UserTag, Version};
use session_core::{Event, SessionId};

use crate::error::Failed;
use crate::outbox;
use crate::read::by_tag;
use crate::record::{self, field, random, tag_key};

/// What happens to one user's document, and what follows from it.
pub(crate) struct Rewrite {
    tag: UserTag,
    /// The version that must still hold; none where there is no document yet.
    expected: Option<Version>,
    pub(crate) set: Document,
    pub(crate) unset: Document,
    pub(crate) listed: Vec<Document>,
    pub(crate) unlisted: Vec<String>,
    pub(crate) events: Vec<Event>,
    pub(crate) until: Option<DateTime>,
    /// Besides the version, what has to hold.
    pub(crate) condition: Document,
}

impl Rewrite {
    pub(crate) fn new(tag: UserTag, expected: Option<Version>) -> Self {
        Self {
            tag,
            expected,
            set: Document::new(),
            unset: Document::new(),
            listed: Vec::new(),
            unlisted: Vec::new(),
            events: Vec::new(),
            until: None,
            condition: Document::new(),
        }
    }

    pub(crate) const fn tag(&self) -> UserTag {
        self.tag
    }

    /// Whether the document has to be made.
    pub(crate) const fn is_first(&self) -> bool {
        self.expected.is_none()
    }

    pub(crate) fn replace(&mut self, id: SessionId, fields: Document) {
        let fields = fields.into_iter();
        self.set.extend(fields.map(|(name, value)| (field(id, &format!(".{name}")), value)));
    }

    pub(crate) fn end(&mut self, id: SessionId) {
        self.unset.insert(field(id, ""), "");
        self.unlisted.push(record::name(id));
    }

    /// The document as it has to be for the change to apply.
    pub(crate) fn filter(&self) -> Document {
        let mut filter = by_tag(self.tag);
        match self.expected {
            Some(version) => filter.insert("version", version.0),
            // Of two that make it at once, one meets a duplicate.
            None => filter.insert("version", doc! { "$exists": false }),
        };
        filter.extend(self.condition.clone());
        filter
    }

    /// The change of the user's document. With an outbox it also has what follows.
    pub(crate) fn update(&self, entries: &[Document], with_outbox: bool) -> Document {
        let mut set = self.set.clone();
        if let Some(last) = entries.last().and_then(|entry| entry.get("order")) {
            set.insert("version", last.clone());
        }
        if with_outbox {
            set.insert("due", outbox::due(entries.len()));
        }
        let mut update = doc! { "$set": set };
        if !self.unset.is_empty() {
            update.insert("$unset", self.unset.clone());
        }
        if let Some(until) = self.until {
            update.insert("$max", doc! { "until": until });
        }
        if with_outbox {
            update.insert("$push", doc! { "outbox": { "$each": self.outbox(entries) } });
        }
        update
    }

    /// The change's entries of the log, which do not have their numbers yet. The version counts them,
    /// so the last one's place is the user's new version.
    pub(crate) fn entries(&self) -> Result<Vec<Document>, Failed> {
        let before = match self.expected {
            Some(version) => version.0,
            None => first_version()?,
        };
        let numbered = (before + 1..).zip(&self.events);
        numbered.map(|(order, event)| pending(event, order, tag_key(self.tag))).collect()
    }

    /// What has to follow, in order, for the [`outbox`](crate::outbox).
    fn outbox(&self, entries: &[Document]) -> Vec<Bson> {
        let listed = self.listed.iter();
        let listed: HashMap<_, _> =
            listed.filter_map(|listed| Some((listed.get_str("_id").ok()?, listed))).collect();
        let item = |(event, entry): (&Event, &Document)| {
            let mut item = doc! { "entry": entry };
            if let Some(name) = event.session.map(record::name) {
                if let Some(listed) = listed.get(name.as_str()) {
                    item.insert("list", (*listed).clone());
                }
                if self.unlisted.contains(&name) {
                    item.insert("unlist", name);
                }
            }
            Bson::from(item)
        };
        self.events.iter().zip(entries).map(item).collect()
    }
}

/// An entry of the log that does not have its number yet.
pub(crate) fn pending(event: &Event, order: i64, tag: i64) -> Result<Document, Failed> {
    let mut entry = record::event(event, random()?);
    entry.extend(doc! { "order": order, "tag": tag });
    Ok(entry)
}

/// The version before a user's first: seconds, then 31 random bits. So a user that was forgotten gets
/// no version again, and the entries of both lives stand in their order.
pub(crate) fn first_version() -> Result<i64, Failed> {
    let seconds = DateTime::now().timestamp_millis() / 1000;
    Ok((seconds << 31) | (random()? & i64::from(i32::MAX)))
}
