//! What is kept of ended sessions.

use std::sync::Arc;
use std::time::Duration;

use session_conformance::sample::{commit, insert, now, revoke, session, user, user_in};
use session_core::store::{
    Change, Commit, EndMany, Forget, HistoryQuery, Needs, Outcome, Selection, Sweep, TenantFilter,
    Touch,
};
use session_core::{
    Actor, DeviceInfo, DeviceKind, EndCause, Session, SessionId, Store, Timestamp, UserKey,
};
use session_store_mongo::{MongoStore, Transactions};

use crate::namespace::{ALONE, Fresh};

const BOTH: [Transactions; 2] = [Transactions::WhereThereAre, Transactions::Never];
const SECOND: Duration = Duration::from_secs(1);

fn device() -> Option<DeviceInfo> {
    DeviceInfo::truncated("Firefox on Linux")
}

async fn end_at(store: &MongoStore, selection: Selection, at: Timestamp) {
    let (cause, by) = (EndCause::Revoked, Actor::Application);
    let end = EndMany { selection, after: None, cause, at, by, from: device() };
    assert_ne!(store.end_many(&end, 500).await.unwrap().ended, []);
}

async fn ids(store: &MongoStore, mut query: HistoryQuery) -> Vec<SessionId> {
    let mut ids = Vec::new();
    loop {
        let page = store.history(&query).await.unwrap();
        ids.extend(page.sessions.iter().map(|ended| ended.session.id));
        query.after = page.next;
        if query.after.is_none() {
            return ids;
        }
    }
}

/// By a commit, a selection and the cleanup.
#[tokio::test]
async fn whatever_ends_a_session_keeps_its_record() {
    let _alone = ALONE.read().await;
    for transactions in BOTH {
        let store = Fresh::new(transactions).store().await;
        let (owner, begun) = (user_in("north", "alice"), now(&store).await);
        let mut sessions: Vec<_> = (0..3).map(|_| session(&store, &owner, begun)).collect();
        sessions[1].device_kind = DeviceKind::Mobile;
        sessions[2].client_id = Some("shop".parse().unwrap());
        sessions[2].deadline = begun.minus(SECOND);
        for session in &sessions {
            insert(&store, session).await;
        }
        let [one, two, three] = &sessions[..] else { unreachable!() };

        let at = begun.plus(SECOND);
        let expected = store.user(&owner).await.unwrap().version;
        let changes = vec![Change::End(one.id, EndCause::Evicted)];
        let by = Actor::User(owner.clone());
        let evict =
            Commit { owner: owner.clone(), expected, changes, at, by: by.clone(), from: device() };
        assert_eq!(store.commit(&evict).await.unwrap(), Outcome::Done);
        end_at(&store, Selection::user(owner.clone()).on(DeviceKind::Mobile), at.plus(SECOND))
            .await;
        let sweep = Sweep { overdue: Duration::ZERO, after: None, at: at.plus(2 * SECOND) };
        assert_eq!(store.sweep(&sweep, 10).await.unwrap().ended.len(), 1);

        let ended = store.ended(one.id).await.unwrap().unwrap();
        assert_eq!((&ended.session, ended.ended, ended.cause), (one, at, EndCause::Evicted));
        assert_eq!((ended.by, ended.from), (by, device()));
        let ended = store.ended(two.id).await.unwrap().unwrap();
        assert_eq!((&ended.session, ended.cause, ended.from), (two, EndCause::Revoked, device()));
        let ended = store.ended(three.id).await.unwrap().unwrap();
        assert_eq!((&ended.session, ended.cause), (three, EndCause::Expired));
        assert_eq!((ended.by, ended.from), (Actor::System, None));
        lists(&store, &owner, &sessions, at).await;
        // It never comes back.
        let again = vec![Change::Insert(Box::new(one.clone()))];
        assert_eq!(commit(&store, &owner, again).await, Outcome::Conflict);
        assert_eq!(store.audit().await.unwrap(), [""; 0]);
    }
}

