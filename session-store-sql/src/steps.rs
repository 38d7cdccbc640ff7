//! The changes of a commit as JSON, for the functions and procedures that apply them.

use serde_json::{Value, json};
use session_core::rotation::TokenState;
use session_core::store::Change;
use session_core::{EventKind, Session, SessionId, Timestamp};

use crate::rows;

pub(crate) fn text<'c>(changes: impl IntoIterator<Item = &'c Change>) -> String {
    Value::Array(changes.into_iter().map(change).collect()).to_string()
}

fn change(change: &Change) -> Value {
    match change {
        Change::Insert(session) => insert(session),
        Change::End(id, cause) => step("end", *id, EventKind::Ended(*cause)),
        Change::ClaimsChanged(id) => step("tell", *id, EventKind::ClaimsChanged),
        Change::ReplaceToken { id, token, authenticated_at } => {
            let mut step = step("rotate", *id, EventKind::Rotated);
            step["authenticated_at"] = authenticated_at.map(Timestamp::as_micros).into();
            put_token(&mut step, token);
            step
        }
    }
}

fn insert(session: &Session) -> Value {
    let mut step = step("insert", session.id, EventKind::Created);
    step["device_kind"] = session.device_kind.as_str().into();
    step["device_info"] = session.device_info.as_ref().map(|info| info.as_str()).into();
    step["client_id"] = session.client_id.as_ref().map(|client| client.as_str()).into();
    step["ip_addresses"] = rows::addresses_column(&session.ip_addresses).into();
    step["signed_in"] = session.signed_in.as_micros().into();
    step["last_accessed"] = session.last_accessed.as_micros().into();
    step["authenticated_at"] = session.authenticated_at.as_micros().into();
    step["absolute_expiry"] = session.absolute_expiry.map(Timestamp::as_micros).into();
    step["data"] = session.data.as_ref().map(|data| data.as_json()).into();
    put_token(&mut step, &session.token);
    step
}

fn step(what: &str, id: SessionId, kind: EventKind) -> Value {
    json!({ "do": what, "id": const_hex::encode(id.as_bytes()), "kind": kind.as_str() })
}

fn put_token(step: &mut Value, token: &TokenState) {
    step["token_current"] = const_hex::encode(token.current.as_bytes()).into();
    step["token_family"] = const_hex::encode(token.family.as_bytes()).into();
    let retired = token.retired.map(|retired| const_hex::encode(retired.digest.as_bytes()));
    step["token_retired"] = retired.into();
    step["token_retired_at"] = token.retired.map(|retired| retired.at.as_micros()).into();
}
