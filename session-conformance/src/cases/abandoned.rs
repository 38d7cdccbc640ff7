//! Calls that nobody waits for any more, as when a client hangs up in the middle of a request.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use session_core::block::Block;
use session_core::policy::PolicyScope;
use session_core::store::{
    BlockChange, Change, Cursor, Entries, Forget, HistoryQuery, Outcome, PageQuery, PolicyChange,
    Selection, Sweep, TenantFilter,
};
use session_core::{Actor, EndCause, EventKind, FleetKey, Session, SessionId, Store, UserKey};

use super::walks::walk;
use super::{blocks, history_pages, policies};
use crate::Namespace;
use crate::sample::{
    LONG_AGO, PATIENCE, SECOND, add, begins, change_at, end, end_all, ids, insert_in_parts,
    log_end, now, random, read_log, revoke, session, sweep_all, used, user, version,
};

/// Polls a call this often, then drops it.
async fn give_up_after<F: Future>(polls: usize, call: F) -> Option<F::Output> {
    let mut call = pin!(call);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        left -= 1;
        match call.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Checks how long a call took after one that was given up, as where that one has left a lock behind.
fn keeps_nobody_waiting(asked: Instant, polls: usize) {
    let waited = asked.elapsed();
    assert!(
        waited < PATIENCE / 4,
        "what was given up after {polls} polls held others up: {waited:?}"
    );
}

/// Reads the log until it has told of as many things as are expected.
async fn told(store: &dyn Store, cursor: &mut Cursor, least: usize) -> Vec<(SessionId, EventKind)> {
    let begun = Instant::now();
    let mut told = Vec::new();
    while told.len() < least {
        assert!(begun.elapsed() < PATIENCE, "the log tells of no more than {told:?}");
        let events = read_log(store, cursor, 100).await;
        told.extend(events.iter().filter_map(|event| Some((event.session?, event.kind))));
        tokio::task::yield_now().await;
    }
    told
}

/// One session gives way to another, and whoever asked for that goes away. It has happened, or will
/// have, or has not: never in part. Asked for again, it has happened once.
pub(crate) async fn a_change_happens_whole_or_not_at_all(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let mut old = add(store.as_ref(), &owner).await;
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    for polls in 1..=POLLS {
        let new = session(store.as_ref(), &owner, now(store.as_ref()).await);
        let changes = vec![Change::End(old.id, EndCause::Evicted), begins(&new)];
        let expected = version(store.as_ref(), &owner).await;
        let mut commit = change_at(&owner, expected, changes, new.signed_in);
        let answer = give_up_after(polls, store.commit(&commit)).await.map(Result::unwrap);
        let begun = Instant::now();
        loop {
            let state = store.user(&owner).await.unwrap();
            let ids: Vec<_> = state.sessions.iter().map(|session| session.id).collect();
            if ids == [new.id] {
                break;
            }
            assert_eq!(ids, [old.id], "half of a change, given up after {polls} polls");
            assert_ne!(answer, Some(Outcome::Done), "acknowledged and not there");
            assert!(begun.elapsed() < PATIENCE, "it conflicts with nobody");
            commit.expected = state.version;
            store.commit(&commit).await.unwrap();
        }
        keeps_nobody_waiting(begun, polls);
        let told = told(store.as_ref(), &mut cursor, 2).await;
        let expected =
            [(old.id, EventKind::Ended(EndCause::Evicted)), (new.id, EventKind::Created)];
        assert_eq!(told.len(), 2, "given up after {polls} polls: {told:?}");
        assert_eq!(HashSet::from_iter(told), HashSet::from(expected));
        let ended = store.ended(old.id).await.unwrap().map(|ended| ended.session.id);
        assert_eq!(ended, Some(old.id), "what has ended is in the history");
        old = new;
    }
}

/// Three sessions are ended by a walk or by the cleanup, and whoever asked for that goes away. Each
/// lives or is in the history, and once the others have been ended, each was told once.
pub(crate) async fn each_end_of_many_happens_whole_or_not_at_all(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let mut cursor = log_end(store.as_ref()).await;
    for polls in 1..=POLLS {
        let begun = now(store.as_ref()).await;
        let overdue = || Session { deadline: LONG_AGO, ..session(store.as_ref(), &owner, begun) };
        let sessions = [overdue(), overdue(), overdue()];
        insert_in_parts(store.as_ref(), &owner, &sessions).await;
        namespace.settle().await;
        let mut selection = Selection::within(TenantFilter::Any);
        selection.user = Some(owner.user.clone());
        let revocation = end(store.as_ref(), selection).await;
        let cleanup = polls.is_multiple_of(2);
        if cleanup {
            let sweep = Sweep { overdue: Duration::ZERO, after: None, at: begun };
            give_up_after(polls, store.sweep(&sweep, 10)).await;
        } else {
            give_up_after(polls, store.end_many(&revocation, 10)).await;
        }
        for session in &sessions {
            // It may still end in between, and no end is undone.
            let had_ended = store.ended(session.id).await.unwrap().is_some();
            let lives = store.load(session.id).await.unwrap().is_some();
            assert!(!(had_ended && lives), "given up after {polls} polls: it has ended and lives");
            let has_ended = store.ended(session.id).await.unwrap().is_some();
            assert!(lives || has_ended, "given up after {polls} polls: it is gone and not kept");
        }
        namespace.settle().await;
        let asked = Instant::now();
        if cleanup {
            sweep_all(store.as_ref(), Duration::ZERO, 10).await;
        } else {
            end_all(store.as_ref(), revocation, 10).await;
        }
        keeps_nobody_waiting(asked, polls);
        assert_eq!(ids(store.as_ref(), &owner).await, [], "given up after {polls} polls");
        let mut times = HashMap::new();
        for event in told(store.as_ref(), &mut cursor, 2 * sessions.len()).await {
            *times.entry(event).or_insert(0) += 1;
        }
        let cause = if cleanup { EndCause::Expired } else { EndCause::Revoked };
        for session in &sessions {
            for kind in [EventKind::Created, EventKind::Ended(cause)] {
                let times = times.get(&(session.id, kind)).copied();
                assert_eq!(times, Some(1), "given up after {polls} polls, told of {kind}");
            }
        }
    }
}

/// A policy and a block are set, and whoever asked for that goes away. Each is as it was and was not
/// told, or it is as it was to be and is told. Neither keeps the next change waiting.
pub(crate) async fn a_setting_changes_whole_or_not_at_all(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    for polls in 1..=POLLS {
        let (owner, by) = (user(&format!("user {polls}")), Actor::Application);
        let (scope, at) = (PolicyScope::User(owner.clone()), now(store.as_ref()).await);
        let mut cursor = log_end(store.as_ref()).await;
        let policy = Some(policies::at_most(3));
        let change = PolicyChange { scope: scope.clone(), policy, at, by: by.clone() };
        give_up_after(polls, store.set_policy(&change)).await;
        let is_set = async { store.policy(&scope).await.unwrap() == change.policy };
        is_told_if(store.as_ref(), &mut cursor, EventKind::PolicyChanged, is_set, polls).await;
        let asked = Instant::now();
        store.set_policy(&change).await.unwrap();
        keeps_nobody_waiting(asked, polls);
        assert_eq!(store.policy(&scope).await.unwrap(), change.policy, "set once more, it is set");

        let mut cursor = log_end(store.as_ref()).await;
        let block = Some(Block { reason: None, until: None, since: at, by: by.clone() });
        let change = BlockChange { scope: scope.clone(), block, at, by };
        give_up_after(polls, store.set_block(&change)).await;
        let is_set = async { store.block(&scope).await.unwrap() == change.block };
        is_told_if(store.as_ref(), &mut cursor, EventKind::BlockSet, is_set, polls).await;
        let asked = Instant::now();
        store.set_block(&change).await.unwrap();
        keeps_nobody_waiting(asked, polls);
        assert_eq!(store.block(&scope).await.unwrap(), change.block, "set once more, it is set");
        assert_eq!(blocks::begins_now(store.as_ref(), &owner).await, Outcome::Conflict);
    }
}

/// Checks that a setting is told if it is set, and is set if it has been told.
async fn is_told_if(
    store: &dyn Store,
    cursor: &mut Cursor,
    kind: EventKind,
    is_set: impl Future<Output = bool>,
    polls: usize,
) {
    let begun = Instant::now();
    let mut told = is_told(store, cursor, kind).await;
    let set = is_set.await;
    assert!(set || !told, "given up after {polls} polls: {kind} is told and not so");
    while set && !told {
        assert!(begun.elapsed() < PATIENCE, "given up after {polls} polls: {kind} is never told");
        told = is_told(store, cursor, kind).await;
        tokio::task::yield_now().await;
    }
}

async fn is_told(store: &dyn Store, cursor: &mut Cursor, kind: EventKind) -> bool {
    read_log(store, cursor, 100).await.iter().any(|event| event.kind == kind)
}
/// Whatever a call had asked for when it was given up, the next one gets its own answer.
pub(crate) async fn the_next_call_gets_its_own_answer(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (alice, bob) = (user("alice"), user("bob"));
    let mut hers = add(store.as_ref(), &alice).await;
    let mut his = add(store.as_ref(), &bob).await;
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    for polls in (1..=POLLS).step_by(3) {
        let asked = now(store.as_ref()).await;
        give_up_after(polls, store.load(hers.id)).await;
        assert_eq!(store.load(his.id).await.unwrap().unwrap().session, his);
        give_up_after(polls, store.user(&alice)).await;
        assert_eq!(ids(store.as_ref(), &bob).await, [his.id]);

        let page = |owner| {
            let mut page = PageQuery::live(TenantFilter::Is(None), asked);
            page.user = Some(owner);
            page
        };
        let of_alice = page(alice.user.clone());
        give_up_after(polls, store.page(&of_alice)).await;
        assert_eq!(walk(store.as_ref(), &page(bob.user.clone())).await, [his.clone()]);

        let later = hers.last_accessed.plus(SECOND);
        give_up_after(polls, store.touch(&[used(hers.id, later)])).await;
        his.last_accessed = his.last_accessed.plus(SECOND);
        assert_eq!(store.touch(&[used(his.id, his.last_accessed)]).await.unwrap(), []);
        assert_eq!(store.load(his.id).await.unwrap().unwrap().session, his);

        let revocation = end(store.as_ref(), Selection::session(hers.id, TenantFilter::Any)).await;
        give_up_after(polls, store.end_many(&revocation, 10)).await;
        revoke(store.as_ref(), hers.id).await;
        assert_eq!(ids(store.as_ref(), &alice).await, []);
        give_up_after(polls, store.log_since(Some(&cursor), Entries::All, 100)).await;
        let ended = told(store.as_ref(), &mut cursor, 1).await;
        assert_eq!(ended, [(hers.id, EventKind::Ended(EndCause::Revoked))], "{polls} polls");
        hers = add(store.as_ref(), &alice).await;
        let created = told(store.as_ref(), &mut cursor, 1).await;
        assert_eq!(created, [(hers.id, EventKind::Created)]);
    }
}

/// As above, of what is set, leased and told of the store.
pub(crate) async fn the_next_setting_is_read_for_itself(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let key = store.fleet_key(&FleetKey::from_bytes(random())).await.unwrap();
    let [north, south] = ["north", "south"].map(|name| PolicyScope::Tenant(name.parse().unwrap()));
    policies::set(store.as_ref(), &north, Some(policies::at_most(1))).await;
    blocks::set(store.as_ref(), &north, None).await;
    let long = PATIENCE * 10;
    for (polls, max) in (1..=POLLS).zip(2..).step_by(3) {
        let (at, by) = (now(store.as_ref()).await, Actor::Application);
        let policy = Some(policies::at_most(max));
        policies::set(store.as_ref(), &south, policy.clone()).await;
        give_up_after(polls, store.policy(&north)).await;
        assert_eq!(store.policy(&south).await.unwrap(), policy, "given up after {polls} polls");
        let change = PolicyChange { scope: north.clone(), policy: None, at, by: by.clone() };
        give_up_after(polls, store.set_policy(&change)).await;
        assert_eq!(store.policy(&south).await.unwrap(), policy, "given up after {polls} polls");

        let block = Some(blocks::set(store.as_ref(), &south, Some(at.plus(long))).await);
        give_up_after(polls, store.block(&north)).await;
        assert_eq!(store.block(&south).await.unwrap(), block, "given up after {polls} polls");
        let change = BlockChange { scope: north.clone(), block: None, at, by };
        give_up_after(polls, store.set_block(&change)).await;
        assert_eq!(store.block(&south).await.unwrap(), block, "given up after {polls} polls");

        let name = format!("lease {polls}");
        assert!(store.lease(&name, "one", long).await.unwrap(), "a lease that is free");
        give_up_after(polls, store.lease(&name, "one", long)).await;
        assert!(!store.lease(&name, "two", long).await.unwrap(), "given up after {polls} polls");
        give_up_after(polls, store.report()).await;
        assert!(store.lease(&name, "one", long).await.unwrap(), "given up after {polls} polls");
        give_up_after(polls, store.fleet_key(&FleetKey::from_bytes(random()))).await;
        let known = store.fleet_key(&FleetKey::from_bytes(random())).await.unwrap();
        assert_eq!(known, key, "given up after {polls} polls");
    }
}

/// As above, of what has ended.
pub(crate) async fn the_next_end_is_read_for_itself(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (alice, bob) = (user("alice"), user("bob"));
    let of = |owner: &UserKey| {
        let mut query = HistoryQuery::within(TenantFilter::Is(None));
        query.user = Some(owner.user.clone());
        query
    };
    let hers = ended(store.as_ref(), &alice).await;
    for polls in (1..=POLLS).step_by(3) {
        let his = ended(store.as_ref(), &bob).await;
        give_up_after(polls, store.ended(hers)).await;
        let read = store.ended(his).await.unwrap();
        assert_eq!(read.map(|ended| ended.session.id), Some(his), "given up after {polls} polls");
        give_up_after(polls, store.history(&of(&alice))).await;
        let listed = history_pages::walk(store.as_ref(), &of(&bob)).await;
        let listed: Vec<_> = listed.iter().map(|ended| ended.session.id).collect();
        assert_eq!(listed, [his], "given up after {polls} polls");
        give_up_after(polls, store.trim_log(PATIENCE * 10, 10)).await;
        give_up_after(polls, store.forget(&Forget::User(alice.clone()), 10)).await;
        let gone = store.forget(&Forget::User(bob.clone()), 10).await.unwrap();
        assert_eq!(gone, 1, "given up after {polls} polls");
        assert_eq!(store.ended(his).await.unwrap(), None, "given up after {polls} polls");
    }
}

/// A session of this user that has been revoked.
async fn ended(store: &dyn Store, owner: &UserKey) -> SessionId {
    let session = add(store, owner).await;
    assert_eq!(revoke(store, session.id).await, 1);
    session.id
}

/// More than any store needs for a call.
const POLLS: usize = 24;
