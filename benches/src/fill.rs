//! Writes generated users into a store, and can go on where an earlier run stopped.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use session_core::store::{Change, Commit, Outcome, Version};
use session_core::{Actor, Session, SessionId, Store, UserKey};

use crate::Failure;
use crate::people::People;

/// How much of the people is in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// So many of the first users.
    pub users: u64,
    /// And all of their sessions.
    pub sessions: u64,
}

/// Writes further users until there are at least `sessions` sessions. Calls `note` after each group
/// of users with what is complete: a later call that begins there writes the rest. What an earlier
/// call wrote without noting it is found and not written twice.
///
/// # Errors
/// When the store fails, or `note` does.
pub async fn fill(
    store: &Arc<dyn Store>,
    people: People,
    mut written: Written,
    sessions: u64,
    mut note: impl FnMut(Written) -> Result<(), Failure>,
) -> Result<Written, Failure> {
    let bar = progress(sessions, written.sessions);
    while written.sessions < sessions {
        let group = group(people, written.users, sessions - written.sessions);
        let counts: Vec<u64> = stream::iter(group)
            .map(|user| {
                let store = Arc::clone(store);
                async move { tokio::spawn(async move { write(&*store, people, user).await }).await? }
            })
            .buffer_unordered(WRITERS)
            .inspect_ok(|count| bar.inc(*count))
            .try_collect()
            .await?;
        written.users += counts.len() as u64;
        written.sessions += counts.iter().sum::<u64>();
        note(written)?;
    }
    bar.finish_and_clear();
    Ok(written)
}

/// The next users: no more than are missing, and few enough to be noted often.
fn group(people: People, first: u64, missing: u64) -> std::ops::Range<u64> {
    let mut sessions = 0;
    let mut end = first;
    while end < first + GROUP && sessions < missing {
        sessions += people.sessions_of(end);
        end += 1;
    }
    first..end
}

/// Writes one user's sessions in as many commits as it takes.
async fn write(store: &dyn Store, people: People, user: u64) -> Result<u64, Failure> {
    let owner = people.owner(user)?;
    let count = people.sessions_of(user);
    let mut sessions = Vec::new();
    for n in 0..count {
        sessions.push(people.session(store, user, n)?);
    }
    let mut state = (Version::NONE, HashSet::new());
    loop {
        let missing = sessions.iter().filter(|session| !state.1.contains(&session.id));
        let next: Vec<_> = missing.take(Commit::MAX_CHANGES).cloned().collect();
        if next.is_empty() {
            return Ok(count);
        }
        let last = next.len() + state.1.len() >= sessions.len();
        let outcome = insert(store, &owner, state.0, next, people).await?;
        if last && outcome == Outcome::Done {
            return Ok(count);
        }
        state = known(store, &owner).await?;
    }
}

async fn insert(
    store: &dyn Store,
    owner: &UserKey,
    expected: Version,
    sessions: Vec<Session>,
    people: People,
) -> Result<Outcome, Failure> {
    let changes = sessions.into_iter().map(|session| Change::Insert(Box::new(session))).collect();
    let (owner, at) = (owner.clone(), people.now().minus(People::SPAN));
    let commit = Commit { owner, expected, changes, at, by: Actor::System, from: None };
    Ok(store.commit(&commit).await?)
}

async fn known(
    store: &dyn Store,
    owner: &UserKey,
) -> Result<(Version, HashSet<SessionId>), Failure> {
    let state = store.user(owner).await?;
    Ok((state.version, state.sessions.iter().map(|session| session.id).collect()))
}

fn progress(sessions: u64, from: u64) -> ProgressBar {
    let template = "{bar:40} {human_pos} of {human_len} sessions, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::new(sessions).with_position(from);
    bar.reset_eta();
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

const WRITERS: usize = 32;
const GROUP: u64 = 500;

#[cfg(test)]
mod tests {
    use session_core::Timestamp;
    use session_core::store::{Cursor, Entries, LogPage};
    use session_store_memory::MemoryStore;

    use super::*;

    const PEOPLE: People = People::new(7, Timestamp::from_micros(1_790_000_000_000_000));

    async fn entries(store: &Arc<dyn Store>, from: &Cursor) -> usize {
        let mut from = from.clone();
        let mut count = 0;
        loop {
            let page =
                store.log_since(Some(&from), Entries::All, LogPage::MAX_LIMIT).await.unwrap();
            count += page.events.len();
            from = page.next;
            if !page.more {
                return count;
            }
        }
    }

    #[tokio::test]
    async fn a_second_run_goes_on_where_the_first_stopped() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let begin = store.log_since(None, Entries::All, 1).await.unwrap().next;
        let mut notes = Vec::new();
        let interrupted = fill(&store, PEOPLE, Written::default(), 8_000, |written| {
            notes.push(written);
            if notes.len() == 2 { Err("interrupted".into()) } else { Ok(()) }
        })
        .await;
        assert!(interrupted.is_err());
        // The second group is in the store and was not noted.
        let written = fill(&store, PEOPLE, notes[0], 8_000, |_| Ok(())).await.unwrap();
        assert!((8_000..10_000).contains(&written.sessions), "{written:?}");
        let sessions: u64 = (0..written.users).map(|user| PEOPLE.sessions_of(user)).sum();
        assert_eq!(written.sessions, sessions);
        assert_eq!(entries(&store, &begin).await as u64, sessions, "each is written once");
    }

    #[tokio::test]
    async fn a_user_of_whom_a_part_was_written_is_completed() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let owner = PEOPLE.owner(0).unwrap();
        let first = (0..7).map(|n| PEOPLE.session(&*store, 0, n).unwrap()).collect();
        insert(&*store, &owner, Version::NONE, first, PEOPLE).await.unwrap();
        fill(&store, PEOPLE, Written::default(), 1, |_| Ok(())).await.unwrap();
        let state = known(&*store, &owner).await.unwrap();
        assert_eq!(state.1.len() as u64, People::MOST);
    }
}
