//! What has a connection of its own.

use session_conformance::faults::Proxy;
use session_conformance::sample::{PATIENCE, insert, now, session, user};
use session_core::Store;
use session_core::store::Entries;
use session_store_redis::{RedisOptions, RedisStore};

use crate::server::{Server, program};

fn options() -> RedisOptions {
    RedisOptions::default().with_timeout(PATIENCE)
}

/// Changes are heard of while no other call is answered. `here` reaches its servers through the
/// proxy.
async fn the_log_is_read_besides(proxy: &Proxy, here: &RedisStore, there: &RedisStore) {
    let at = now(there).await;
    let [unknown, begun] = ["alice", "bob"].map(|name| session(there, &user(name), at));
    let cursor = here.log_since(None, Entries::All, 0).await.unwrap().next;
    assert!(here.load(unknown.id).await.unwrap().is_none());
    assert_eq!(proxy.silence(unknown.id.as_bytes()), 1);
    insert(there, &begun).await;
    let told = tokio::select! {
        biased;
        loaded = here.load(unknown.id) => panic!("its connection is silent: {loaded:?}"),
        told = here.log_since(Some(&cursor), Entries::All, 10) => told.unwrap(),
    };
    assert_eq!(told.events.len(), 1);
}

#[tokio::test]
async fn the_log_is_read_besides_other_calls() {
    let (program, proxy) = (program().await, Proxy::listen().await);
    let server = Server::start(&program, None);
    let there = server.store(&options()).await;
    proxy.forward(format!("127.0.0.1:{}", server.port));
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let here = RedisStore::connect_with(&url, options()).await.unwrap();
    the_log_is_read_besides(&proxy, &here, &there).await;
}

/// The server tells the proxy's address as its own.
#[tokio::test]
async fn the_log_of_a_cluster_is_read_besides_other_calls() {
    let (program, proxy) = (program().await, Proxy::listen().await);
    let server = Server::cluster(&program, Some(proxy.port())).await;
    proxy.forward(format!("127.0.0.1:{}", server.port));
    let url = format!("redis-cluster://127.0.0.1:{}", proxy.port());
    let here = RedisStore::connect_with(&url, options()).await.unwrap();
    let there = RedisStore::connect_with(&url, options()).await.unwrap();
    the_log_is_read_besides(&proxy, &here, &there).await;
}
