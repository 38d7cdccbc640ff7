//! Documents that cannot be read.

use std::time::Duration;

use mongodb::bson::doc;
use session_conformance::sample::{end, end_all, insert, now, session, sweep_all, user_in};
use session_core::Store;
use session_core::store::{Selection, TenantFilter};
use session_store_mongo::Transactions;

use crate::list;
use crate::namespace::{ALONE, Fresh};

/// An entry of the list whose owner cannot be read stops neither a selection nor the cleanup.
#[tokio::test]
async fn an_ending_passes_over_what_it_cannot_read() {
    let _alone = ALONE.read().await;
    for transactions in [Transactions::WhereThereAre, Transactions::Never] {
        for sweeps in [false, true] {
            let fresh = Fresh::new(transactions);
            let store = fresh.store().await;
            let (owner, begun) = (user_in("north", "alice"), now(&store).await);
            let mut ids = Vec::new();
            for age in [3, 2, 1] {
                let past = begun.minus(Duration::from_secs(age));
                let mut mine = session(&store, &owner, past);
                mine.deadline = past;
                insert(&store, &mine).await;
                ids.push(mine.id);
            }
            let second = doc! { "_id": ids[1].as_uuid().simple().to_string() };
            let damage = doc! { "$set": { "user_id": 7 } };
            let damaged = list(&fresh).await.update_one(second, damage).await.unwrap();
            assert_eq!(damaged.modified_count, 1);
            let ended = if sweeps {
                sweep_all(&store, Duration::ZERO, 1).await
            } else {
                let north = Selection::within(TenantFilter::Is(owner.tenant.clone()));
                end_all(&store, end(&store, north).await, 1).await
            };
            let mut ended: Vec<_> = ended.iter().map(|ended| ended.id).collect();
            ended.sort_by_key(|id| ids.iter().position(|known| known == id));
            assert_eq!(ended, [ids[0], ids[2]], "{transactions:?}, a sweep: {sweeps}");
            assert!(store.load(ids[1]).await.unwrap().is_some());
        }
    }
}
