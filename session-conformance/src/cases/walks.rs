//! Walks over pages: with filters, with small limits, and beside changes.

use std::sync::Arc;
use std::time::Duration;

use session_core::store::{PageCursor, PageQuery, TenantFilter, Touch, limit_within};
use session_core::{ClientId, DeviceKind, Session, Store, Timestamp, UserId};

use crate::Namespace;
use crate::sample::{
    HOUR, LONG_AGO, SECOND, add, add_many, address, insert, insert_all, now, revoke, session,
    sorted, used, user, user_in,
};

pub(crate) async fn every_filter_walks_to_the_end(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let begun = now(store.as_ref()).await;
    let mut sessions = Vec::new();
    for n in 0..24_u32 {
        let name = ["alice", "bob"][n as usize / 2 % 2];
        let owner = if n % 2 == 0 { user_in("north", name) } else { user(name) };
        // Pairs of sessions share a time, so that pages break within a tie.
        let mut session = session(store.as_ref(), &owner, begun.plus(SECOND * (n / 2)));
        session.last_accessed = begun.plus(SECOND * (n % 5));
        session.device_kind =
            [DeviceKind::Web, DeviceKind::Mobile, DeviceKind::Tv][n as usize % 3].clone();
        session.client_id = (n % 4 == 1).then(|| ClientId::new("shop").unwrap());
        session.deadline = begun.plus(SECOND * (n % 7));
        sessions.push(session);
    }
    insert_all(store.as_ref(), &sessions).await;
    sessions.sort_by_key(|session| (std::cmp::Reverse(session.signed_in), session.id));
    let north = TenantFilter::Is(user_in("north", "alice").tenant);
    let all = PageQuery::live(TenantFilter::Any, begun);
    let alice = Some(UserId::new("alice").unwrap());
    let shop = Some(ClientId::new("shop").unwrap());
    let queries = [
        all.clone(),
        PageQuery { tenant: TenantFilter::Is(None), ..all.clone() },
        PageQuery { tenant: north.clone(), ..all.clone() },
        PageQuery { user: alice.clone(), ..all.clone() },
        PageQuery { user: alice.clone(), tenant: north.clone(), ..all.clone() },
        PageQuery {
            user: alice,
            tenant: TenantFilter::Is(None),
            client_id: shop.clone(),
            ..all.clone()
        },
        PageQuery { device_kind: Some(DeviceKind::Tv), ..all.clone() },
        PageQuery { device_kind: Some(DeviceKind::Mobile), tenant: north, ..all.clone() },
        PageQuery { client_id: shop, ..all.clone() },
        PageQuery { active_since: Some(begun.plus(SECOND * 3)), ..all.clone() },
        PageQuery { now: begun.plus(SECOND * 4), ..all },
    ];
    for query in queries {
        let expected: Vec<_> = sessions.iter().filter(|s| query.covers(s)).cloned().collect();
        assert!(!expected.is_empty(), "the case covers something: {query:?}");
        for limit in [1, 3, 200] {
            let walked = walk(store.as_ref(), &PageQuery { limit, ..query.clone() }).await;
            assert_eq!(walked, expected, "all that is covered, newest first: {query:?}");
        }
    }
}

pub(crate) async fn a_users_own_pages_go_on(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let begun = now(store.as_ref()).await;
    let owner = user_in("north", "alice");
    let mut sessions = Vec::new();
    for n in 0..11 {
        sessions.push(session(store.as_ref(), &owner, begun.plus(SECOND * (n / 3))));
        add(store.as_ref(), &user_in("north", "bob")).await;
    }
    insert_all(store.as_ref(), &sessions).await;
    sessions.sort_by_key(|session| (std::cmp::Reverse(session.signed_in), session.id));
    let tenant = TenantFilter::Is(owner.tenant.clone());
    let mut query = PageQuery::live(tenant, begun);
    query.user = Some(owner.user);
    query.limit = 2;
    assert_eq!(walk(store.as_ref(), &query).await, sessions, "each once, newest first");
    // A position is that of a session, and holds on every node and after that session has ended.
    let mut left = sessions;
    for place in [7, 4, 2] {
        let ended = left.remove(place);
        query.after = Some(PageCursor::of(&ended));
        revoke(store.as_ref(), ended.id).await;
        let rest = walk(other.as_ref(), &query).await;
        assert_eq!(rest, left[place..], "a page goes on behind where the last one ended");
    }
}

