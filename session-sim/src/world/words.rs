//! Calls and answers in a few words, for the history of a run.

use crate::call::{Answer, Call, Reply};

pub(super) fn told(call: &Call) -> String {
    match call {
        Call::Commit(commit) => format!(
            "{:?}",
            commit.changes.iter().map(|c| (c.kind(), c.session())).collect::<Vec<_>>()
        ),
        Call::User(owner) => format!("{} {}", owner.user, owner.tenant_text()),
        Call::Load(id) | Call::Ended(id) => id.to_string(),
        Call::Touch(batch) => format!(
            "{:?}",
            batch.iter().map(|t| (t.id, t.last_accessed.as_micros())).collect::<Vec<_>>()
        ),
        Call::EndMany(end, _) => format!("{:?} {:?}", end.selection, end.cause),
        Call::Lease(name, holder, _) => format!("{} {holder}", name.get(..7).unwrap_or_default()),
        Call::SetPolicy(change) => format!("{:?} {:?}", change.scope, change.policy),
        Call::SetBlock(change) => format!("{:?} {:?}", change.scope, change.block),
        _ => String::new(),
    }
}

pub(super) fn answered(answer: &Answer) -> String {
    match answer {
        Err(error) => format!("failed: {error}"),
        Ok(Reply::User(state)) => {
            format!("version {} with {}", state.version.0, state.sessions.len())
        }
        Ok(Reply::Outcome(outcome)) => format!("{outcome:?}"),
        Ok(Reply::Loaded(loaded)) => loaded.as_ref().map_or("none".to_owned(), |l| {
            format!(
                "version {}, last accessed {}",
                l.version.0,
                l.session.last_accessed.as_micros()
            )
        }),
        Ok(Reply::Log(page)) => format!(
            "{} entries{}{}",
            page.events.len(),
            if page.gap { ", a gap" } else { "" },
            if page.more { ", more" } else { "" }
        ),
        Ok(Reply::Batch(batch)) => {
            format!("ended {:?}", batch.ended.iter().map(|e| e.id).collect::<Vec<_>>())
        }
        Ok(Reply::Gone(gone)) => format!("gone {gone:?}"),
        Ok(Reply::Lease(held)) => format!("{held}"),
        Ok(Reply::Count(count)) => count.to_string(),
        Ok(_) => "ok".to_owned(),
    }
}
