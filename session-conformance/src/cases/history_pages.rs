//! Lists of ended sessions: the latest end first, with every filter, to the end.

use std::cmp::Reverse;
use std::sync::Arc;

use session_core::store::{
    EndedSession, HistoryQuery, PageQuery, Selection, TenantFilter, limit_within,
};
use session_core::{ClientId, DeviceKind, EndCause, SessionId, Store, Timestamp, UserId};

use super::history::forget_all;
use crate::Namespace;
use crate::sample::{
    SECOND, add, add_many, end, end_all, end_at, insert, now, session, sorted, user, user_in,
};

pub(crate) async fn every_filter_walks_to_the_end(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let begun = now(store.as_ref()).await;
    let mut ended = Vec::new();
    for n in 0..24_u32 {
        let name = ["alice", "bob"][n as usize / 2 % 2];
        let owner = if n % 2 == 0 { user_in("north", name) } else { user(name) };
        let mut session = session(store.as_ref(), &owner, begun);
        session.device_kind =
            [DeviceKind::Web, DeviceKind::Mobile, DeviceKind::Tv][n as usize % 3].clone();
        session.client_id = (n % 4 == 1).then(|| ClientId::new("shop").unwrap());
        insert(store.as_ref(), &session).await;
        let cause = [EndCause::Revoked, EndCause::Blocked, EndCause::Expired][n as usize % 3];
        // Pairs of sessions share a time, so that pages break within a tie.
        end_at(store.as_ref(), &session, cause, begun.plus(SECOND * (n / 2))).await;
        ended.push(other.ended(session.id).await.unwrap().unwrap());
    }
    ended.sort_by_key(place);
    for query in queries(begun) {
        let expected: Vec<_> = ended.iter().filter(|e| query.covers(e)).cloned().collect();
        assert!(!expected.is_empty(), "the case covers something: {query:?}");
        for limit in [1, 3, 200] {
            let walked = walk(other.as_ref(), &HistoryQuery { limit, ..query.clone() }).await;
            assert_eq!(walked, expected, "all that is covered, the latest end first: {query:?}");
        }
    }
}

fn queries(begun: Timestamp) -> Vec<HistoryQuery> {
    let all = HistoryQuery::within(TenantFilter::Any);
    let north = TenantFilter::Is(user_in("north", "alice").tenant);
    let alice = Some(UserId::new("alice").unwrap());
    let shop = Some(ClientId::new("shop").unwrap());
    let since = Some(begun.plus(SECOND * 7));
    vec![
        all.clone(),
        HistoryQuery { tenant: TenantFilter::Is(None), ..all.clone() },
        HistoryQuery { tenant: north.clone(), ..all.clone() },
        HistoryQuery { user: alice.clone(), ..all.clone() },
        HistoryQuery::user(user("alice")),
        HistoryQuery::user(user_in("north", "bob")),
        HistoryQuery { client_id: shop.clone(), ..HistoryQuery::user(user("alice")) },
        HistoryQuery { cause: Some(EndCause::Blocked), ..HistoryQuery::user(user("bob")) },
        HistoryQuery { since, ..HistoryQuery::user(user_in("north", "alice")) },
        HistoryQuery { device_kind: Some(DeviceKind::Tv), ..all.clone() },
        HistoryQuery { device_kind: Some(DeviceKind::Mobile), tenant: north, ..all.clone() },
        HistoryQuery { client_id: shop, ..all.clone() },
        HistoryQuery { cause: Some(EndCause::Expired), ..all.clone() },
        HistoryQuery { cause: Some(EndCause::Revoked), since, user: alice, ..all.clone() },
        HistoryQuery { since, ..all },
    ]
}

pub(crate) async fn since_is_met_to_the_microsecond(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let line = now(store.as_ref()).await;
    let micro = std::time::Duration::from_micros(1);
    let mut there = Vec::new();
    for at in [line.minus(micro), line, line.plus(micro)] {
        let session = add(store.as_ref(), &owner).await;
        end_at(store.as_ref(), &session, EndCause::Revoked, at).await;
        there.push(session.id);
    }
    for query in [HistoryQuery::within(TenantFilter::Any), HistoryQuery::user(owner)] {
        let listed = walk(store.as_ref(), &HistoryQuery { since: Some(line), ..query }).await;
        let listed: Vec<_> = listed.iter().map(|ended| ended.session.id).collect();
        assert_eq!(listed, [there[2], there[1]], "what ended at this time or after it");
    }
}

