//! Leases that ran out leave the file.

use std::path::Path;
use std::time::Duration;

use own_store::OwnStore;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use session_core::Store;

const LEASES: TableDefinition<'_, &str, (&str, i64)> = TableDefinition::new("leases");
const ENDINGS: TableDefinition<'_, (i64, &str), ()> = TableDefinition::new("endings");

/// There is one for each ticket of a sign-in, and no call may look at all of them.
#[tokio::test]
async fn a_lease_that_is_taken_drops_a_hundred_of_those_that_ran_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions");
    let store = OwnStore::connect(&path).await.unwrap();
    let hour = Duration::from_secs(3600);
    for n in 0..150 {
        assert!(store.lease(&name(n), "one", hour).await.unwrap());
    }
    assert!(store.lease(&name(8), "one", hour).await.unwrap(), "a holder renews");
    assert!(!store.lease(&name(8), "two", hour).await.unwrap(), "another one has it");
    drop(store);
    assert_eq!(counts(&path), (150, 150));
    let_all_run_out(&path);
    let store = OwnStore::connect(&path).await.unwrap();
    assert!(store.lease(&name(8), "two", hour).await.unwrap(), "it ran out");
    drop(store);
    assert_eq!(counts(&path), (50, 50));
}

fn name(n: i64) -> String {
    format!("ticket {n}")
}

fn counts(path: &Path) -> (u64, u64) {
    let database = Database::open(path).unwrap();
    let file = database.begin_read().unwrap();
    let leases = file.open_table(LEASES).unwrap().len().unwrap();
    (leases, file.open_table(ENDINGS).unwrap().len().unwrap())
}

fn let_all_run_out(path: &Path) {
    let database = Database::open(path).unwrap();
    let change = database.begin_write().unwrap();
    let mut endings = change.open_table(ENDINGS).unwrap();
    endings.retain(|_, ()| false).unwrap();
    let mut leases = change.open_table(LEASES).unwrap();
    for n in 0..150 {
        leases.insert(&*name(n), ("one", n)).unwrap();
        endings.insert((n, &*name(n)), ()).unwrap();
    }
    drop((leases, endings));
    change.commit().unwrap();
}