async fn lists(store: &MongoStore, owner: &UserKey, sessions: &[Session], at: Timestamp) {
    let latest_first: Vec<_> = sessions.iter().rev().map(|session| session.id).collect();
    let all = HistoryQuery { limit: 2, ..HistoryQuery::user(owner.clone()) };
    assert_eq!(ids(store, all.clone()).await, latest_first);
    let within = |tenant| HistoryQuery { limit: 1, ..HistoryQuery::within(tenant) };
    let any = within(TenantFilter::Any);
    assert_eq!(ids(store, any.clone()).await, latest_first);
    assert_eq!(ids(store, within(TenantFilter::Is(owner.tenant.clone()))).await, latest_first);
    assert_eq!(ids(store, within(TenantFilter::Is(None))).await, []);
    let since = Some(at.plus(SECOND));
    assert_eq!(ids(store, HistoryQuery { since, ..any.clone() }).await, latest_first[..2]);
    let since = Some(at.plus(2 * SECOND));
    assert_eq!(ids(store, HistoryQuery { since, ..all.clone() }).await, latest_first[..1]);
    let cause = Some(EndCause::Evicted);
    assert_eq!(ids(store, HistoryQuery { cause, ..any.clone() }).await, latest_first[2..]);
    let cause = Some(EndCause::Unknown);
    assert_eq!(ids(store, HistoryQuery { cause, ..any.clone() }).await, []);
    let device_kind = Some(DeviceKind::Mobile);
    assert_eq!(ids(store, HistoryQuery { device_kind, ..all.clone() }).await, latest_first[1..2]);
    let client_id = Some("shop".parse().unwrap());
    assert_eq!(ids(store, HistoryQuery { client_id, ..any }).await, latest_first[..1]);
    let user = Some("bob".parse().unwrap());
    assert_eq!(ids(store, HistoryQuery { user, ..all }).await, []);
}

#[tokio::test]
async fn a_history_of_no_time_keeps_nothing() {
    let _alone = ALONE.read().await;
    for transactions in BOTH {
        let store = Fresh::new(transactions).store().await;
        store.configure(&Needs { history: Duration::ZERO, max_staleness: SECOND });
        let mine = session(&store, &user("alice"), now(&store).await);
        insert(&store, &mine).await;
        assert_eq!(revoke(&store, mine.id).await, 1);
        assert_eq!(store.ended(mine.id).await.unwrap(), None);
        assert_eq!(ids(&store, HistoryQuery::within(TenantFilter::Any)).await, []);
    }
}

#[tokio::test]
async fn the_history_forgets_by_age_and_by_user() {
    let _alone = ALONE.read().await;
    let store = Fresh::new(Transactions::WhereThereAre).store().await;
    let at = now(&store).await;
    let hour = Duration::from_secs(3600);
    let owners = [user("alice"), user_in("north", "alice"), user("bob")];
    let mut sessions = Vec::new();
    for (n, owner) in (0..).zip(owners.iter().cycle().take(6)) {
        let mine = session(&store, owner, at);
        insert(&store, &mine).await;
        // The first three ended four, three and two hours ago.
        let ended = if n < 3 { at.minus(hour * (4 - n)) } else { at };
        end_at(&store, Selection::session(mine.id, TenantFilter::Any), ended).await;
        sessions.push(mine.id);
    }
    let old = Forget::OlderThan(hour);
    assert_eq!(store.forget(&Forget::OlderThan(5 * hour), 10).await.unwrap(), 0);
    assert_eq!(store.forget(&old, 2).await.unwrap(), 2, "the oldest first");
    assert_eq!(store.ended(sessions[1]).await.unwrap(), None);
    assert!(store.ended(sessions[2]).await.unwrap().is_some());
    assert_eq!(store.forget(&old, 10).await.unwrap(), 1);
    assert_eq!(store.forget(&old, 10).await.unwrap(), 0);
    assert_eq!(store.forget(&Forget::User(user("alice")), 0).await.unwrap(), 1);
    assert_eq!(store.forget(&Forget::User(user("alice")), 10).await.unwrap(), 0);
    assert_eq!(store.ended(sessions[3]).await.unwrap(), None);
    for other in [sessions[4], sessions[5]] {
        assert!(store.ended(other).await.unwrap().is_some());
    }
}

