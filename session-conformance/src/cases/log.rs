//! The log of changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::store::{Change, Cursor, Entries, Selection};
use session_core::{Actor, EndCause, EventKind, SessionId, Store};
use session_engine::{Access, Engine, SignIn};
use tokio::task::JoinSet;

use crate::sample::{
    PATIENCE, add, begins, commit, end, end_all, engine, now, read_log, revoke, session, trim_log,
    user, user_in,
};
use crate::{Namespace, Probe};

pub(crate) async fn entries_come_in_order_to_every_reader(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user_in("north", "alice");
    let mut near = store.log_since(None, Entries::All, 0).await.unwrap().next;
    let mut far = other.log_since(None, Entries::All, 0).await.unwrap().next;
    assert_eq!(read_log(other.as_ref(), &mut far, 10).await, []);
    let first = add(store.as_ref(), &owner).await;
    let second = session(store.as_ref(), &owner, now(store.as_ref()).await);
    let changes = vec![Change::End(first.id, EndCause::Evicted), begins(&second)];
    commit(store.as_ref(), &owner, changes).await;
    commit(store.as_ref(), &owner, vec![Change::ClaimsChanged(second.id)]).await;
    end_all(store.as_ref(), end(store.as_ref(), Selection::user(owner.clone())).await, 10).await;
    let expected = [
        (EventKind::Created, first.id),
        (EventKind::Ended(EndCause::Evicted), first.id),
        (EventKind::Created, second.id),
        (EventKind::ClaimsChanged, second.id),
        (EventKind::Ended(EndCause::Revoked), second.id),
    ];
    for (reader, cursor) in [(&store, &mut near), (&other, &mut far)] {
        let told = read_log(reader.as_ref(), cursor, 2).await;
        let kinds: Vec<_> = told.iter().map(|e| (e.kind, e.session.unwrap())).collect();
        assert_eq!(kinds, expected);
        assert!(
            told.iter().all(|e| e.tenant == owner.tenant && e.user.as_ref() == Some(&owner.user))
        );
    }
    for (reader, cursor) in [(&store, &mut far), (&other, &mut near)] {
        let told = read_log(reader.as_ref(), cursor, 10).await;
        assert_eq!(told, [], "a position means the same to every reader");
    }
    // A position outlives the connection that it was read over.
    add(other.as_ref(), &owner).await;
    drop((store, other));
    let reopened = namespace.connect().await;
    assert_eq!(read_log(reopened.as_ref(), &mut near, 10).await.len(), 1);
}

pub(crate) async fn concurrent_writers_lose_no_entry(namespace: Arc<dyn Namespace>) {
    let reader = namespace.connect().await;
    let mut cursor = reader.log_since(None, Entries::All, 0).await.unwrap().next;
    let mut writers = JoinSet::new();
    for n in 0..6 {
        let store = namespace.connect().await;
        writers.spawn(async move {
            for _ in 0..30 {
                let session = add(store.as_ref(), &user(&format!("user {n}"))).await;
                assert_eq!(revoke(store.as_ref(), session.id).await, 1);
            }
        });
    }
    let mut told = Vec::new();
    while !writers.is_empty() {
        told.extend(read_log(reader.as_ref(), &mut cursor, 7).await);
        if let Some(done) = writers.try_join_next() {
            done.unwrap();
        }
        tokio::task::yield_now().await;
    }
    told.extend(read_log(reader.as_ref(), &mut cursor, 7).await);
    assert_eq!(told.len(), 6 * 30 * 2, "an entry was skipped or repeated");
    let mut begun = HashMap::new();
    for (n, event) in told.iter().enumerate() {
        match event.kind {
            EventKind::Created => assert!(begun.insert(event.session, n).is_none()),
            _ => assert!(begun.contains_key(&event.session), "an end before its beginning"),
        }
    }
}

