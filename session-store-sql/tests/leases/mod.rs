//! Leases as tickets take them: many, for a short time, by all nodes at once.

use std::sync::Arc;
use std::time::Duration;

use session_conformance::sample::PATIENCE;
use session_core::Store;
use tokio::task::JoinSet;

const TASKS: usize = 16;
const EACH: usize = 40;

/// Beside leases that run out at once, each is answered, and to one of those who ask.
pub(crate) async fn taken_in_parallel(stores: [Arc<dyn Store>; 2]) {
    let mut asking = JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(&stores[task % 2]);
        asking.spawn(async move {
            let (mut taken, holder) = (0, format!("node {task}"));
            for n in 0..EACH {
                let ticket = format!("ticket {task} {n}");
                store.lease(&ticket, &holder, Duration::ZERO).await.unwrap();
                let shared = format!("shared {n}");
                taken += usize::from(store.lease(&shared, &holder, PATIENCE * 10).await.unwrap());
                // May have been deleted, or may be there and over.
                let over = format!("ticket {} {n}", (task + 1) % TASKS);
                store.lease(&over, &holder, Duration::ZERO).await.unwrap();
            }
            taken
        });
    }
    assert_eq!(asking.join_all().await.into_iter().sum::<usize>(), EACH);
}

/// A call deletes a bounded number of the leases that ran out, the oldest first. Before it there are
/// 30,000, which ran out one second after the other, and that of the name is the newest.
pub(crate) async fn deleted_in_parts(
    store: &dyn Store,
    mut left: impl AsyncFnMut() -> (i64, bool),
) {
    assert_eq!(left().await, (30_000, true));
    let mut before = 30_000;
    for n in 0..3 {
        assert!(store.lease(&format!("new {n}"), "node", PATIENCE).await.unwrap());
        let (now, is_oldest_there) = left().await;
        assert!((1..=100).contains(&(before - now)), "{} went", before - now);
        assert!(!is_oldest_there);
        before = now;
    }
}
