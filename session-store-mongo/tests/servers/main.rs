//! The MongoDB store on a real server: the conformance kit, and what is MongoDB's own.

mod namespace;

use std::sync::Arc;

use session_store_mongo::Transactions;

use crate::namespace::{ALONE, Mongo};

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee() {
    let _shared = ALONE.read().await;
    let report = session_conformance::run(Arc::new(Mongo(Transactions::WhereThereAre))).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_every_guarantee_without_transactions() {
    let _shared = ALONE.read().await;
    let report = session_conformance::run(Arc::new(Mongo(Transactions::Never))).await;
    println!("{report}");
    assert!(report.passed(), "{report}");
}
