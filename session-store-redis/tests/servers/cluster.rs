//! A cluster.

use std::sync::Arc;

use crate::namespace::{ALONE, Cluster};

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let _shared = ALONE.read().await;
    let report = session_conformance::run(Arc::new(Cluster)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}
