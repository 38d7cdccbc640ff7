//! What happens in a few words, for the history of a run and the list of what runs have come upon.

use crate::call::{Answer, Call, Reply};
use crate::client::{Outcome, Seen};
use crate::plan::{Act, Chosen};

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

/// What has been revoked, for the list of what runs have come upon.
pub(super) fn revoked(act: &Act) -> &'static str {
    match act {
        Act::RevokeOthers(_) => "a user's other sessions are revoked",
        Act::Erase(_) => "a user is erased",
        Act::RevokeChosen(_, chosen) => match chosen {
            Chosen::User => "a user's sessions are revoked",
            Chosen::Kind => "a user's sessions of one kind are revoked",
            Chosen::App => "the sessions of one application are revoked",
            Chosen::Tenant => "the sessions of a tenant are revoked",
            Chosen::Deployment => "all sessions are revoked",
            Chosen::Ids => "several sessions are revoked by their ids",
            Chosen::Older(_) => "a user's older sessions are revoked",
            Chosen::Unused(_) => "a user's unused sessions are revoked",
        },
        _ => "a session is revoked by its id",
    }
}

pub(super) fn brief(outcome: &Outcome) -> String {
    match outcome {
        // Tokens are as good as random: their sessions tell more.
        Outcome::SignedIn { id, .. } => format!("signed in as {id}"),
        Outcome::TooMany { sessions, .. } => format!("too many: {sessions:?}"),
        Outcome::Listed(listed, _) => {
            format!("{:?}", listed.iter().map(|(id, _)| id).collect::<Vec<_>>())
        }
        Outcome::Remembered(listed, _) => {
            let ended = listed.iter().map(|ended| (ended.session.id, ended.cause));
            format!("{:?}", ended.collect::<Vec<_>>())
        }
        Outcome::Rotated(next) => format!("rotated: {}", next.is_some()),
        Outcome::Seen(Seen::Active(active)) => {
            format!(
                "{} since {}, claims {}",
                active.id,
                active.authenticated.as_micros(),
                active.claims
            )
        }
        other => format!("{other:?}"),
    }
}
