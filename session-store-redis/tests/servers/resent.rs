//! Calls that the cluster's driver sends again, because their answers got lost.

use session_conformance::faults::Proxy;
use session_conformance::sample::{
    PATIENCE, commit, end, end_all, insert, now, session, sweep_all, user,
};
use session_core::store::{Change, Entries, Outcome, Selection};
use session_core::{EndCause, Store, Timestamp};
use session_store_redis::{RedisOptions, RedisStore};

use crate::server::{Server, program};

/// The node has to know what has ended: it drops that from its cache before it answers.
#[tokio::test]
async fn what_ended_is_told_though_the_answer_got_lost() {
    let (program, proxy) = (program().await, Proxy::listen().await);
    let server = Server::cluster(&program, Some(proxy.port())).await;
    proxy.forward(format!("127.0.0.1:{}", server.port));
    let url = format!("redis-cluster://127.0.0.1:{}", proxy.port());
    let options = RedisOptions::default().with_timeout(PATIENCE);
    let store = RedisStore::connect_with(&url, options).await.unwrap();
    let at = now(&store).await;
    let revoked = session(&store, &user("alice"), at);
    let mut expired = session(&store, &user("bob"), at);
    expired.deadline = Timestamp::EPOCH;
    insert(&store, &revoked).await;
    insert(&store, &expired).await;
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;

    // The kinds of their entries in the log.
    proxy.lose_the_answer_to(b"revoked");
    let ended = end_all(&store, end(&store, Selection::user(revoked.owner)).await, 10).await;
    assert_eq!(ended.iter().map(|ended| ended.id).collect::<Vec<_>>(), [revoked.id]);
    assert!(proxy.has_lost_an_answer());
    proxy.lose_the_answer_to(b"expired");
    let ended = sweep_all(&store, std::time::Duration::ZERO, 10).await;
    assert_eq!(ended.iter().map(|ended| ended.id).collect::<Vec<_>>(), [expired.id]);
    assert!(proxy.has_lost_an_answer());
    let told = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap();
    assert_eq!(told.events.len(), 2, "each end is told once");
    assert_eq!(store.audit().await.unwrap(), [""; 0]);
}

/// Where it was told to be a conflict, the node would decide again: a session would live that nobody
/// holds.
#[tokio::test]
async fn a_commit_is_done_though_its_answer_got_lost() {
    let (program, proxy) = (program().await, Proxy::listen().await);
    let server = Server::cluster(&program, Some(proxy.port())).await;
    proxy.forward(format!("127.0.0.1:{}", server.port));
    let url = format!("redis-cluster://127.0.0.1:{}", proxy.port());
    let options = RedisOptions::default().with_timeout(PATIENCE);
    let store = RedisStore::connect_with(&url, options).await.unwrap();
    let (owner, at) = (user("alice"), now(&store).await);
    let (warm, mine) = (session(&store, &user("bob"), at), session(&store, &owner, at));
    // A script is sent a second time the first time that it is called.
    insert(&store, &warm).await;
    let ends = vec![Change::End(warm.id, EndCause::SignedOut)];
    assert_eq!(commit(&store, &warm.owner, ends).await, Outcome::Done);
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    // The kinds of their entries in the log. The last end leaves nothing of the user.
    let begins = Change::Insert(Box::new(mine.clone()));
    for (kind, change) in
        [("created", begins), ("signed_out", Change::End(mine.id, EndCause::SignedOut))]
    {
        proxy.lose_the_answer_to(kind.as_bytes());
        assert_eq!(commit(&store, &owner, vec![change]).await, Outcome::Done, "{kind}");
        assert!(proxy.has_lost_an_answer());
    }
    assert_eq!(store.load(mine.id).await.unwrap(), None);
    let told = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap();
    assert_eq!(told.events.len(), 2, "each change is told once");
    assert_eq!(store.audit().await.unwrap(), [""; 0]);
}
