//! Every end of a session moves its record into the history, in the same step.

use std::sync::Arc;
use std::time::Duration;

use session_core::store::{
    Change, EndMany, EndedSession, Forget, HistoryQuery, Needs, Outcome, Selection, Sweep,
    TenantFilter,
};
use session_core::{Actor, DeviceInfo, EndCause, EventKind, Session, Store, Timestamp, UserKey};

use super::history_pages::walk;
use crate::Namespace;
use crate::run::skip;
use crate::sample::{
    HOUR, SECOND, add, address, begins, change_at, commit, detailed, end, end_all, end_at, ids,
    insert, insert_all, log_end, longest_actor, now, read_log, revoke, rotated, session, sweep_all,
    updates, used, user, user_in, version, whole_sweep,
};

pub(crate) async fn every_way_of_ending_is_remembered(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    for owner in [user("alice"), user_in("north", "alice")] {
        let begun = now(store.as_ref()).await;
        let mut sessions = [0, 1, 2].map(|_| detailed(session(store.as_ref(), &owner, begun)));
        sessions[2].deadline = begun.minus(SECOND);
        insert_all(store.as_ref(), &sessions).await;
        let ended = end_in_three_ways(store.as_ref(), sessions).await;
        for expected in &ended {
            for node in [&store, &other] {
                let read = node.ended(expected.session.id).await.unwrap();
                assert_eq!(read.as_ref(), Some(expected), "the record, when, why, by whom");
            }
            assert_eq!(store.load(expected.session.id).await.unwrap(), None);
        }
        let mut listed = walk(other.as_ref(), &HistoryQuery::user(owner)).await;
        listed.sort_by_key(|ended| ended.ended);
        assert_eq!(listed, ended, "a list shows the same");
    }
}

/// By a commit, by a selection and by a sweep, a second apart. Answers what the history has to say.
async fn end_in_three_ways(store: &dyn Store, sessions: [Session; 3]) -> [EndedSession; 3] {
    let [one, two, three] = sessions;
    let at = now(store).await;
    let owner = &one.owner;
    let changes = vec![Change::End(one.id, EndCause::Evicted)];
    let mut commit = change_at(owner, version(store, owner).await, changes, at);
    commit.by = Actor::User(UserKey::new("an admin".parse().unwrap()));
    commit.from = Some(DeviceInfo::new("Firefox on Linux").unwrap());
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
    let selected = EndMany {
        cause: EndCause::SignedOut,
        at: at.plus(SECOND),
        by: Actor::User(owner.clone()),
        from: Some(DeviceInfo::new("Safari on \"iOS\"").unwrap()),
        ..end(store, Selection::session(two.id, TenantFilter::Any)).await
    };
    assert_eq!(end_all(store, selected.clone(), 10).await.len(), 1);
    let sweep = Sweep { overdue: Duration::ZERO, after: None, at: at.plus(SECOND * 2) };
    assert_eq!(whole_sweep(store, sweep, 10).await.len(), 1);
    let remembered =
        |session, cause, ended, by, from| EndedSession { session, ended, cause, by, from };
    [
        remembered(one, EndCause::Evicted, at, commit.by, commit.from),
        remembered(two, selected.cause, selected.at, selected.by, selected.from),
        remembered(three, EndCause::Expired, at.plus(SECOND * 2), Actor::System, None),
    ]
}

pub(crate) async fn a_record_is_remembered_as_it_was_last(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    for sweeps in [false, true] {
        let begun = now(store.as_ref()).await;
        let mut session = session(store.as_ref(), &owner, begun);
        session.deadline = begun.minus(SECOND * 2);
        insert(store.as_ref(), &session).await;
        session = rotated(&session, begun);
        assert_eq!(commit(store.as_ref(), &owner, vec![updates(&session)]).await, Outcome::Done);
        let mut used = used(session.id, begun.plus(SECOND));
        used.deadline = begun.minus(SECOND);
        used.claimed = true;
        used.ip_addresses = vec![address(2)];
        assert_eq!(other.touch(std::slice::from_ref(&used)).await.unwrap(), []);
        session.last_accessed = used.last_accessed;
        session.deadline = used.deadline;
        session.claimed = true;
        session.ip_addresses.push(address(2));
        if sweeps {
            assert_eq!(sweep_all(store.as_ref(), Duration::ZERO, 10).await.len(), 1);
        } else {
            end_at(store.as_ref(), &session, EndCause::Evicted, begun).await;
        }
        let read = other.ended(session.id).await.unwrap().unwrap().session;
        assert_eq!(read, session, "with its last tokens, its last use, and its claim");
    }
}