pub(crate) async fn a_cut_log_is_noticed(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let start = store.log_since(None, Entries::All, 0).await.unwrap().next;
    for _ in 0..5 {
        add(store.as_ref(), &user("alice")).await;
    }
    assert_eq!(store.trim_log(PATIENCE, 10).await.unwrap(), 0);
    trim_log(store.as_ref(), 4).await;
    assert_eq!(store.trim_log(Duration::ZERO, 3).await.unwrap(), 0, "the newest entry stays");
    let page = store.log_since(Some(&start), Entries::All, 10).await.unwrap();
    assert!(page.gap, "a reader that was left behind has to know");
    assert_eq!(page.events, []);
    assert_eq!(read_log(store.as_ref(), &mut page.next.clone(), 10).await, []);
    let mut end = trimmed_to_the_end(store.as_ref()).await;
    add(store.as_ref(), &user("alice")).await;
    assert_eq!(read_log(store.as_ref(), &mut end, 10).await.len(), 1);
}

/// The position of a reader at the end, behind which the log was trimmed: it has missed nothing.
/// Where that depends on which transactions of others had not ended when it read (PostgreSQL), it
/// is tried again.
async fn trimmed_to_the_end(store: &dyn Store) -> Cursor {
    let begun = Instant::now();
    loop {
        let mut end = store.log_since(None, Entries::All, 0).await.unwrap().next;
        for _ in 0..2 {
            add(store, &user("alice")).await;
        }
        read_log(store, &mut end, 2).await;
        trim_log(store, 2).await;
        if !store.log_since(Some(&end), Entries::All, 10).await.unwrap().gap {
            return end;
        }
        assert!(begun.elapsed() < PATIENCE, "a reader at the end has missed nothing");
    }
}

pub(crate) async fn a_foreign_cursor_is_a_gap(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    add(store.as_ref(), &user("alice")).await;
    let mut ahead = store.log_since(None, Entries::All, 0).await.unwrap().next.0;
    ahead.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
    for bytes in [ahead, vec![], vec![0xff; 16], vec![1; 300]] {
        let page = store.log_since(Some(&Cursor(bytes)), Entries::All, 10).await.unwrap();
        assert!(page.gap, "a position that this log never had");
        assert_eq!(read_log(store.as_ref(), &mut page.next.clone(), 10).await, []);
    }
}

/// Cut off while a session ends: once with the log still whole, once with its entry trimmed away.
pub(crate) async fn a_node_that_was_cut_off_catches_up(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let probe = Probe::around(namespace.connect().await);
    let here = engine(namespace.connect().await, namespace.options()).await;
    let cut_off = Engine::start(probe.clone(), namespace.options()).await.unwrap();
    for trimmed in [false, true] {
        let owner = user("alice");
        let signed_in = here.sessions().sign_in(SignIn::new(owner.clone())).await.unwrap();
        let token = signed_in.token.expose();
        let is_valid = async || {
            let verdict = cut_off.sessions().validate(token.as_bytes(), Access::default()).await;
            verdict.unwrap().session().is_some()
        };
        here.sessions().validate(token.as_bytes(), Access::default()).await.unwrap();
        until_claimed(store.as_ref(), signed_in.session.id()).await;
        assert!(is_valid().await);
        probe.away(true);
        let before = store.log_since(None, Entries::All, 0).await.unwrap().next;
        here.sessions().revoke_user(owner, Actor::Application).await.unwrap();
        if trimmed {
            add(store.as_ref(), &user("bob")).await;
            trim_behind(store.as_ref(), &before).await;
        }
        assert!(is_valid().await, "a node that hears nothing goes by its cache for a while");
        // Not by asking again and again: ten hits are written back, and that finds the end, too. So
        // would the write-back of a first use.
        let ended = cut_off.sessions().session_ended(signed_in.session.id());
        probe.away(false);
        let told = tokio::time::timeout(PATIENCE, ended).await;
        assert!(told.is_ok(), "the end is never heard of");
        assert!(!is_valid().await);
    }
    here.shutdown().await;
    cut_off.shutdown().await;
}

async fn until_claimed(store: &dyn Store, id: SessionId) {
    let begun = Instant::now();
    while !store.load(id).await.unwrap().unwrap().session.claimed {
        assert!(begun.elapsed() < PATIENCE, "a first use is written back");
        tokio::task::yield_now().await;
    }
}

/// Trims the log until a reader at this position has missed something.
async fn trim_behind(store: &dyn Store, position: &Cursor) {
    let begun = Instant::now();
    while !store.log_since(Some(position), Entries::All, 1).await.unwrap().gap {
        assert!(begun.elapsed() < PATIENCE, "the log can be trimmed");
        store.trim_log(Duration::ZERO, 100).await.unwrap();
        tokio::task::yield_now().await;
    }
}
