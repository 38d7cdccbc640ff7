//! Pages of sessions.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use session_core::store::{PageQuery, TenantFilter};
use session_core::{ClientId, DeviceKind, UserId};

use super::walks::walk;
use crate::Namespace;
use crate::sample::{HOUR, insert, now, revoke, session, user, user_in};

pub(crate) async fn pages_are_stable_while_sessions_come_and_go(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let begun = now(store.as_ref()).await;
    let mut stay = HashSet::new();
    let mut go = Vec::new();
    for n in 0..60_u64 {
        // Five sessions share each time, so that pages break within a tie.
        let signed_in = begun.plus(Duration::from_secs(n / 5));
        let session = session(store.as_ref(), &user(&format!("user {}", n % 7)), signed_in);
        insert(store.as_ref(), &session).await;
        if n % 3 == 0 {
            go.push(session.id);
        } else {
            stay.insert(session.id);
        }
    }
    let mut query = PageQuery::live(TenantFilter::Any, begun);
    query.limit = 7;
    let mut seen = Vec::new();
    for walked in 0.. {
        assert!(walked < 100, "the pages have no end");
        let page = store.page(&query).await.unwrap();
        assert!(page.sessions.len() <= 7);
        seen.extend(page.sessions.iter().map(|session| (session.signed_in, session.id)));
        if let Some(id) = go.pop() {
            revoke(store.as_ref(), id).await;
        }
        let newcomer =
            session(store.as_ref(), &user("newcomer"), begun.plus(Duration::from_secs(5)));
        insert(store.as_ref(), &newcomer).await;
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    let ids: HashSet<_> = seen.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids.len(), seen.len(), "a page repeats a session");
    assert!(stay.is_subset(&ids), "a page leaves a session out");
    assert!(seen.is_sorted_by(|(a_time, a), (b_time, b)| (b_time, a) < (a_time, b)), "order");
}

pub(crate) async fn filters_select_what_they_say(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let now = now(store.as_ref()).await;
    let mut sessions = vec![
        session(store.as_ref(), &user("alice"), now.minus(HOUR)),
        session(store.as_ref(), &user_in("north", "alice"), now.minus(HOUR)),
        session(store.as_ref(), &user_in("north", "bob"), now),
        session(store.as_ref(), &user("bob"), now),
        session(store.as_ref(), &user("carol"), now.minus(HOUR)),
    ];
    sessions[1].device_kind = DeviceKind::Mobile;
    sessions[2].client_id = Some(ClientId::new("shop").unwrap());
    sessions[0].last_accessed = now;
    sessions[3].deadline = now;
    for session in &sessions {
        insert(store.as_ref(), session).await;
    }
    let all = PageQuery::live(TenantFilter::Any, now);
    let is = |tenant: Option<&str>| TenantFilter::Is(tenant.map(|t| t.parse().unwrap()));
    let alice = Some(UserId::new("alice").unwrap());
    let queries = [
        (all.clone(), vec![0, 1, 2, 4]),
        (PageQuery { tenant: is(None), ..all.clone() }, vec![0, 4]),
        (PageQuery { tenant: is(Some("north")), ..all.clone() }, vec![1, 2]),
        (PageQuery { tenant: is(Some("south")), ..all.clone() }, vec![]),
        (PageQuery { user: alice.clone(), ..all.clone() }, vec![0, 1]),
        (PageQuery { user: alice, tenant: is(None), ..all.clone() }, vec![0]),
        (PageQuery { device_kind: Some(DeviceKind::Mobile), ..all.clone() }, vec![1]),
        (PageQuery { client_id: Some(ClientId::new("shop").unwrap()), ..all.clone() }, vec![2]),
        (PageQuery { active_since: Some(now), ..all.clone() }, vec![0, 2]),
        (PageQuery { now: now.minus(HOUR), ..all }, vec![0, 1, 2, 3, 4]),
    ];
    for (query, expected) in queries {
        let listed = walk(store.as_ref(), &query).await;
        let listed: HashSet<_> = listed.into_iter().map(|session| session.id).collect();
        let expected: HashSet<_> = expected.into_iter().map(|n: usize| sessions[n].id).collect();
        assert_eq!(listed, expected, "{query:?}");
    }
}
