//! The changes of a commit as JSON, for what applies them inside the database.

use serde_json::{Map, Value};
use session_core::Timestamp;
use session_core::store::Change;
use session_core::store::record::{json_object, session_fields, token_fields};

pub(crate) fn text<'c>(changes: impl IntoIterator<Item = &'c Change>) -> String {
    Value::Array(changes.into_iter().map(step).collect()).to_string()
}

fn step(change: &Change) -> Value {
    let (what, mut step) = match change {
        Change::Insert(session) => ("insert", json_object(session_fields(session))),
        Change::End(..) => ("end", Map::new()),
        Change::ClaimsChanged(_) => ("tell", Map::new()),
        Change::ReplaceToken { token, authenticated_at, .. } => {
            let mut step = json_object(token_fields(token));
            let authenticated_at = authenticated_at.map(Timestamp::as_micros);
            step.insert("authenticated_at".to_owned(), authenticated_at.into());
            ("rotate", step)
        }
    };
    step.insert("do".to_owned(), what.into());
    step.insert("id".to_owned(), const_hex::encode(change.session().as_bytes()).into());
    step.insert("kind".to_owned(), change.kind().as_str().into());
    step.into()
}
