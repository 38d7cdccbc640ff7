//! Writes generated users into a store, and can go on where an earlier run stopped.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use session_core::store::{Change, Commit, Outcome};
use session_core::{Actor, Store};

use crate::Failure;
use crate::people::People;

/// How much of the people is in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// So many of the first users, with all of their sessions.
    pub users: u64,
    /// How many sessions.
    pub sessions: u64,
    /// The users that an interrupted call was about.
    part: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    /// Where they end.
    end: u64,
    /// So many of their oldest sessions are in the store.
    sessions: u64,
}

/// Writes further users until there are at least `sessions` sessions. They sign in in the order of time, as
/// users do: where a store puts a session depends on what it has put there before. Calls `note` after each group
/// of sessions with what is complete: a later call that begins there writes the rest. What an earlier
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
    let bar = progress(sessions);
    while written.sessions < sessions {
        let mut part = written.part.unwrap_or_else(|| missing(people, written, sessions));
        let signed_in = in_order(people, written.users..part.end);
        bar.set_position(written.sessions + part.sessions);
        bar.reset_eta();
        for group in signed_in[part.sessions as usize..].chunks(GROUP) {
            stream::iter(group.to_vec())
                .map(|(user, n)| {
                    let store = Arc::clone(store);
                    async move {
                        tokio::spawn(async move { write(&*store, people, user, n).await }).await?
                    }
                })
                .buffer_unordered(WRITERS)
                .try_for_each(|()| {
                    bar.inc(1);
                    std::future::ready(Ok(()))
                })
                .await?;
            part.sessions += group.len() as u64;
            note(Written { part: Some(part), ..written })?;
        }
        let sessions = written.sessions + part.sessions;
        written = Written { users: part.end, sessions, part: None };
        note(written)?;
    }
    bar.finish_and_clear();
    Ok(written)
}

/// The next users, until there are enough sessions.
fn missing(people: People, written: Written, sessions: u64) -> Part {
    let (mut end, mut count) = (written.users, written.sessions);
    while count < sessions {
        count += people.sessions_of(end);
        end += 1;
    }
    Part { end, sessions: 0 }
}

/// All sessions of these users, those that began first first.
fn in_order(people: People, users: std::ops::Range<u64>) -> Vec<(u64, u64)> {
    let mut sessions: Vec<_> =
        users.flat_map(|user| (0..people.sessions_of(user)).map(move |n| (user, n))).collect();
    sessions.sort_by_cached_key(|(user, n)| people.signed_in(*user, *n));
    sessions
}

/// Writes a session that is not there yet.
async fn write(store: &dyn Store, people: People, user: u64, n: u64) -> Result<(), Failure> {
    let (owner, session) = (people.owner(user)?, people.session(store, user, n)?);
    loop {
        let state = store.user(&owner).await?;
        if state.sessions.iter().any(|known| known.id == session.id) {
            return Ok(());
        }
        let at = people.now().minus(People::SPAN);
        let (owner, expected, by) = (owner.clone(), state.version, Actor::System);
        let changes = vec![Change::Insert(Box::new(session.clone()))];
        let commit = Commit { owner, expected, changes, at, by, from: None };
        if store.commit(&commit).await? == Outcome::Done {
            return Ok(());
        }
    }
}

fn progress(sessions: u64) -> ProgressBar {
    let template = "{bar:40} {human_pos} of {human_len} sessions, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::new(sessions);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

const WRITERS: usize = 32;
const GROUP: usize = 2_000;

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
        assert_eq!(entries(&store, &begin).await, 2 * GROUP, "it stopped on the way");
        // The second group is in the store and was not noted.
        let written = fill(&store, PEOPLE, notes[0], 8_000, |_| Ok(())).await.unwrap();
        assert!((8_000..10_000).contains(&written.sessions), "{written:?}");
        let sessions: u64 = (0..written.users).map(|user| PEOPLE.sessions_of(user)).sum();
        assert_eq!(written.sessions, sessions);
        assert_eq!(entries(&store, &begin).await as u64, sessions, "each is written once");
        let more = fill(&store, PEOPLE, written, 12_000, |_| Ok(())).await.unwrap();
        assert!(more.users > written.users && more.sessions >= 12_000, "{more:?}");
        assert_eq!(entries(&store, &begin).await as u64, more.sessions);
    }

    #[test]
    fn sessions_begin_in_the_order_of_time() {
        let sessions = in_order(PEOPLE, 0..50);
        let times: Vec<_> = sessions.iter().map(|(user, n)| PEOPLE.signed_in(*user, *n)).collect();
        assert!(times.is_sorted());
        assert_eq!(
            sessions.len() as u64,
            (0..50).map(|user| PEOPLE.sessions_of(user)).sum::<u64>()
        );
    }
}