/// Two erasures side by side may choose the same records. One that has answered zero has left none.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_beside_another_ends_when_none_is_left() {
    let _alone = ALONE.read().await;
    let fresh = Fresh::new(Transactions::WhereThereAre);
    let store = Arc::new(fresh.store().await);
    let owner = user("alice");
    let at = now(store.as_ref()).await;
    for forget in [Forget::OlderThan(SECOND), Forget::User(owner.clone())] {
        for _ in 0..40 {
            insert(store.as_ref(), &session(store.as_ref(), &owner, at)).await;
        }
        end_at(&store, Selection::user(owner.clone()), at.minus(60 * SECOND)).await;
        let forgets = (0..4).map(|_| {
            let (store, forget, owner) = (Arc::clone(&store), forget.clone(), owner.clone());
            tokio::spawn(async move {
                while store.forget(&forget, 1).await.unwrap() > 0 {}
                ids(&store, HistoryQuery::user(owner)).await.len()
            })
        });
        for forgets in forgets.collect::<Vec<_>>() {
            assert_eq!(forgets.await.unwrap(), 0, "records are left after a zero");
        }
    }
}

/// A write-back that was acknowledged is not lost by an end beside it.
#[tokio::test(flavor = "multi_thread")]
async fn the_history_has_the_last_use() {
    let _alone = ALONE.read().await;
    for transactions in BOTH {
        let fresh = Fresh::new(transactions);
        let (here, there) = (Arc::new(fresh.store().await), fresh.store().await);
        let at = now(&there).await;
        for _ in 0..10 {
            let mine = session(&there, &user("alice"), at);
            insert(&there, &mine).await;
            let (store, id) = (here.clone(), mine.id);
            let touching = tokio::spawn(async move {
                for n in 1.. {
                    let last_accessed = at.plus(SECOND * n);
                    let deadline = Timestamp::MAX;
                    let ip_addresses = Vec::new();
                    let used = Touch { id, last_accessed, deadline, claimed: true, ip_addresses };
                    if !store.touch(&[used]).await.unwrap().is_empty() {
                        return at.plus(SECOND * (n - 1));
                    }
                }
                unreachable!("the session ends")
            });
            // It ends while it is in use.
            while !there.load(id).await.unwrap().unwrap().session.claimed {}
            let end = vec![Change::End(id, EndCause::SignedOut)];
            assert_eq!(commit(&there, &mine.owner, end).await, Outcome::Done);
            let used = touching.await.unwrap();
            assert_eq!(there.ended(id).await.unwrap().unwrap().session.last_accessed, used);
        }
    }
}

#[tokio::test]
async fn the_report_tells_of_the_history_and_of_missing_indexes() {
    let _alone = ALONE.read().await;
    let fresh = Fresh::new(Transactions::WhereThereAre);
    let store = fresh.store().await;
    let detail = async |name: &str| {
        let details = store.report().await.unwrap().details;
        details.into_iter().find(|(detail, _)| detail == name).map(|(_, value)| value)
    };
    assert_eq!(detail("indexes").await.as_deref(), Some("14 of 14"));
    assert_eq!(detail("history from").await, None);
    let mine = session(&store, &user("alice"), now(&store).await);
    insert(&store, &mine).await;
    assert_eq!(revoke(&store, mine.id).await, 1);
    let ended = store.ended(mine.id).await.unwrap().unwrap().ended;
    assert_eq!(detail("history from").await, Some(ended.to_string()));
    let history = fresh.collection(&fresh.database().await, "history");
    history.drop_index("ended_-1__id_1").await.unwrap();
    assert_eq!(detail("indexes").await.as_deref(), Some("13 of 14"));
    let problems = store.report().await.unwrap().problems;
    assert!(matches!(&problems[..], [one] if one.contains("history has no index")), "{problems:?}");
}
