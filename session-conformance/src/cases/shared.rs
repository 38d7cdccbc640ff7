//! What nodes share besides sessions: policies, leases, and the news of an end.

use std::sync::Arc;
use std::time::Duration;

use session_core::store::{Change, Entries, Outcome};
use session_core::{Actor, EndCause, Session, Store};
use session_engine::{Access, SignIn, Verdict};
use tokio::task::JoinSet;

use crate::Namespace;
use crate::run::skip;
use crate::sample::{
    HOUR, PATIENCE, add, commit, engine, ids, insert, now, read_log, revoke, rotated, session,
    sweep_all, updates, user,
};

/// Eight nodes make everything that the store needs, a ninth finds all of it made.
pub(crate) async fn nodes_open_at_the_same_moment(namespace: Arc<dyn Namespace>) {
    let mut nodes = JoinSet::new();
    for n in 0..8 {
        let namespace = Arc::clone(&namespace);
        nodes.spawn(async move {
            let store = namespace.connect().await;
            let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
            let session = add(store.as_ref(), &user(&format!("user {n}"))).await;
            let told = read_log(store.as_ref(), &mut cursor, 100).await;
            assert!(told.iter().any(|event| event.session == Some(session.id)));
            (session, cursor)
        });
    }
    let begun = nodes.join_all().await;
    let late = namespace.connect().await;
    for (session, mut cursor) in begun {
        assert_eq!(ids(late.as_ref(), &session.owner).await, [session.id]);
        read_log(late.as_ref(), &mut cursor, 100).await;
    }
}

/// Where the store says that it pushes: of every kind of change that makes a cached session wrong.
pub(crate) async fn a_push_comes_of_another_nodes_change(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let mut pushed = 0;
    for n in 0..20 {
        let begun = now(store.as_ref()).await;
        let mut session = session(store.as_ref(), &user(&format!("user {n}")), begun);
        session.deadline = begun.minus(HOUR);
        insert(store.as_ref(), &session).await;
        let mut changed = other.changed();
        // Polled once: from now on it listens, and has heard what came before.
        while tokio::time::timeout(Duration::ZERO, &mut changed).await.is_ok() {
            changed = other.changed();
        }
        let pushes = other.pushes();
        assert!(!pushes || other.expects_pushes(), "a store that pushes is configured to");
        let what = make_wrong(store.as_ref(), &session, n).await;
        if pushes {
            let hint = tokio::time::timeout(PATIENCE, changed).await;
            assert!(hint.is_ok(), "a store that pushes tells of {what} on another node");
            pushed += 1;
        }
    }
    if pushed == 0 {
        skip("the store does not push");
    }
}

/// Makes what a node has cached of this session wrong, one way after another, and says how.
async fn make_wrong(store: &dyn Store, session: &Session, round: usize) -> &'static str {
    let (what, change) = match round % 5 {
        0 => {
            assert_eq!(revoke(store, session.id).await, 1);
            return "what `end_many` ends";
        }
        1 => {
            let swept = sweep_all(store, Duration::ZERO, 10).await;
            assert!(swept.iter().any(|ended| ended.id == session.id));
            return "what a sweep ends";
        }
        2 => ("an update", updates(&rotated(session, session.signed_in))),
        3 => ("changed claims", Change::ClaimsChanged(session.id)),
        _ => ("what a commit ends", Change::End(session.id, EndCause::Evicted)),
    };
    assert_eq!(commit(store, &session.owner, vec![change]).await, Outcome::Done);
    what
}

pub(crate) async fn a_revocation_reaches_every_node(namespace: Arc<dyn Namespace>) {
    let options = namespace.options();
    let here = engine(namespace.connect().await, options.clone()).await;
    let there = engine(namespace.connect().await, options.clone()).await;
    for _ in 0..5 {
        let signed_in = here.sessions().sign_in(SignIn::new(user("alice"))).await.unwrap();
        let token = signed_in.token.expose();
        let valid = async |node: &session_engine::Engine| {
            let verdict = node.sessions().validate(token.as_bytes(), Access::default()).await;
            matches!(verdict.unwrap(), Verdict::Active(_))
        };
        assert!(valid(&there).await && valid(&here).await);
        let ended = there.sessions().session_ended(signed_in.session.id());
        let owner = signed_in.session.owner().clone();
        here.sessions().revoke_user(owner, Actor::Application).await.unwrap();
        // That the log is read often enough is tested on simulated time.
        let told = tokio::time::timeout(PATIENCE, ended).await;
        assert!(told.is_ok_and(|told| told.cause().is_some()), "the end is never heard of");
        assert!(!valid(&here).await && !valid(&there).await);
    }
    here.shutdown().await;
    there.shutdown().await;
}
