//! A call looks at a bounded number of records, and says where to go on.

use std::sync::Arc;

use session_core::store::{
    Commit, EndMany, Forget, HistoryQuery, PageQuery, Selection, TenantFilter,
};
use session_core::{ClientId, Session};

use super::forgetting::forget_all;
use super::{history_pages, walks};
use crate::Namespace;
use crate::run::skip;
use crate::sample::{HOUR, add_many, end, end_all, ended_ids, insert, now, session, user};

/// Walks that look for one session find it behind more than one call examines, whichever order they go
/// by: its id is the largest, and its sign-in and its end are the first.
pub(crate) async fn what_stands_behind_many_is_found(namespace: Arc<dyn Namespace>) {
    if namespace.many_sessions() < MANY_SESSIONS {
        skip("so many sessions take too long on this server");
    }
    let store = namespace.connect().await;
    let begun = now(store.as_ref()).await;
    let owner = user("alice");
    let shop = ClientId::new("shop").unwrap();
    let mut last = session(store.as_ref(), &owner, begun.minus(HOUR));
    last.id = store.session_id(&owner, begun.plus(HOUR), [0xff; 16]);
    last.client_id = Some(shop.clone());
    insert(store.as_ref(), &last).await;
    let mut left = PageQuery::MAX_EXAMINED as usize + 100;
    for n in 0.. {
        let count = left.min(Commit::MAX_CHANGES);
        add_many(store.as_ref(), &user(&format!("user {n}")), count).await;
        left -= count;
        if left == 0 {
            break;
        }
    }

    let mut query = PageQuery::live(TenantFilter::Any, begun);
    query.client_id = Some(shop.clone());
    let listed = walks::walk(store.as_ref(), &query).await;
    let ids = |sessions: &[Session]| sessions.iter().map(|session| session.id).collect::<Vec<_>>();
    assert_eq!(ids(&listed), [last.id], "a page that finds nothing says where to go on");

    let of_shop = end(store.as_ref(), Selection::within(TenantFilter::Any).of_client(shop.clone()));
    let of_shop = EndMany { at: begun.minus(HOUR), ..of_shop.await };
    let ended = end_all(store.as_ref(), of_shop, 10).await;
    assert_eq!(ended_ids(&ended), [last.id], "a call that ends nothing says where to go on");

    let rest = end(store.as_ref(), Selection::within(TenantFilter::Any)).await;
    end_all(store.as_ref(), rest, 500).await;
    let mut query = HistoryQuery::within(TenantFilter::Any);
    query.client_id = Some(shop);
    let listed = history_pages::walk(store.as_ref(), &query).await;
    let listed: Vec<_> = listed.into_iter().map(|ended| ended.session).collect();
    assert_eq!(ids(&listed), [last.id], "a page of the history says where to go on, too");
    assert_eq!(forget_all(store.as_ref(), &Forget::User(owner), 10).await, 1);
}

/// [`Namespace::many_sessions`] where nobody has lowered it.
const MANY_SESSIONS: usize = 2_000;