pub(crate) async fn every_cause_and_actor_is_remembered(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user_in("north", "alice");
    let actors = [
        Actor::System,
        Actor::Application,
        Actor::User(owner.clone()),
        Actor::User(UserKey::new("system".parse().unwrap())),
        Actor::User(user_in("south", "alice")),
        longest_actor(),
        Actor::Unknown,
    ];
    // Also what a newer version writes, as this one reads it.
    let causes = EndCause::ALL.into_iter().chain([EndCause::Unknown]);
    for (n, cause) in causes.enumerate() {
        let session = add(store.as_ref(), &owner).await;
        let by = actors[n % actors.len()].clone();
        let mut end = end(store.as_ref(), Selection::user(owner.clone())).await;
        (end.cause, end.by) = (cause, by.clone());
        assert_eq!(end_all(store.as_ref(), end, 10).await.len(), 1);
        let read = other.ended(session.id).await.unwrap().unwrap();
        assert_eq!((read.cause, read.by), (cause, by), "why and by whom");
    }
}

pub(crate) async fn what_lives_and_what_never_was_is_not_in_it(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (owner, bob) = (user("alice"), user("bob"));
    let [lives, ended] = [add(store.as_ref(), &owner).await, add(store.as_ref(), &owner).await];
    let foreign = add(store.as_ref(), &bob).await;
    let at = now(store.as_ref()).await;
    end_at(store.as_ref(), &ended, EndCause::SignedOut, at).await;
    // What is passed over and what conflicts is not remembered.
    let again =
        [Change::End(ended.id, EndCause::Evicted), Change::End(foreign.id, EndCause::Evicted)];
    assert_eq!(commit(store.as_ref(), &owner, again.into()).await, Outcome::Done);
    let never = session(store.as_ref(), &owner, at);
    let conflict = vec![Change::End(lives.id, EndCause::Evicted), updates(&never)];
    assert_eq!(commit(store.as_ref(), &owner, conflict).await, Outcome::Conflict);
    for id in [lives.id, foreign.id, never.id] {
        assert_eq!(store.ended(id).await.unwrap(), None, "it has not ended");
    }
    let read = store.ended(ended.id).await.unwrap().unwrap();
    assert_eq!((read.cause, read.ended), (EndCause::SignedOut, at), "the first end holds");
    let listed = walk(store.as_ref(), &HistoryQuery::within(TenantFilter::Any)).await;
    assert_eq!(listed, [read]);
}

pub(crate) async fn an_id_does_not_come_back(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    let begun = now(store.as_ref()).await;
    let mut sessions = [0, 1, 2].map(|_| session(store.as_ref(), &owner, begun));
    sessions[2].deadline = begun.minus(SECOND);
    insert_all(store.as_ref(), &sessions).await;
    let ended = end_in_three_ways(store.as_ref(), sessions).await;
    for ended in ended {
        let id = ended.session.id;
        for owner in [&owner, &user("bob")] {
            let again = Session { id, ..session(other.as_ref(), owner, begun) };
            let outcome = commit(other.as_ref(), owner, vec![begins(&again)]).await;
            assert_eq!(outcome, Outcome::Conflict, "the history knows the id: {}", ended.cause);
            assert_eq!(other.load(id).await.unwrap(), None, "it has not begun again");
            assert_eq!(other.ended(id).await.unwrap().as_ref(), Some(&ended), "nor is it another");
        }
    }
    assert_eq!(ids(store.as_ref(), &owner).await, []);
}

pub(crate) async fn it_can_be_switched_off(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let max_staleness = namespace.options().max_staleness;
    for node in [&store, &other] {
        node.configure(&Needs { history: Duration::ZERO, max_staleness });
    }
    let owner = user_in("north", "alice");
    let begun = now(store.as_ref()).await;
    let mut sessions = [0, 1, 2].map(|_| session(store.as_ref(), &owner, begun));
    sessions[2].deadline = begun.minus(SECOND);
    insert_all(store.as_ref(), &sessions).await;
    let mut cursor = log_end(store.as_ref()).await;
    let ended = end_in_three_ways(store.as_ref(), sessions).await;
    for node in [&store, &other] {
        for ended in &ended {
            assert_eq!(node.ended(ended.session.id).await.unwrap(), None, "nothing is kept");
        }
        assert_eq!(walk(node.as_ref(), &HistoryQuery::user(owner.clone())).await, []);
        let forget = Forget::User(owner.clone());
        assert_eq!(node.forget(&forget, 10).await.unwrap(), 0, "there is nothing to forget");
    }
    let told = read_log(other.as_ref(), &mut cursor, 10).await;
    assert_eq!(told.len(), 3, "the log tells the ends all the same");
}

