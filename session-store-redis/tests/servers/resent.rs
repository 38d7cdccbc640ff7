//! Calls that the cluster's driver sends again, because their answers got lost.

use session_conformance::faults::Proxy;
use session_conformance::sample::{PATIENCE, end, end_all, insert, now, session, sweep_all, user};
use session_core::store::{Entries, Selection};
use session_core::{Store, Timestamp};
use session_store_redis::{RedisOptions, RedisStore};

use crate::server::{Server, program};

/// The node has to know what has ended: it drops that from its cache before it answers.
#[tokio::test]
async fn what_ended_is_told_though_the_answer_got_lost() {
    let (program, proxy) = (program().await, Proxy::listen().await);
    let server = Server::cluster(&program, Some(proxy.port())).await;
    proxy.forward(format!("127.0.0.1:{}", server.port));
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let options = RedisOptions::default().with_timeout(PATIENCE);
    let store = RedisStore::connect_cluster_with(&[&url], options).await.unwrap();
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
