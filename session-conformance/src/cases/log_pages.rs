//! Pages of the log: what a reader wants, how much, and where it goes on.

use std::sync::Arc;

use session_core::policy::PolicyScope;
use session_core::store::{Change, Cursor, Entries, LogPage, Outcome, PolicyChange, limit_within};
use session_core::{Actor, EndCause, Event, Session, Store};
use tokio::task::JoinSet;

use crate::Namespace;
use crate::sample::{
    about, add, add_many, begins, commit, log_end, now, read_log, revoke, rotated, session, sorted,
    updates, user, user_in,
};

pub(crate) async fn invalidations_leave_out_the_rest(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    for limit in [1, 2, 100] {
        let mut cursor = log_end(other.as_ref()).await;
        let mut all = cursor.clone();
        mixture(store.as_ref()).await;
        let told = read(other.as_ref(), &mut cursor, Entries::Invalidations, limit).await;
        let everything = read_log(other.as_ref(), &mut all, 100).await;
        let wanted: Vec<_> =
            everything.iter().filter(|event| event.kind.invalidates()).cloned().collect();
        assert_eq!(wanted.len(), 4, "ends, rotations and changed claims: {everything:?}");
        assert_eq!(told, wanted, "those that make a cached session wrong, and no other");
        let again = read(other.as_ref(), &mut cursor, Entries::Invalidations, limit).await;
        assert_eq!(again, [], "each once");
    }
}

/// One of each kind: four that invalidate, and some that do not before, between and after them.
async fn mixture(store: &dyn Store) {
    let owner = user("alice");
    let policy = PolicyChange {
        scope: PolicyScope::User(owner.clone()),
        policy: None,
        at: now(store).await,
        by: Actor::Application,
    };
    store.set_policy(&policy).await.unwrap();
    let [one, two] = [add(store, &owner).await, add(store, &owner).await];
    commit(store, &owner, vec![updates(&rotated(&one, one.signed_in))]).await;
    store.set_policy(&policy).await.unwrap();
    let new = session(store, &owner, now(store).await);
    let changes =
        vec![Change::ClaimsChanged(one.id), begins(&new), Change::End(two.id, EndCause::Evicted)];
    assert_eq!(commit(store, &owner, changes).await, Outcome::Done);
    revoke(store, new.id).await;
    add(store, &owner).await;
    store.set_policy(&policy).await.unwrap();
}

pub(crate) async fn a_reader_passes_over_what_it_does_not_want(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let start = log_end(store.as_ref()).await;
    let mut cursor = start.clone();
    add_many(store.as_ref(), &owner, 9).await;
    let told = read(store.as_ref(), &mut cursor, Entries::Invalidations, 3).await;
    assert_eq!(told, [], "beginnings are not wanted");
    assert_ne!(cursor, start, "the cursor moves on, also past what is not wanted");
    let rest = read(store.as_ref(), &mut cursor.clone(), Entries::All, 100).await;
    assert_eq!(rest, [], "what was passed over does not come again");
    let session = add(store.as_ref(), &owner).await;
    revoke(store.as_ref(), session.id).await;
    let told = read(store.as_ref(), &mut cursor, Entries::Invalidations, 1).await;
    let told: Vec<_> = told.iter().map(|event| event.session).collect();
    assert_eq!(told, [Some(session.id)], "what is wanted comes, behind what is not");
}

pub(crate) async fn readers_of_both_kinds_share_positions(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let start = log_end(store.as_ref()).await;
    let mut all = start.clone();
    for _ in 0..2 {
        mixture(store.as_ref()).await;
    }
    let expected = read_log(store.as_ref(), &mut all, 100).await;
    let mut cursor = start;
    let mut told = Vec::new();
    for call in 0_usize.. {
        assert!(call < 1000, "the log has no end");
        // By turns: what the second kind leaves out is known from the first.
        let entries = [Entries::All, Entries::Invalidations][call % 2];
        let page = other.log_since(Some(&cursor), entries, 2).await.unwrap();
        assert!(!page.gap, "no entry was trimmed");
        told.extend(page.events);
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    let mut left = expected.iter();
    // An order is promised among a user's sessions, and a policy is none.
    for event in told.iter().filter(|event| event.session.is_some()) {
        assert!(left.any(|e| e == event), "each entry once and in its order: {event:?}");
    }
    let missed: Vec<_> = expected.iter().filter(|event| !told.contains(event)).collect();
    let invalidation = missed.iter().find(|event| event.kind.invalidates());
    assert_eq!(invalidation, None, "both kinds of reader are told of invalidations");
}

pub(crate) async fn limits_are_kept(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let most = LogPage::MAX_LIMIT as usize;
    let start = log_end(store.as_ref()).await;
    let mut sessions = Vec::new();
    for n in 0..4 {
        let owner = user(&format!("user {n}"));
        sessions.extend(add_many(store.as_ref(), &owner, most / 4 + 8).await);
    }
    for limit in [0, 1] {
        let page = other.log_since(Some(&start), Entries::All, limit).await.unwrap();
        assert!(page.events.len() <= 1, "a limit of {limit} is one entry at most");
        assert!(page.more, "there is more: a page of one entry is not the last one");
    }
    let mut cursor = start.clone();
    let told = read(other.as_ref(), &mut cursor, Entries::All, u32::MAX).await;
    let mut ids: Vec<_> = told.iter().filter_map(|event| event.session).collect();
    ids.sort();
    assert_eq!(ids, sorted(&sessions), "every entry once, on pages of no more than the most");
    let mut cursor = start;
    let mut few = Vec::new();
    for _ in 0..5 {
        let page = other.log_since(Some(&cursor), Entries::All, 0).await.unwrap();
        few.extend(page.events);
        cursor = page.next;
    }
    let mut ids: Vec<_> = few.iter().filter_map(|event| event.session).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), few.len(), "a limit of 0 counts as 1 and moves on");
    assert!(few.iter().all(|event| told.contains(event)), "the entries that other pages have");
    assert!(!few.is_empty(), "a limit of 0 counts as 1");
}

