//! Connections that fall silent, as when a host is gone without a word: nothing is closed, and
//! nothing comes any more.

use std::time::{Duration, Instant};

use redis::{ConnectionAddr, IntoConnectionInfo};
use session_conformance::sample::{insert, now, revoke, session, user};
use session_core::{Store, StoreErrorKind};
use session_store_redis::RedisStore;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::namespace::{ALONE, Prefix, url};

/// Listens in front of the server that the URL names. Connections that are open when they are told
/// fall silent for good, later ones do not.
async fn listen(silence: watch::Receiver<()>) -> String {
    let url = url();
    let ConnectionAddr::Tcp(host, port) =
        url.as_str().into_connection_info().unwrap().addr().clone()
    else {
        panic!("{url} is no address")
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect((host.as_str(), port)).await.unwrap();
            let mut silence = silence.clone();
            silence.mark_unchanged();
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = silence.changed() => std::future::pending().await,
                }
            });
        }
    });
    match url.rsplit_once('@') {
        Some((login, _)) => format!("{login}@{own}"),
        None => format!("redis://{own}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_a_silent_connection_is_reached_again() {
    let _shared = ALONE.read().await;
    let (fall_silent, silence) = watch::channel(());
    let prefix = Prefix::new(false);
    let mut options = prefix.options.clone();
    options.timeout = Duration::from_secs(1);
    let store = RedisStore::connect(&listen(silence).await, options).await.unwrap();
    let other = prefix.store().await;
    let mine = session(&store, &user("alice"), now());
    insert(&store, &mine).await;
    fall_silent.send(()).unwrap();
    let begun = Instant::now();
    let found = loop {
        match store.load(mine.id).await {
            Ok(found) => break found,
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it is waited for for ever");
    };
    assert!(found.is_some());
    // Whatever was asked to be told of is asked for again.
    let revoked = async {
        revoke(&other, mine.id).await;
        store.changed().await;
        while store.load(mine.id).await.unwrap().is_some() {
            store.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), revoked).await.expect("a push is heard");
}
