//! Calls that nobody waits for any more, as when a client hangs up in the middle of a request.

use std::collections::HashSet;
use std::fmt::Debug;
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
    LONG_AGO, PATIENCE, SECOND, add, at_most, begins, change_at, end, end_all, ids,
    insert_in_parts, log_end, now, random, read_log, revoke, session, sweep_all, used, user,
    version,
};

/// Polls calls a number of times, then drops them: once more in each round, until a round drops none.
#[derive(Default)]
struct GivingUp {
    polls: u32,
    dropped: bool,
}

impl GivingUp {
    /// Whether there is another round.
    fn later(&mut self) -> bool {
        assert!(self.polls < MOST_POLLS, "a call takes more than {MOST_POLLS} polls");
        self.polls += 1;
        std::mem::take(&mut self.dropped) || self.polls == 1
    }

    /// What the call answers where it answers in time.
    async fn on<F: Future>(&mut self, call: F) -> Option<F::Output> {
        let mut call = pin!(call);
        let mut left = self.polls;
        let answer = std::future::poll_fn(move |context| {
            left -= 1;
            match call.as_mut().poll(context) {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                Poll::Pending if left == 0 => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        let answer = answer.await;
        self.dropped |= answer.is_none();
        answer
    }
}

/// Checks how long a call took after one that was given up, as where that one has left a lock behind.
fn keeps_nobody_waiting(asked: Instant, polls: u32) {
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

/// One session gives way to another, and the caller goes away. It has happened, or will have, or has
/// not: never in part. Asked for again, it has happened once.
pub(crate) async fn a_change_happens_whole_or_not_at_all(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let mut old = add(store.as_ref(), &owner).await;
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    let mut giving_up = GivingUp::default();
    while giving_up.later() {
        let polls = giving_up.polls;
        let new = session(store.as_ref(), &owner, now(store.as_ref()).await);
        let changes = vec![Change::End(old.id, EndCause::Evicted), begins(&new)];
        let expected = version(store.as_ref(), &owner).await;
        let mut commit = change_at(&owner, expected, changes, new.signed_in);
        let answer = giving_up.on(store.commit(&commit)).await.map(Result::unwrap);
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

/// Three sessions are ended by a walk, and by the cleanup, and the caller goes away. Each lives or is
/// in the history, and once the others have been ended, each was told once.
pub(crate) async fn each_end_of_many_happens_whole_or_not_at_all(namespace: Arc<dyn Namespace>) {
    for cleanup in [false, true] {
        let store = namespace.connect().await;
        let owner = user(if cleanup { "alice" } else { "bob" });
        let mut cursor = log_end(store.as_ref()).await;
        let mut giving_up = GivingUp::default();
        while giving_up.later() {
            let begun = now(store.as_ref()).await;
            let overdue =
                || Session { deadline: LONG_AGO, ..session(store.as_ref(), &owner, begun) };
            let sessions = [overdue(), overdue(), overdue()];
            insert_in_parts(store.as_ref(), &owner, &sessions).await;
            namespace.settle().await;
            let revocation = end(store.as_ref(), Selection::user(owner.clone())).await;
            if cleanup {
                let sweep = Sweep { overdue: Duration::ZERO, after: None, at: begun };
                giving_up.on(store.sweep(&sweep, 10)).await;
            } else {
                giving_up.on(store.end_many(&revocation, 10)).await;
            }
            for session in &sessions {
                ends_whole(store.as_ref(), session.id, giving_up.polls).await;
            }
            namespace.settle().await;
            let asked = Instant::now();
            if cleanup {
                sweep_all(store.as_ref(), Duration::ZERO, 10).await;
            } else {
                end_all(store.as_ref(), revocation, 10).await;
            }
            keeps_nobody_waiting(asked, giving_up.polls);
            assert_eq!(ids(store.as_ref(), &owner).await, [], "{} polls", giving_up.polls);
            let mut told = told(store.as_ref(), &mut cursor, 2 * sessions.len()).await;
            let cause = if cleanup { EndCause::Expired } else { EndCause::Revoked };
            let kinds = [EventKind::Created, EventKind::Ended(cause)];
            let expected = sessions.iter().flat_map(|s| kinds.map(|kind| (s.id, kind)));
            let mut expected: Vec<_> = expected.collect();
            let by_text = |(id, kind): &(SessionId, EventKind)| (*id, kind.to_string());
            told.sort_by_key(by_text);
            expected.sort_by_key(by_text);
            assert_eq!(told, expected, "given up after {} polls", giving_up.polls);
        }
        let more = read_log(store.as_ref(), &mut cursor, 100).await;
        assert_eq!(more, [], "each end is told once");
    }
}

async fn ends_whole(store: &dyn Store, id: SessionId, polls: u32) {
    // It may still end in between, and no end is undone.
    let had_ended = store.ended(id).await.unwrap().is_some();
    let lives = store.load(id).await.unwrap().is_some();
    assert!(!(had_ended && lives), "given up after {polls} polls: it has ended and lives");
    let has_ended = store.ended(id).await.unwrap().is_some();
    assert!(lives || has_ended, "given up after {polls} polls: it is gone and not kept");
}

/// A policy and a block are set, and the caller goes away. Each is as it was and was not told, or it is
/// as it was to be and is told. Neither keeps the next change waiting.
pub(crate) async fn a_setting_changes_whole_or_not_at_all(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let mut giving_up = GivingUp::default();
    while giving_up.later() {
        let polls = giving_up.polls;
        let (owner, by) = (user(&format!("user {polls}")), Actor::Application);
        let (scope, at) = (PolicyScope::User(owner.clone()), now(store.as_ref()).await);
        let mut cursor = log_end(store.as_ref()).await;
        let policy = Some(at_most(3));
        let change = PolicyChange { scope: scope.clone(), policy, at, by: by.clone() };
        giving_up.on(store.set_policy(&change)).await;
        let read = async { store.policy(&scope).await.unwrap() };
        is_told_if(
            store.as_ref(),
            &mut cursor,
            EventKind::PolicyChanged,
            (read, &change.policy),
            polls,
        )
        .await;
        let asked = Instant::now();
        store.set_policy(&change).await.unwrap();
        keeps_nobody_waiting(asked, polls);
        assert_eq!(store.policy(&scope).await.unwrap(), change.policy, "set once more, it is set");

        let mut cursor = log_end(store.as_ref()).await;
        let block = Some(Block { reason: None, until: None, since: at, by: by.clone() });
        let change = BlockChange { scope: scope.clone(), block, at, by };
        giving_up.on(store.set_block(&change)).await;
        let read = async { store.block(&scope).await.unwrap() };
        is_told_if(store.as_ref(), &mut cursor, EventKind::BlockSet, (read, &change.block), polls)
            .await;
        let asked = Instant::now();
        store.set_block(&change).await.unwrap();
        keeps_nobody_waiting(asked, polls);
        assert_eq!(store.block(&scope).await.unwrap(), change.block, "set once more, it is set");
        assert_eq!(blocks::begins_now(store.as_ref(), &owner).await, Outcome::Conflict);
    }
}

/// Checks that a setting is told if it is set, and is set if it has been told.
async fn is_told_if<T: PartialEq + Debug>(
    store: &dyn Store,
    cursor: &mut Cursor,
    kind: EventKind,
    (read, expected): (impl Future<Output = Option<T>>, &Option<T>),
    polls: u32,
) {
    let begun = Instant::now();
    let mut told = is_told(store, cursor, kind).await;
    let found = read.await;
    let set = found.is_some();
    assert!(!set || found == *expected, "half of a setting: {found:?}");
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

/// A call is given up, and the next one of its kind gets its own answer, not the one that was left.
pub(crate) async fn the_next_call_gets_its_own_answer(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (alice, bob) = (user("alice"), user("bob"));
    let mut hers = add(store.as_ref(), &alice).await;
    let mut his = add(store.as_ref(), &bob).await;
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    let mut giving_up = GivingUp::default();
    while giving_up.later() {
        let polls = giving_up.polls;
        let asked = now(store.as_ref()).await;
        giving_up.on(store.load(hers.id)).await;
        assert_eq!(store.load(his.id).await.unwrap().unwrap().session, his);
        giving_up.on(store.user(&alice)).await;
        assert_eq!(ids(store.as_ref(), &bob).await, [his.id]);

        let page = |owner| {
            let mut page = PageQuery::live(TenantFilter::Is(None), asked);
            page.user = Some(owner);
            page
        };
        let of_alice = page(alice.user.clone());
        giving_up.on(store.page(&of_alice)).await;
        assert_eq!(walk(store.as_ref(), &page(bob.user.clone())).await, [his.clone()]);

        let later = hers.last_accessed.plus(SECOND);
        giving_up.on(store.touch(&[used(hers.id, later)])).await;
        his.last_accessed = his.last_accessed.plus(SECOND);
        assert_eq!(store.touch(&[used(his.id, his.last_accessed)]).await.unwrap(), []);
        assert_eq!(store.load(his.id).await.unwrap().unwrap().session, his);

        let revocation = end(store.as_ref(), Selection::session(hers.id, TenantFilter::Any)).await;
        giving_up.on(store.end_many(&revocation, 10)).await;
        revoke(store.as_ref(), hers.id).await;
        assert_eq!(ids(store.as_ref(), &alice).await, []);
        giving_up.on(store.log_since(Some(&cursor), Entries::All, 100)).await;
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
    let place = |name: &str| PolicyScope::Tenant(name.parse().unwrap());
    let south = place("south");
    let long = PATIENCE * 10;
    let mut giving_up = GivingUp::default();
    while giving_up.later() {
        let polls = giving_up.polls;
        let (at, by) = (now(store.as_ref()).await, Actor::Application);
        let north = place(&format!("north {polls}"));
        policies::set(store.as_ref(), &north, Some(at_most(1))).await;
        blocks::set(store.as_ref(), &north, None).await;
        let policy = Some(at_most(polls + 1));
        policies::set(store.as_ref(), &south, policy.clone()).await;
        giving_up.on(store.policy(&north)).await;
        assert_eq!(store.policy(&south).await.unwrap(), policy, "given up after {polls} polls");
        let change = PolicyChange { scope: north.clone(), policy: None, at, by: by.clone() };
        giving_up.on(store.set_policy(&change)).await;
        assert_eq!(store.policy(&south).await.unwrap(), policy, "given up after {polls} polls");

        let block = Some(blocks::set(store.as_ref(), &south, Some(at.plus(long))).await);
        giving_up.on(store.block(&north)).await;
        assert_eq!(store.block(&south).await.unwrap(), block, "given up after {polls} polls");
        let change = BlockChange { scope: north.clone(), block: None, at, by };
        giving_up.on(store.set_block(&change)).await;
        assert_eq!(store.block(&south).await.unwrap(), block, "given up after {polls} polls");

        let name = format!("lease {polls}");
        assert!(store.lease(&name, "one", long).await.unwrap(), "a lease that is free");
        giving_up.on(store.lease(&name, "one", long)).await;
        assert!(!store.lease(&name, "two", long).await.unwrap(), "given up after {polls} polls");
        giving_up.on(store.report()).await;
        assert!(store.lease(&name, "one", long).await.unwrap(), "given up after {polls} polls");
        giving_up.on(store.fleet_key(&FleetKey::from_bytes(random()))).await;
        let known = store.fleet_key(&FleetKey::from_bytes(random())).await.unwrap();
        assert_eq!(known, key, "given up after {polls} polls");
        // Copies of a block may be behind what was given up, until it is set or lifted again.
        blocks::lift(store.as_ref(), &north).await;
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
    let mut giving_up = GivingUp::default();
    while giving_up.later() {
        let polls = giving_up.polls;
        let his = ended(store.as_ref(), &bob).await;
        giving_up.on(store.ended(hers)).await;
        let read = store.ended(his).await.unwrap();
        assert_eq!(read.map(|ended| ended.session.id), Some(his), "given up after {polls} polls");
        giving_up.on(store.history(&of(&alice))).await;
        let listed = history_pages::walk(store.as_ref(), &of(&bob)).await;
        let listed: Vec<_> = listed.iter().map(|ended| ended.session.id).collect();
        assert_eq!(listed, [his], "given up after {polls} polls");
        giving_up.on(store.trim_log(PATIENCE * 10, 10)).await;
        giving_up.on(store.forget(&Forget::User(alice.clone()), 10)).await;
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
const MOST_POLLS: u32 = 1_000;
