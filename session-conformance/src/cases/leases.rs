//! Leases: by name, by the store's clock, for one holder.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::{StoreError, StoreErrorKind};
use tokio::task::JoinSet;

use crate::Namespace;
use crate::sample::{PATIENCE, let_pass};

pub(crate) async fn a_lease_has_one_holder(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let long = PATIENCE * 10;
    assert!(store.lease("cleanup", "one", long).await.unwrap());
    assert!(!other.lease("cleanup", "two", long).await.unwrap());
    assert!(other.lease("another", "two", long).await.unwrap());
    assert!(store.lease("cleanup", "one", Duration::from_millis(50)).await.unwrap(), "renewal");
    let begun = Instant::now();
    while !other.lease("cleanup", "two", long).await.unwrap() {
        assert!(begun.elapsed() < PATIENCE, "a dead holder's lease runs out");
        tokio::task::yield_now().await;
    }
    assert!(!store.lease("cleanup", "one", long).await.unwrap(), "a late holder is refused");
}

pub(crate) async fn leases_go_by_their_names(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let names = ["cleanup", "Cleanup", "cleanup ", "clean", "cleanup:1", "'; --", "\u{1F511}"];
    for (n, name) in names.into_iter().enumerate() {
        let holder = format!("node {n}");
        let got = store.lease(name, &holder, PATIENCE * 10).await.unwrap();
        assert!(got, "nobody has the lease {name:?}");
    }
    for (n, name) in names.into_iter().enumerate() {
        let got = other.lease(name, "Node 0", PATIENCE * 10).await.unwrap();
        assert!(!got, "another holder has the lease {name:?}");
        let holder = format!("node {n}");
        let got = other.lease(name, &holder, PATIENCE * 10).await.unwrap();
        assert!(got, "a holder renews on whichever node");
    }
}

/// Up to the longest they are taken. Longer ones are refused or kept whole.
pub(crate) async fn long_names_and_holders_are_told_apart(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let ttl = PATIENCE * 10;
    for length in [LONGEST, LONGEST + 1, LONGEST * 8] {
        let ending = |with: char| "n".repeat(length - 1) + &with.to_string();
        let (one, two) = (ending('1'), ending('2'));
        // By its name first, then by its holder.
        for (name, holder) in [(&one, "short"), (&two, "other")] {
            match store.lease(name, holder, ttl).await {
                Ok(got) => assert!(got, "nobody has the lease of this name of {length} bytes"),
                Err(error) => is_refused(&error, length),
            }
        }
        let name = format!("of holders of {length} bytes");
        match store.lease(&name, &one, ttl).await {
            Ok(got) => {
                assert!(got, "nobody has the lease");
                let got = other.lease(&name, &two, ttl).await.unwrap();
                assert!(!got, "another holder of {length} bytes has the lease");
                let got = other.lease(&name, &one, ttl).await.unwrap();
                assert!(got, "a holder of {length} bytes renews");
            }
            Err(error) => is_refused(&error, length),
        }
    }
}

fn is_refused(error: &StoreError, length: usize) {
    assert!(length > LONGEST, "{length} bytes are not too long: {error}");
    assert_eq!(error.kind(), StoreErrorKind::Refused, "{length} bytes: {error}");
}

pub(crate) async fn a_renewed_lease_lasts_longer(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let short = Duration::from_millis(40);
    assert!(store.lease("cleanup", "one", short).await.unwrap());
    assert!(store.lease("cleanup", "one", PATIENCE * 10).await.unwrap(), "a holder renews");
    let_pass(store.as_ref(), short * 2).await;
    let got = other.lease("cleanup", "two", PATIENCE).await.unwrap();
    assert!(!got, "a renewed lease lasts until `ttl` from its renewal");
}

pub(crate) async fn of_many_who_ask_one_gets_it(namespace: Arc<dyn Namespace>) {
    for round in 0..3 {
        let mut asking = JoinSet::new();
        for n in 0..8 {
            let node = namespace.connect().await;
            asking.spawn(async move {
                let (name, holder) = (format!("round {round}"), format!("node {n}"));
                node.lease(&name, &holder, PATIENCE * 10).await.unwrap()
            });
        }
        let got = asking.join_all().await.into_iter().filter(|got| *got).count();
        assert_eq!(got, 1, "of eight nodes that ask at the same moment one gets the lease");
    }
}

/// The most bytes of a name and of a holder.
const LONGEST: usize = 128;
