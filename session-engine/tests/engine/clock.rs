//! Time is injected.

use std::sync::Arc;
use std::time::Duration;

use session_core::usage::Timeouts;
use session_core::{EndCause, Timestamp};
use session_engine::clock::{Clock, ManualClock};
use session_engine::{Engine, Options, Parts, Refusal};
use session_store_memory::MemoryStore;

use crate::probe::{refusal, sign_in, verdict};

#[tokio::test(start_paused = true)]
async fn a_session_expires_when_the_clock_is_moved() {
    let clock = ManualClock::starting_at(Timestamp::from_micros(1_780_000_000_000_000));
    let timeouts = Timeouts::default().with_idle(Duration::from_secs(600));
    let options = Options::default().with_timeouts(timeouts);
    let stores = clock.clone();
    let store = MemoryStore::with_clock(move || stores.now());
    let parts = Parts::default().with_clock(clock.clone());
    let node = Engine::start_with(Arc::new(store), options, parts).await.unwrap();
    let signed_in = sign_in(&node, "alice").await;
    clock.advance(Duration::from_secs(599));
    let current = verdict(&node, &signed_in).await.session().unwrap();
    assert_eq!(current.last_accessed(), clock.now());
    clock.set(current.last_accessed().plus(Duration::from_secs(600)));
    assert!(matches!(refusal(&node, &signed_in).await, Refusal::Idle(_)));
    clock.advance(Duration::from_secs(20));
    assert_eq!(refusal(&node, &signed_in).await.end_cause(), Some(EndCause::Expired));
}
