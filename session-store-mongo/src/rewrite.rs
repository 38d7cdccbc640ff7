//! What a change does to one user's document, put together before anything is written.

use mongodb::bson::{Bson, Document, doc};
use session_core::store::record::{details, session_fields};
use session_core::store::{UserTag, Version};
use session_core::{Event, Session, SessionId, Timestamp};

use crate::error::Failed;
use crate::read::by_tag;
use crate::record::{self, field, random, tag_key};

/// What happens to one user's document, and what follows from it.
pub(crate) struct Rewrite {
    tag: UserTag,
    /// The version that must still hold; none where there is no document yet.
    expected: Option<Version>,
    set: Document,
    unset: Document,
    max: Document,
    /// Besides the version, what has to hold.
    condition: Document,
    followed: Vec<(Event, Document)>,
}

impl Rewrite {
    pub(crate) fn new(tag: UserTag, expected: Option<Version>) -> Self {
        Self {
            tag,
            expected,
            set: Document::new(),
            unset: Document::new(),
            max: Document::new(),
            condition: Document::new(),
            followed: Vec::new(),
        }
    }

    pub(crate) const fn tag(&self) -> UserTag {
        self.tag
    }

    /// Whether the document has to be made.
    pub(crate) const fn is_first(&self) -> bool {
        self.expected.is_none()
    }

    pub(crate) const fn changes_nothing(&self) -> bool {
        self.followed.is_empty()
    }

    /// Whether a session ends.
    pub(crate) fn ends(&self) -> bool {
        self.followed.iter().any(|(_, follow)| follow.contains_key(UNLIST))
    }

    /// Only the log tells of it.
    pub(crate) fn tell(&mut self, event: Event) {
        self.followed.push((event, Document::new()));
    }

    pub(crate) fn begin(&mut self, session: &Session, event: Event) {
        self.condition.insert(field(session.id, ""), doc! { "$exists": false });
        self.set.insert(field(session.id, ""), record::document(session_fields(session)));
        self.unset.insert("until", "");
        self.followed.push((event, doc! { LIST: record::listed(session) }));
    }

    /// Replaces the details and raises the deadline; the list follows where that is later than the
    /// known one.
    pub(crate) fn update(&mut self, session: &Session, known: Option<i64>, event: Event) {
        let (id, deadline) = (session.id, session.deadline.as_micros());
        self.set.insert(field(id, ".details"), details(session));
        self.max.insert(field(id, ".deadline"), deadline);
        let mut follow = Document::new();
        if known.is_none_or(|known| known < deadline) {
            follow.insert(LATER, doc! { "_id": record::name(id), "deadline": deadline });
        }
        self.followed.push((event, follow));
    }

    /// Ends a session as it was read: where a write-back came in between, the history would miss
    /// it.
    pub(crate) fn end(
        &mut self,
        id: SessionId,
        as_read: &Document,
        history: Option<Document>,
        event: Event,
    ) {
        self.condition.insert(field(id, ""), as_read.clone());
        self.unset.insert(field(id, ""), "");
        let mut follow = doc! { UNLIST: record::name(id) };
        follow.extend(history.map(|ended| (HISTORY.to_owned(), ended.into())));
        self.followed.push((event, follow));
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

    /// The change of the user's document. Where the items are to wait in it, it has them.
    pub(crate) fn change(&self, items: &[Document], waiting: bool) -> Document {
        let mut set = self.set.clone();
        let last = items.last().and_then(|item| item.get_document(ENTRY).ok()?.get("order"));
        set.extend(last.map(|order| ("version".to_owned(), order.clone())));
        let mut change = doc! { "$set": set };
        for (operator, fields) in [("$unset", &self.unset), ("$max", &self.max)] {
            if !fields.is_empty() {
                change.insert(operator, fields.clone());
            }
        }
        if waiting {
            change.insert("$currentDate", doc! { "waiting": true });
            change.insert("$push", doc! { "outbox": { "$each": items } });
        }
        change
    }

    /// What has to follow, in order: each an entry of the log that has no number yet, and what
    /// becomes of the list and the history. The version counts the entries, so the place of the
    /// last one is the user's new version.
    pub(crate) fn items(&self, now: Timestamp) -> Result<Vec<Document>, Failed> {
        let before = match self.expected {
            Some(version) => version.0,
            None => first_version(now)?,
        };
        let item = |(order, (event, follow)): (i64, &(Event, Document))| {
            let mut item = doc! { ENTRY: pending(event, order, tag_key(self.tag))? };
            item.extend(follow.clone());
            Ok(item)
        };
        (before + 1..).zip(&self.followed).map(item).collect()
    }
}

/// The documents that some of the items have under a name.
pub(crate) fn parts<'i>(items: &'i [Document], name: &str) -> Vec<&'i Document> {
    items.iter().filter_map(|item| item.get_document(name).ok()).collect()
}

/// The names of the sessions that leave the list.
pub(crate) fn unlisted(items: &[Document]) -> Vec<&str> {
    items.iter().filter_map(|item| item.get(UNLIST).and_then(Bson::as_str)).collect()
}

/// An entry of the log that does not have its number yet.
pub(crate) fn pending(event: &Event, order: i64, tag: i64) -> Result<Document, Failed> {
    let mut entry = record::event(event, random()?);
    entry.extend(doc! { "order": order, "tag": tag });
    Ok(entry)
}

/// The version before a user's first: seconds by the server's clock, then 31 random bits. So a user
/// that was forgotten, by the same clock, gets no version again, and the entries of both lives stand
/// in their order.
pub(crate) fn first_version(now: Timestamp) -> Result<i64, Failed> {
    let seconds = now.as_micros() / 1_000_000;
    Ok((seconds << 31) | (random()? & i64::from(i32::MAX)))
}

/// In an item, an entry of the log,
pub(crate) const ENTRY: &str = "entry";
/// a new entry of the list,
pub(crate) const LIST: &str = "list";
/// the later deadline of one,
pub(crate) const LATER: &str = "later";
/// the name of one that goes,
const UNLIST: &str = "unlist";
/// and a record of the history.
pub(crate) const HISTORY: &str = "history";
