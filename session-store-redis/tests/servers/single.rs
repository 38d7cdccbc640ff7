//! One server.

use std::sync::Arc;

use crate::namespace::Single;

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let report = session_conformance::run(Arc::new(Single)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}
