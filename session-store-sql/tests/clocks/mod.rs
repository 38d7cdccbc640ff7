//! Ages go by the server's clock.

use std::time::Duration;

use session_conformance::sample::{self, insert, now, revoke, trim_old, user};
use session_core::store::{Entries, Forget, Sweep};
use session_core::{Session, Store};

/// Both stores are on the same tables; for `ahead`, the server's clock is a month ahead.
pub(crate) async fn ages_go_by_the_servers_clock(store: &dyn Store, ahead: &dyn Store) {
    let begun = now(store).await;
    for cursor in [None, Some(store.log_since(None, Entries::All, 1).await.unwrap().next)] {
        let read = ahead.log_since(cursor.as_ref(), Entries::All, 1).await.unwrap();
        assert!(read.clock > begun.plus(DAY * 29) && read.clock < begun.plus(DAY * 31));
    }
    let (gone, mut over) = (session(store).await, session(store).await);
    over.deadline = begun.plus(DAY);
    for session in [&gone, &over] {
        insert(store, session).await;
    }
    assert_eq!(revoke(store, gone.id).await, 1);

    let sweep = Sweep { overdue: DAY, after: None, at: begun };
    assert_eq!(store.sweep(&sweep, 10).await.unwrap().ended, []);
    assert_eq!(store.trim_log(DAY, 10).await.unwrap(), 0);
    assert_eq!(store.forget(&Forget::OlderThan(DAY), 10).await.unwrap(), 0);
    assert_eq!(ahead.sweep(&sweep, 10).await.unwrap().ended[0].id, over.id);
    // Two began and two ended; the newest entry stays.
    trim_old(ahead, DAY, 3).await;
    assert_eq!(ahead.forget(&Forget::OlderThan(DAY), 10).await.unwrap(), 2);
}

async fn session(store: &dyn Store) -> Session {
    sample::session(store, &user("alice"), now(store).await)
}

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