/// Read while it ends, a session is there or in the history.
pub(crate) async fn an_end_is_one_step(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    for round in 0..20 {
        let session = add(store.as_ref(), &owner).await;
        let ends = async {
            match round % 2 {
                0 => assert_eq!(revoke(store.as_ref(), session.id).await, 1),
                _ => end_at(store.as_ref(), &session, EndCause::Evicted, session.signed_in).await,
            }
        };
        let reads = async {
            for _ in 0..10 {
                let before = other.ended(session.id).await.unwrap();
                let alive = other.load(session.id).await.unwrap();
                let after = other.ended(session.id).await.unwrap();
                assert!(before.is_none() || alive.is_none(), "it has ended and is there");
                assert!(alive.is_some() || after.is_some(), "it is nowhere");
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(ends, reads);
        let read = other.ended(session.id).await.unwrap();
        assert!(read.is_some(), "every end that was acknowledged is seen");
    }
}

/// Three nodes end one session at the same moment, each in its way.
pub(crate) async fn of_several_ends_the_one_that_was_told_is_remembered(
    namespace: Arc<dyn Namespace>,
) {
    let nodes = [namespace.connect().await, namespace.connect().await, namespace.connect().await];
    let owner = user("alice");
    let mut cursor = log_end(nodes[0].as_ref()).await;
    for round in 0..30 {
        let begun = now(nodes[0].as_ref()).await;
        let mut session = session(nodes[0].as_ref(), &owner, begun);
        session.deadline = begun.minus(SECOND);
        insert(nodes[0].as_ref(), &session).await;
        let node = |n: usize| nodes[(n + round) % 3].as_ref();
        let evicts = commit(node(0), &owner, vec![Change::End(session.id, EndCause::Evicted)]);
        let revokes = revoke(node(1), session.id);
        let sweeps = sweep_all(node(2), Duration::ZERO, 3);
        tokio::join!(evicts, revokes, sweeps);
        let told = read_log(node(0), &mut cursor, 10).await;
        let [_, end] = told.as_slice() else { panic!("it begins and ends once: {told:?}") };
        let read = node(1).ended(session.id).await.unwrap().unwrap();
        let expected = (EventKind::Ended(read.cause), read.ended, read.by.clone());
        assert_eq!((end.kind, end.at, end.by.clone()), expected, "log and history agree");
        assert_eq!(walk(node(2), &HistoryQuery::user(owner.clone())).await, [read]);
        forget_all(node(0), &owner).await;
    }
}

/// A write-back that found the session comes before its end, and is remembered.
pub(crate) async fn a_write_back_in_time_is_remembered(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    for round in 0..40 {
        let session = add(store.as_ref(), &user("alice")).await;
        let batch = [used(session.id, session.signed_in.plus(SECOND))];
        let touching = async { other.touch(&batch).await.unwrap() };
        let revoking = revoke(store.as_ref(), session.id);
        // Either may come first.
        let (gone, revoked) = if round % 2 == 0 {
            tokio::join!(touching, revoking)
        } else {
            let (revoked, gone) = tokio::join!(revoking, touching);
            (gone, revoked)
        };
        assert_eq!(revoked, 1);
        let read = store.ended(session.id).await.unwrap().unwrap().session.last_accessed;
        let expected = if gone.is_empty() { batch[0].last_accessed } else { session.last_accessed };
        assert_eq!(read, expected, "the use that was written back before the end, and no other");
    }
}

/// A restored dump whose tables are of different moments.
pub(crate) async fn a_session_that_it_knows_already_ends(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user_in("north", "alice");
    let begun = now(store.as_ref()).await;
    let mut sessions = [0, 1, 2].map(|_| session(store.as_ref(), &owner, begun));
    sessions[2].deadline = begun.minus(SECOND);
    insert_all(store.as_ref(), &sessions).await;
    drop(store);
    for session in &sessions {
        if !namespace.remember_alive(session.id).await {
            skip("the backend puts no record of a live session into the history");
        }
    }
    let store = namespace.connect().await;
    for session in &sessions {
        let known = store.ended(session.id).await.unwrap().unwrap();
        assert_eq!((known.cause, known.ended), (EndCause::Evicted, Timestamp::EPOCH));
    }
    for expected in end_in_three_ways(store.as_ref(), sessions).await {
        let id = expected.session.id;
        assert_eq!(store.load(id).await.unwrap(), None, "it has ended: {}", expected.cause);
        let read = store.ended(id).await.unwrap();
        assert_eq!(read.as_ref(), Some(&expected), "the history tells how it ended");
        let mut listed = walk(store.as_ref(), &HistoryQuery::user(owner.clone())).await;
        listed.retain(|ended| ended.session.id == id);
        assert_eq!(listed, [expected], "and tells it once");
    }
    let old = store.forget(&Forget::OlderThan(HOUR), 10).await.unwrap();
    assert_eq!(old, 0, "what was remembered before is not kept beside it, and makes it no older");
}

/// Forgets everything of a user.
pub(super) async fn forget_all(store: &dyn Store, owner: &UserKey) {
    while store.forget(&Forget::User(owner.clone()), 100).await.unwrap() > 0 {}
}