/// Beside sessions that end, and records that are forgotten.
pub(crate) async fn a_walk_beside_changes_misses_nothing(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let begun = now(store.as_ref()).await;
    let kinds = [DeviceKind::Mobile, DeviceKind::Web];
    let ends = async |name: &str, n: u32| {
        let mut session = session(other.as_ref(), &user_in("north", name), begun);
        session.device_kind = kinds[n as usize % 2].clone();
        insert(other.as_ref(), &session).await;
        end_at(other.as_ref(), &session, EndCause::Revoked, begun.plus(SECOND * (n / 4))).await;
        session.id
    };
    let mut stay: Vec<SessionId> = Vec::new();
    for n in 0..32 {
        match n % 4 {
            0 => _ = ends(&format!("leaves {}", n / 4), n).await,
            2 => stay.push(ends("alice", n).await),
            _ => _ = ends("bob", n).await,
        }
    }
    let mut query = HistoryQuery::within(TenantFilter::Is(user_in("north", "alice").tenant));
    query.device_kind = Some(DeviceKind::Mobile);
    query.limit = 3;
    let mut seen: Vec<EndedSession> = Vec::new();
    for call in 0_u32.. {
        assert!(call < 1000, "the pages have no end");
        let page = store.history(&query).await.unwrap();
        assert!(page.sessions.len() <= 3, "a page is no longer than its limit");
        for ended in page.sessions {
            assert!(query.covers(&ended), "a page lists what the query covers");
            assert!(seen.last().is_none_or(|last| place(last) < place(&ended)), "latest end first");
            seen.push(ended);
        }
        if call < 8 {
            forget_all(other.as_ref(), &user_in("north", &format!("leaves {call}"))).await;
            ends("carol", (call * 7) % 40).await;
        }
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    for id in stay {
        let times = seen.iter().filter(|ended| ended.session.id == id).count();
        assert_eq!(times, 1, "what is listed during the whole walk is seen, once");
    }
}

pub(crate) async fn a_page_goes_on_behind_what_is_forgotten(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let begun = now(store.as_ref()).await;
    let mut there = Vec::new();
    for n in 0..8 {
        let owner = user_in("north", &format!("user {n}"));
        let session = add(store.as_ref(), &owner).await;
        end_at(store.as_ref(), &session, EndCause::Revoked, begun.plus(SECOND * (n / 3))).await;
        there.push(store.ended(session.id).await.unwrap().unwrap());
    }
    there.sort_by_key(place);
    let mut query = HistoryQuery::within(TenantFilter::Any);
    query.limit = 2;
    for n in [5, 3, 1] {
        let gone = there.remove(n);
        query.after = Some(gone.position());
        forget_all(store.as_ref(), &gone.session.owner).await;
        let rest = walk(other.as_ref(), &query).await;
        assert_eq!(rest, there[n..], "a page goes on behind where the last one ended");
    }
}

pub(crate) async fn limits_are_kept(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let many = PageQuery::MAX_LIMIT as usize + 10;
    let sessions = add_many(store.as_ref(), &owner, many).await;
    let all = end(store.as_ref(), Selection::user(owner.clone())).await;
    assert_eq!(end_all(store.as_ref(), all, 100).await.len(), many);
    for query in [HistoryQuery::within(TenantFilter::Any), HistoryQuery::user(owner)] {
        let walked = walk(store.as_ref(), &HistoryQuery { limit: u32::MAX, ..query.clone() }).await;
        let walked = sorted(walked.iter().map(|ended| &ended.session));
        assert_eq!(walked, sorted(&sessions), "all of them, on more pages than one");
        let few = store.history(&HistoryQuery { limit: 0, ..query }).await.unwrap();
        assert!(few.sessions.len() <= 1, "a limit of 0 counts as 1");
        assert!(few.next.is_some(), "and the page says where to go on");
    }
}

pub(crate) async fn names_are_told_apart(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let mut owners = Vec::new();
    for name in ["al", "alice", "Alice", "alice ", "b:c", "c", "%", "_"] {
        owners.push(user(name));
        owners.extend(["north", "northwest", "a", "a:b"].map(|tenant| user_in(tenant, name)));
    }
    let mut ended = Vec::new();
    for owner in &owners {
        let session = add(store.as_ref(), owner).await;
        end_at(store.as_ref(), &session, EndCause::Revoked, session.signed_in).await;
        ended.push(store.ended(session.id).await.unwrap().unwrap());
    }
    ended.sort_by_key(place);
    for owner in owners {
        let tenant = TenantFilter::Is(owner.tenant.clone());
        for mut query in [HistoryQuery::within(tenant), HistoryQuery::user(owner)] {
            query.limit = PageQuery::MAX_LIMIT;
            let expected: Vec<_> = ended.iter().filter(|e| query.covers(e)).cloned().collect();
            assert_eq!(walk(store.as_ref(), &query).await, expected, "what {query:?} lists");
        }
    }
}

pub(super) fn place(ended: &EndedSession) -> (Reverse<Timestamp>, SessionId) {
    (Reverse(ended.ended), ended.session.id)
}

pub(super) async fn walk(store: &dyn Store, query: &HistoryQuery) -> Vec<EndedSession> {
    let mut query = query.clone();
    let mut walked = Vec::new();
    let most = limit_within(query.limit, PageQuery::MAX_LIMIT) as usize;
    for _ in 0..1000 {
        let page = store.history(&query).await.unwrap();
        assert!(page.sessions.len() <= most, "{} on a page of {most}", page.sessions.len());
        walked.extend(page.sessions);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return walked,
        }
    }
    panic!("the pages have no end: {query:?}");
}
