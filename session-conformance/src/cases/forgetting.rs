//! What the history no longer keeps: by age, and by user.

use std::sync::Arc;
use std::time::Duration;

use session_core::store::{EndedBatch, Forget, HistoryQuery, Selection, TenantFilter};
use session_core::{EndCause, Session, Store, UserKey};
use tokio::task::JoinSet;

use super::history_pages::walk;
use crate::Namespace;
use crate::run::skip;
use crate::sample::{
    HOUR, PATIENCE, SECOND, SLACK, add, add_many, end, end_all, end_at, ids, let_pass, now, sorted,
    user, user_in,
};

/// Where the store's history does not end by itself.
pub(crate) async fn what_is_old_goes_the_oldest_first(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let begun = now(store.as_ref()).await;
    let young = [begun.minus(HOUR).plus(PATIENCE), begun, begun.plus(HOUR)];
    let mut old = Vec::new();
    for n in [4, 1, 5, 2, 3_u32] {
        let session = add(store.as_ref(), &user(&format!("user {}", n % 2))).await;
        end_at(store.as_ref(), &session, EndCause::Revoked, begun.minus(HOUR + SECOND * n)).await;
        old.push((n, session.id));
    }
    let mut stay = Vec::new();
    for at in young {
        let session = add(store.as_ref(), &user("user 1")).await;
        end_at(store.as_ref(), &session, EndCause::Revoked, at).await;
        stay.push(session.id);
    }
    old.sort();
    let forget = Forget::OlderThan(HOUR);
    let gone = store.forget(&forget, 2).await.unwrap();
    let kept = async |id| other.ended(id).await.unwrap().is_some();
    for id in &stay {
        assert!(kept(*id).await, "what ended within this age stays");
    }
    if gone == 0 && namespace.history_ends_by_itself() {
        skip("the store's history ends by itself");
    }
    assert_eq!(gone, 2, "a limit is reached where more could go");
    let mut left = Vec::new();
    for (n, id) in &old {
        if kept(*id).await {
            left.push(*n);
        }
    }
    assert_eq!(left, [1, 2, 3], "the oldest go first");
    assert_eq!(forget_all(store.as_ref(), &forget, 2).await, 3);
    let listed = walk(store.as_ref(), &HistoryQuery::within(TenantFilter::Any)).await;
    let listed: Vec<_> = listed.iter().rev().map(|ended| ended.session.id).collect();
    assert_eq!(listed, stay, "what is not old is listed");
}

pub(crate) async fn a_users_history_goes_and_no_other(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let alice = user_in("north", "alice");
    let others = [
        user("alice"),
        user_in("northwest", "alice"),
        user_in("North", "alice"),
        user_in("north", "al"),
        user_in("north", "alice2"),
        user_in("north", "Alice"),
        user_in("alice", "north"),
    ];
    let hers = end_many(store.as_ref(), &alice, 7).await;
    let lives = add(store.as_ref(), &alice).await;
    let mut stay = Vec::new();
    for owner in &others {
        stay.extend(end_many(store.as_ref(), owner, 2).await);
    }
    let forgotten = forget_all(other.as_ref(), &Forget::User(alice.clone()), 3).await;
    assert_eq!(forgotten, hers.len(), "everything of one user, in more calls than one");
    for session in &hers {
        assert_eq!(store.ended(session.id).await.unwrap(), None, "it is forgotten on every node");
    }
    assert_eq!(walk(store.as_ref(), &HistoryQuery::user(alice.clone())).await, []);
    let listed = walk(store.as_ref(), &HistoryQuery::within(TenantFilter::Any)).await;
    let listed = sorted(listed.iter().map(|ended| &ended.session));
    assert_eq!(listed, sorted(&stay), "what others have ended stays");
    assert_eq!(ids(store.as_ref(), &alice).await, [lives.id], "what lives is no history");
}

pub(crate) async fn limits_are_kept(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let most = EndedBatch::MAX_LIMIT as usize;
    end_many(store.as_ref(), &owner, most + 5).await;
    let forget = Forget::User(owner);
    let one = store.forget(&forget, 0).await.unwrap();
    assert_eq!(one, 1, "a limit of 0 counts as 1");
    let many = store.forget(&forget, u32::MAX).await.unwrap() as usize;
    assert!(many <= most, "{many} forgotten in one call");
    assert_eq!(many + forget_all(store.as_ref(), &forget, u32::MAX).await, most + 4);
}

pub(crate) async fn nodes_side_by_side_forget_each_once(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let sessions = end_many(store.as_ref(), &owner, 40).await;
    let mut forgetting = JoinSet::new();
    for _ in 0..3 {
        let (node, forget) = (namespace.connect().await, Forget::User(owner.clone()));
        forgetting.spawn(async move { forget_all(node.as_ref(), &forget, 3).await });
    }
    let forgotten: usize = forgetting.join_all().await.into_iter().sum();
    assert_eq!(forgotten, sessions.len(), "a call counts what it has deleted itself");
}

/// Zero ends the walk of a caller, also of one whose records another caller deletes at the same time.
pub(crate) async fn zero_says_that_none_is_left(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    for by_age in [false, true] {
        let sessions = end_many(store.as_ref(), &owner, 40).await;
        let forget = match by_age {
            false => Forget::User(owner.clone()),
            true => {
                let_pass(store.as_ref(), SLACK).await;
                Forget::OlderThan(Duration::ZERO)
            }
        };
        let mut forgetting = JoinSet::new();
        for _ in 0..3 {
            let (node, forget) = (namespace.connect().await, forget.clone());
            let ids: Vec<_> = sessions.iter().map(|session| session.id).collect();
            forgetting.spawn(async move {
                let gone = forget_all(node.as_ref(), &forget, 3).await;
                for id in ids {
                    if node.ended(id).await.unwrap().is_some() {
                        return (gone, true);
                    }
                }
                (gone, false)
            });
        }
        let walks = forgetting.join_all().await;
        let none_gone = walks.iter().all(|(gone, _)| *gone == 0);
        if by_age && none_gone && namespace.history_ends_by_itself() {
            return;
        }
        let early: Vec<_> = walks.into_iter().filter(|(_, left)| *left).collect();
        assert_eq!(early, [], "a caller is told that none is left to go, and there are some");
    }
}

/// Sessions of one user that have ended.
async fn end_many(store: &dyn Store, owner: &UserKey, count: usize) -> Vec<Session> {
    let sessions = add_many(store, owner, count).await;
    let all = end(store, Selection::user(owner.clone())).await;
    assert_eq!(end_all(store, all, 200).await.len(), count);
    sessions
}

/// Forgets until nothing is left to go, and answers how many went.
pub(super) async fn forget_all(store: &dyn Store, forget: &Forget, limit: u32) -> usize {
    let mut all = 0;
    for _ in 0..1000 {
        let gone = store.forget(forget, limit).await.unwrap();
        assert!(gone <= limit, "{gone} forgotten where the limit was {limit}");
        if gone == 0 {
            return all;
        }
        all += gone as usize;
    }
    panic!("there is always something to forget");
}