pub(crate) async fn a_filtered_walk_beside_changes_misses_nothing(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let begun = now(store.as_ref()).await;
    let kinds = [DeviceKind::Mobile, DeviceKind::Web];
    let make = |n: u32, kind: &DeviceKind| {
        let owner = user_in("north", &format!("user {}", n % 3));
        let mut session = session(store.as_ref(), &owner, begun.plus(SECOND * (n / 4)));
        session.device_kind = kind.clone();
        session
    };
    let all: Vec<_> = (0..32).map(|n| make(n, &kinds[n as usize % 2])).collect();
    insert_all(store.as_ref(), &all).await;
    let (mut go, stay): (Vec<_>, Vec<_>) =
        all.into_iter().enumerate().partition(|(n, _)| n % 3 == 0);
    let tenant = TenantFilter::Is(user_in("north", "alice").tenant);
    let mut query = PageQuery::live(tenant, begun);
    query.device_kind = Some(DeviceKind::Mobile);
    query.limit = 3;
    let mut seen: Vec<Session> = Vec::new();
    for call in 0.. {
        assert!(call < 1000, "the pages have no end");
        let page = store.page(&query).await.unwrap();
        assert!(page.sessions.len() <= 3, "a page is no longer than its limit");
        for session in page.sessions {
            assert!(query.covers(&session), "a page lists what the query covers");
            assert!(seen.iter().all(|s| s.id != session.id), "no session is seen twice");
            let order = |s: &Session| (std::cmp::Reverse(s.signed_in), s.id);
            assert!(seen.last().is_none_or(|last| order(last) < order(&session)), "newest first");
            seen.push(session);
        }
        if let Some((_, session)) = go.pop() {
            revoke(other.as_ref(), session.id).await;
        }
        insert(other.as_ref(), &make(call % 32, &kinds[call as usize % 2])).await;
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    for (_, session) in stay.iter().filter(|(_, session)| query.covers(session)) {
        let once = seen.iter().any(|s| s.id == session.id);
        assert!(once, "what is covered during the whole walk is seen");
    }
}

pub(crate) async fn a_touch_moves_no_session_to_another_page(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let begun = now(store.as_ref()).await;
    let mut sessions = Vec::new();
    for n in 0..9 {
        sessions.push(session(store.as_ref(), &user("alice"), begun.plus(SECOND * n)));
    }
    insert_all(store.as_ref(), &sessions).await;
    let mut query = PageQuery::live(TenantFilter::Any, begun);
    query.limit = 2;
    let mut seen = Vec::new();
    for call in 0_u32.. {
        assert!(call < 1000, "the pages have no end");
        let page = store.page(&query).await.unwrap();
        seen.extend(page.sessions.iter().map(|session| session.id));
        let touches = sessions.iter().map(|session| Touch {
            ip_addresses: vec![address(2)],
            ..used(session.id, begun.plus(SECOND * (100 + call)))
        });
        assert_eq!(store.touch(&touches.collect::<Vec<_>>()).await.unwrap(), []);
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    let expected: Vec<_> = sessions.iter().rev().map(|session| session.id).collect();
    assert_eq!(seen, expected, "the order is that of sign-in, not of use");
}

pub(crate) async fn a_limit_of_none_counts_as_one(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let sessions = add_many(store.as_ref(), &owner, 3).await;
    let mut query = PageQuery::live(TenantFilter::Any, now(store.as_ref()).await);
    query.limit = 0;
    let walked = walk(store.as_ref(), &query).await;
    assert_eq!(sorted(&walked), sorted(&sessions), "pages of one session, to the end");
}

pub(crate) async fn a_limit_beyond_the_largest_counts_as_the_largest(
    namespace: Arc<dyn Namespace>,
) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let sessions = add_many(store.as_ref(), &owner, PageQuery::MAX_LIMIT as usize + 10).await;
    for user in [None, Some(owner.user)] {
        let mut query = PageQuery::live(TenantFilter::Is(None), now(store.as_ref()).await);
        query.user = user;
        query.limit = u32::MAX;
        let walked = walk(store.as_ref(), &query).await;
        assert_eq!(sorted(&walked), sorted(&sessions), "all of them, on more pages than one");
    }
}

pub(crate) async fn deadlines_are_met_to_the_microsecond(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let now = now(store.as_ref()).await;
    let micro = Duration::from_micros(1);
    let ending = |deadline| Session { deadline, ..session(store.as_ref(), &owner, now) };
    let [mut over, mut lasting] = [ending(now), ending(now.plus(micro))];
    over.last_accessed = now.minus(HOUR);
    lasting.last_accessed = now.minus(HOUR).minus(micro);
    let all = [over, lasting, ending(LONG_AGO), ending(Timestamp::MAX)];
    insert_all(store.as_ref(), &all).await;
    let mut query = PageQuery::live(TenantFilter::Any, now);
    query.limit = 1;
    let listed = sorted(&walk(store.as_ref(), &query).await);
    assert_eq!(listed, sorted([&all[1], &all[3]]), "what is not past its deadline at this time");
    query.now = now.minus(micro);
    query.active_since = Some(now.minus(HOUR));
    let listed = sorted(&walk(store.as_ref(), &query).await);
    assert_eq!(listed, sorted([&all[0], &all[3]]), "used at or after this time");
}

pub(super) async fn walk(store: &dyn Store, query: &PageQuery) -> Vec<Session> {
    let mut query = query.clone();
    let mut walked = Vec::new();
    let most = limit_within(query.limit, PageQuery::MAX_LIMIT) as usize;
    for _ in 0..1000 {
        let page = store.page(&query).await.unwrap();
        assert!(page.sessions.len() <= most, "{} on a page of {most}", page.sessions.len());
        walked.extend(page.sessions);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return walked,
        }
    }
    panic!("the pages have no end: {query:?}");
}
