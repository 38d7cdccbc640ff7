//! What a fleet has once: its clock and its key.

use std::sync::Arc;
use std::time::Instant;

use session_core::store::{Cursor, Entries};
use session_core::{FleetKey, Store, Timestamp};
use tokio::task::JoinSet;

use crate::Namespace;
use crate::sample::{SLACK, add, log_end, random, revoke, user};

pub(crate) async fn of_many_proposals_one_becomes_the_key(namespace: Arc<dyn Namespace>) {
    let mut proposing = JoinSet::new();
    for _ in 0..8 {
        let node = namespace.connect().await;
        let proposed = FleetKey::from_bytes(random());
        proposing.spawn(async move { (node.fleet_key(&proposed).await.unwrap(), proposed) });
    }
    let keys = proposing.join_all().await;
    let (key, _) = &keys[0];
    let proposed = keys.iter().filter(|(_, proposed)| proposed == key).count();
    assert_eq!(proposed, 1, "one of the proposals becomes the key");
    assert!(keys.iter().all(|(got, _)| got == key), "every node gets the same");
    for _ in 0..2 {
        // Every connection before is closed.
        let node = namespace.connect().await;
        let got = node.fleet_key(&FleetKey::from_bytes(random())).await.unwrap();
        assert!(got == *key, "the key stays");
    }
}

/// Every kind of read tells the time at which it was made.
pub(crate) async fn every_read_of_the_log_tells_the_time(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let start = log_end(store.as_ref()).await;
    for _ in 0..4 {
        let session = add(store.as_ref(), &user("alice")).await;
        assert_eq!(revoke(store.as_ref(), session.id).await, 1);
    }
    let end = log_end(store.as_ref()).await;
    let unknown = Cursor(vec![0xff; 3]);
    let mut clock = Clock::read(store.as_ref()).await;
    for round in 0..3 {
        for cursor in [None, Some(&start), Some(&end), Some(&unknown)] {
            for (entries, limit) in
                [(Entries::All, 3), (Entries::All, 100), (Entries::Invalidations, 2)]
            {
                let node = [&store, &other][round % 2].as_ref();
                let asked = Instant::now();
                let page = node.log_since(cursor, entries, limit).await.unwrap();
                clock.goes_on(page.clock, asked);
            }
        }
        let asked = Instant::now();
        clock.goes_on(store.report().await.unwrap().clock, asked);
    }
}

pub(crate) async fn the_clock_moves_on(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let mut clock = Clock::read(store.as_ref()).await;
    let first = clock.first;
    while clock.last < first.plus(SLACK * 2) {
        let asked = Instant::now();
        let page = store.log_since(None, Entries::All, 0).await.unwrap();
        clock.goes_on(page.clock, asked);
        tokio::task::yield_now().await;
    }
}

/// The store's clock, held against this host's monotonic one.
struct Clock {
    first: Timestamp,
    last: Timestamp,
    /// When the first call began and when it returned.
    origin: (Instant, Instant),
}

impl Clock {
    async fn read(store: &dyn Store) -> Self {
        let asked = Instant::now();
        let first = store.log_since(None, Entries::All, 0).await.unwrap().clock;
        Self { first, last: first, origin: (asked, Instant::now()) }
    }

    /// Takes the time that a call has answered which began then and has just returned.
    fn goes_on(&mut self, clock: Timestamp, asked: Instant) {
        let last = self.last;
        assert!(clock.plus(SLACK) >= last, "the clock went back from {last} to {clock}");
        let least = asked.duration_since(self.origin.1);
        let most = self.origin.0.elapsed();
        let passed = clock.since(self.first);
        assert!(passed + SLACK >= least, "it went on by {passed:?} in {least:?} at least");
        assert!(passed <= most + SLACK, "it went on by {passed:?} in {most:?} at most");
        self.last = clock;
    }
}
