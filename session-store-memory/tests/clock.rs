//! A memory store with a clock of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use session_core::{Store, Timestamp};
use session_store_memory::MemoryStore;

#[tokio::test]
async fn leases_run_out_by_the_stores_clock() {
    let micros = Arc::new(AtomicI64::new(0));
    let store = MemoryStore::with_clock({
        let micros = Arc::clone(&micros);
        move || Timestamp::from_micros(micros.load(Ordering::SeqCst))
    });
    let ttl = Duration::from_secs(30);
    assert!(store.lease("cleanup", "one", ttl).await.unwrap());
    micros.store(29_999_999, Ordering::SeqCst);
    assert!(!store.lease("cleanup", "two", ttl).await.unwrap());
    micros.store(30_000_000, Ordering::SeqCst);
    assert!(store.lease("cleanup", "two", ttl).await.unwrap());
    assert!(!store.lease("cleanup", "one", ttl).await.unwrap());
}