pub(crate) async fn every_users_entries_stand_in_their_order(namespace: Arc<dyn Namespace>) {
    let reader = namespace.connect().await;
    let mut cursor = log_end(reader.as_ref()).await;
    let mut writers = JoinSet::new();
    for n in 0..4 {
        let store = namespace.connect().await;
        writers.spawn(async move {
            let owner = user_in("north", &format!("user {n}"));
            let mut expected = Vec::new();
            let mut old = Vec::new();
            for _ in 0..8 {
                let begun = now(store.as_ref()).await;
                let new: Vec<_> = (0..3).map(|_| session(store.as_ref(), &owner, begun)).collect();
                let mut changes: Vec<_> = new.iter().map(begins).collect();
                let ends = old.iter().map(|s: &Session| Change::End(s.id, EndCause::Evicted));
                changes.splice(1..1, ends);
                expected.extend(changes.iter().map(|c| (c.kind(), Some(c.session()))));
                assert_eq!(commit(store.as_ref(), &owner, changes).await, Outcome::Done);
                old = new;
            }
            (owner, expected)
        });
    }
    let mut told = Vec::new();
    let mut done = Vec::new();
    while !writers.is_empty() {
        told.extend(read_log(reader.as_ref(), &mut cursor, 5).await);
        done.extend(writers.try_join_next().map(Result::unwrap));
        tokio::task::yield_now().await;
    }
    told.extend(read_log(reader.as_ref(), &mut cursor, 5).await);
    for (owner, expected) in done {
        let entries: Vec<_> =
            about(&told, &owner).into_iter().map(|event| (event.kind, event.session)).collect();
        assert_eq!(entries, expected, "a user's entries stand as they were committed, once");
    }
}

pub(crate) async fn reading_at_the_end_moves_nothing(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    add(store.as_ref(), &owner).await;
    let mut cursor = log_end(store.as_ref()).await;
    for entries in [Entries::All, Entries::Invalidations, Entries::All] {
        let page = other.log_since(Some(&cursor), entries, 10).await.unwrap();
        let (events, more, gap) = (page.events, page.more, page.gap);
        assert_eq!((events, more, gap), (Vec::new(), false, false), "the end of the log");
        cursor = page.next;
    }
    let session = add(store.as_ref(), &owner).await;
    let told = read_log(other.as_ref(), &mut cursor, 10).await;
    let told: Vec<_> = told.iter().map(|event| event.session).collect();
    assert_eq!(told, [Some(session.id)], "what comes after the end is told");
}

pub(crate) async fn without_a_cursor_nothing_is_read(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    for round in 0..2 {
        for entries in [Entries::All, Entries::Invalidations] {
            let page = store.log_since(None, entries, 10).await.unwrap();
            assert_eq!(page.events, [], "without a cursor nothing is read");
            assert!(!page.more && !page.gap, "the answer is where the log ends, round {round}");
            let session = add(store.as_ref(), &owner).await;
            let told = read_log(store.as_ref(), &mut page.next.clone(), 10).await;
            let told: Vec<_> = told.iter().map(|event| event.session).collect();
            assert_eq!(told, [Some(session.id)], "all that comes after, and no more");
        }
    }
}

/// Reads to the end of the log, and moves the cursor there.
async fn read(store: &dyn Store, cursor: &mut Cursor, entries: Entries, limit: u32) -> Vec<Event> {
    let mut events = Vec::new();
    let most = limit_within(limit, LogPage::MAX_LIMIT) as usize;
    for _ in 0..10_000 {
        let page = store.log_since(Some(cursor), entries, limit).await.unwrap();
        assert!(!page.gap, "a gap where no entry was trimmed");
        assert!(page.events.len() <= most, "{} on a page of {most}", page.events.len());
        events.extend(page.events);
        *cursor = page.next;
        if !page.more {
            return events;
        }
    }
    panic!("the log has no end");
}
