//! The changes of a commit as JSON, for what applies them inside the database.

use serde_json::{Map, Value};
use session_core::store::Change;
use session_core::store::record::{self, FieldValue, json_object, session_fields};

/// An array of objects, in order. Each has what to `do`, the `id` in hexadecimal digits and the
/// `kind` of its log entry, which for an end is also the cause:
/// - `insert`, with every field of the session;
/// - `update`, with its `details` and its `deadline`;
/// - `end` and `tell`, with nothing else.
pub(crate) fn text<'c>(changes: impl IntoIterator<Item = &'c Change>) -> String {
    Value::Array(changes.into_iter().map(step).collect()).to_string()
}

fn step(change: &Change) -> Value {
    let (what, mut step) = match change {
        Change::Insert(session) => ("insert", json_object(session_fields(session))),
        Change::End(..) => ("end", Map::new()),
        Change::ClaimsChanged(_) => ("tell", Map::new()),
        Change::Update { session, .. } => {
            let details = ("details", FieldValue::Text(record::details(session).into()));
            ("update", json_object([details, ("deadline", session.deadline.into())]))
        }
    };
    step.insert("do".to_owned(), what.into());
    step.insert("id".to_owned(), const_hex::encode(change.session().as_bytes()).into());
    step.insert("kind".to_owned(), change.kind().as_str().into());
    step.into()
}
