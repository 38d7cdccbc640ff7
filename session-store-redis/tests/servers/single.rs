//! One server.

use std::sync::Arc;

use crate::namespace::{ALONE, Single};

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let _shared = ALONE.read().await;
    let report = session_conformance::run(Arc::new(Single)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}
