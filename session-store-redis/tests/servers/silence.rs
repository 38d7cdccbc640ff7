//! Connections that fall silent, as when a host is gone without a word: nothing is closed, and
//! nothing comes any more.

use std::time::{Duration, Instant};

use redis::{ConnectionAddr, IntoConnectionInfo};
use session_conformance::faults::falls_silent;
use session_conformance::sample::{PATIENCE, insert, now, revoke, session, user};
use session_core::{Store, StoreErrorKind};
use session_store_redis::RedisStore;
use tokio::sync::watch;

use crate::namespace::{ALONE, Prefix, url};

/// The URL of a way to the server that may fall silent.
async fn listen(silence: watch::Receiver<()>) -> String {
    let url = url();
    let ConnectionAddr::Tcp(host, port) =
        url.as_str().into_connection_info().unwrap().addr().clone()
    else {
        panic!("{url} is no address")
    };
    let own = falls_silent(format!("{host}:{port}"), silence).await;
    match url.rsplit_once('@') {
        Some((login, _)) => format!("{login}@127.0.0.1:{own}"),
        None => format!("redis://127.0.0.1:{own}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_a_silent_connection_is_reached_again() {
    let _shared = ALONE.read().await;
    let (fall_silent, silence) = watch::channel(());
    let prefix = Prefix::new(false);
    let mut options = prefix.options.clone();
    options.timeout = Duration::from_secs(3);
    let store = RedisStore::connect_with(&listen(silence).await, options).await.unwrap();
    let other = prefix.store().await;
    let mine = session(&store, &user("alice"), now(&other).await);
    insert(&other, &mine).await;
    fall_silent.send(()).unwrap();
    let begun = Instant::now();
    let found = loop {
        match store.load(mine.id).await {
            Ok(found) => break found,
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}"),
        }
        assert!(begun.elapsed() < PATIENCE, "it is waited for for ever");
    };
    assert!(found.is_some());
    // It has subscribed again.
    let revoked = async {
        revoke(&other, mine.id).await;
        store.changed().await;
        while store.load(mine.id).await.unwrap().is_some() {
            store.changed().await;
        }
    };
    tokio::time::timeout(PATIENCE, revoked).await.expect("a push is heard");
}
