//! A server that dies.

use std::sync::Arc;

use session_conformance::faults::{self, Program};
use session_store_mongo::Transactions;

use crate::namespace::{ALONE, Fresh};

fn server() -> Arc<Program> {
    let program = std::env::var("SESSION_KIT_XTASK")
        .expect("SESSION_KIT_XTASK is a program that kills servers; `cargo xtask test` names it");
    Arc::new(Program { command: vec![program, "services".into()], server: "mongodb".into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_of_the_server_loses_nothing() {
    let _alone = ALONE.write().await;
    for transactions in [Transactions::WhereThereAre, Transactions::Never] {
        faults::a_death_loses_nothing(Arc::new(Fresh::new(transactions)), server()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_the_server_is_an_outage() {
    let _alone = ALONE.write().await;
    faults::a_pause_is_an_outage(Arc::new(Fresh::new(Transactions::WhereThereAre)), server()).await;
}
