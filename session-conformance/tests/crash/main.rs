//! The harness for embedded stores, on a store that keeps a journal in a file, and on those that
//! acknowledge what they have not written.

mod journal;

use std::path::PathBuf;
use std::sync::Arc;

use session_conformance::Store;
use session_conformance::faults::a_kill_loses_nothing;

use crate::journal::{Journal, Writes};

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_written_first_loses_nothing() {
    kill("a_journal_that_is_written_first_loses_nothing", Writes::BeforeTheAnswer).await;
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "acknowledged")]
async fn a_journal_that_is_written_later_is_caught() {
    kill("a_journal_that_is_written_later_is_caught", Writes::WhenItSuits).await;
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "not the policy that was acknowledged")]
async fn a_journal_without_policies_is_caught() {
    kill("a_journal_without_policies_is_caught", Writes::Without("policy")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "not the block that was acknowledged")]
async fn a_journal_without_blocks_is_caught() {
    kill("a_journal_without_blocks_is_caught", Writes::Without("block")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "not the key of the fleet that was acknowledged")]
async fn a_journal_without_a_key_is_caught() {
    kill("a_journal_without_a_key_is_caught", Writes::Without("key")).await;
}

async fn kill(test: &str, writes: Writes) {
    let folder = tempfile::tempdir().unwrap();
    a_kill_loses_nothing(test, folder.path(), |folder| open(folder, writes)).await;
}

async fn open(folder: PathBuf, writes: Writes) -> Arc<dyn Store> {
    Arc::new(Journal::open(&folder.join("journal"), writes).await)
}
