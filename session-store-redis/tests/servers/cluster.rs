//! A cluster.

use std::sync::Arc;

use crate::namespace::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let report = session_conformance::run(Arc::new(Cluster)).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}
