//! Calls that nobody waits for any more, as when a client hangs up in the middle of a request.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use session_core::store::{Change, Cursor, Entries, Outcome, PageQuery, Selection, TenantFilter};
use session_core::{EndCause, EventKind, SessionId, Store};

use super::walks::walk;
use crate::Namespace;
use crate::sample::{
    PATIENCE, SECOND, add, begins, change_at, end, ids, now, read_log, revoke, session, used, user,
    version,
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

/// More than any store needs for a call.
const POLLS: usize = 24;
