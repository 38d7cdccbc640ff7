//! Servers that die.

use std::sync::Arc;

use session_conformance::faults::{self, Program};

use crate::namespace::{ALONE, Prefix};

pub(crate) fn server(name: &str) -> Arc<Program> {
    let program = std::env::var("SESSION_KIT_XTASK")
        .expect("SESSION_KIT_XTASK is a program that kills servers; `cargo xtask test` names it");
    Arc::new(Program { command: vec![program, "services".into()], server: name.into() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_of_the_server_loses_nothing() {
    let _alone = ALONE.write().await;
    faults::a_death_loses_nothing(Arc::new(Prefix::new(false).with_its_timeout()), server("redis"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_the_server_is_an_outage() {
    let _alone = ALONE.write().await;
    faults::a_pause_is_an_outage(Arc::new(Prefix::new(false).with_its_timeout()), server("redis"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_of_the_whole_cluster_loses_nothing() {
    let _alone = ALONE.write().await;
    faults::a_death_loses_nothing(
        Arc::new(Prefix::new(true).with_its_timeout()),
        server("redis-cluster"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_the_whole_cluster_is_an_outage() {
    let _alone = ALONE.write().await;
    faults::a_pause_is_an_outage(
        Arc::new(Prefix::new(true).with_its_timeout()),
        server("redis-cluster"),
    )
    .await;
}
