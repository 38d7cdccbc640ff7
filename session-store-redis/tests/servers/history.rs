//! What is kept of ended sessions, and for how long.

use std::time::{Duration, Instant};

use session_conformance::sample::{
    PATIENCE, commit, end, end_all, insert, now, revoke, session, user, user_in,
};
use session_core::store::{
    Change, EndMany, Forget, HistoryQuery, Needs, Outcome, Selection, TenantFilter,
};
use session_core::{Actor, DeviceInfo, EndCause, SessionId, Store, UserKey};
use session_store_redis::RedisStore;

use crate::namespace::{ALONE, Prefix};
use crate::single::ask;

const HOUR: Duration = Duration::from_secs(3600);

fn configure(store: &RedisStore, history: Duration) {
    store.configure(&Needs { history, max_staleness: PATIENCE });
}

/// The keys of a server whose names have this in them.
async fn keys(prefix: &Prefix, part: &str) -> Vec<String> {
    ask(redis::cmd("KEYS").arg(format!("{}*{part}*", prefix.options.prefix))).await
}

/// Begins a session and ends it; answers its id.
async fn end_one(store: &RedisStore, owner: &UserKey) -> SessionId {
    let mine = session(store, owner, now(store).await);
    insert(store, &mine).await;
    assert_eq!(revoke(store, mine.id).await, 1);
    mine.id
}

/// Until the engine configures it, too: a server's memory holds less than a disk.
#[tokio::test]
async fn ended_sessions_are_kept_for_a_day_by_default() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    assert_eq!(store.history_by_default(), 24 * HOUR);
    end_one(&store, &user("alice")).await;
    let [record] = keys(&prefix, ":h:").await.try_into().unwrap();
    let seconds: u64 = ask(redis::cmd("TTL").arg(record)).await;
    let kept = Duration::from_secs(seconds);
    assert!((24 * HOUR - PATIENCE..=24 * HOUR).contains(&kept), "{kept:?}");
}

/// All pages of a query.
async fn walk(store: &RedisStore, mut query: HistoryQuery) -> Vec<SessionId> {
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

/// Everything that a query covers, in order, for any number of shards and any page size; and the
/// whole record.
#[tokio::test(flavor = "multi_thread")]
async fn a_walk_sees_every_ended_session_once_the_latest_end_first() {
    let _shared = ALONE.read().await;
    for is_cluster in [false, true] {
        let store = Prefix::new(is_cluster).store().await;
        let begun = now(&store).await;
        let from = DeviceInfo::truncated("Firefox on Linux");
        let mut all = Vec::new();
        for n in 0..60_u64 {
            let name = format!("user {}", n % 7);
            let owner = match n % 3 {
                0 => user(&name),
                1 => user_in("north", &name),
                _ => user_in("south", &name),
            };
            let mut mine = session(&store, &owner, begun);
            mine.client_id = n.is_multiple_of(2).then(|| "shop".parse().unwrap());
            mine.claimed = true;
            insert(&store, &mine).await;
            // Several at one time.
            let end = EndMany {
                selection: Selection::session(mine.id, TenantFilter::Any),
                after: None,
                cause: if n % 5 == 0 { EndCause::Blocked } else { EndCause::Evicted },
                at: begun.minus(HOUR * u32::try_from(n % 11).unwrap()),
                by: Actor::User(UserKey::new("root".parse().unwrap())),
                from: from.clone(),
            };
            assert_eq!(store.end_many(&end, 1).await.unwrap().ended.len(), 1);
            let ended = store.ended(mine.id).await.unwrap().unwrap();
            assert_eq!(ended.session, mine);
            assert_eq!((ended.ended, ended.cause), (end.at, end.cause));
            assert_eq!((&ended.by, &ended.from), (&end.by, &from));
            all.push(ended);
        }
        all.sort_by_key(|ended| (std::cmp::Reverse(ended.ended), ended.session.id));
        let any = HistoryQuery::within(TenantFilter::Any);
        let queries = [
            any.clone(),
            HistoryQuery::within(TenantFilter::Is(None)),
            HistoryQuery::within(TenantFilter::Is(Some("north".parse().unwrap()))),
            HistoryQuery::user(user_in("south", "user 1")),
            HistoryQuery::user(user("user 2")),
            HistoryQuery { user: Some("user 3".parse().unwrap()), ..any.clone() },
            HistoryQuery { cause: Some(EndCause::Blocked), ..any.clone() },
            HistoryQuery { client_id: Some("shop".parse().unwrap()), ..any.clone() },
            HistoryQuery { since: Some(begun.minus(HOUR * 4)), ..any },
        ];
        for query in queries {
            let covered = all.iter().filter(|ended| query.covers(ended));
            let expected: Vec<_> = covered.map(|ended| ended.session.id).collect();
            assert!(!expected.is_empty());
            for limit in [1, 7, 200] {
                let query = HistoryQuery { limit, ..query.clone() };
                assert_eq!(walk(&store, query.clone()).await, expected, "{query:?}");
            }
        }
        assert_eq!(store.audit().await.unwrap(), [""; 0]);
    }
}

/// A record of the history expires by itself, and its places are passed over until they are
/// forgotten.
#[tokio::test]
async fn what_has_expired_is_passed_over_and_its_places_can_be_forgotten() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let owner = user_in("north", "alice");
    configure(&store, Duration::from_millis(300));
    let short = end_one(&store, &owner).await;
    configure(&store, HOUR);
    let long = end_one(&store, &owner).await;
    let begun = Instant::now();
    while store.ended(short).await.unwrap().is_some() {
        assert!(begun.elapsed() < PATIENCE, "it expires by itself");
        tokio::task::yield_now().await;
    }
    let histories = [
        HistoryQuery::within(TenantFilter::Any),
        HistoryQuery::within(TenantFilter::Is(owner.tenant.clone())),
        HistoryQuery::user(owner.clone()),
    ];
    for query in &histories {
        assert_eq!(walk(&store, query.clone()).await, [long]);
    }
    for part in [":history", ":ht:", ":hu:", ":h:"] {
        let found = keys(&prefix, part).await;
        assert_eq!(found.len(), 1, "{found:?}");
        let left: i64 = ask(redis::cmd("PTTL").arg(&found[0])).await;
        let within = HOUR.saturating_sub(PATIENCE).as_millis()..=HOUR.as_millis();
        assert!(within.contains(&u128::try_from(left).unwrap()), "{part} lasts {left} ms");
    }
    let old = Forget::OlderThan(HOUR);
    assert_eq!(store.forget(&old, 10).await.unwrap(), 0, "both are young");
    let all = Forget::OlderThan(Duration::ZERO);
    assert_eq!(store.forget(&all, 1).await.unwrap(), 1, "a place without a record");
    assert_eq!(walk(&store, histories[0].clone()).await, [long]);
    assert_eq!(store.forget(&all, 10).await.unwrap(), 1);
    assert_eq!(store.forget(&all, 10).await.unwrap(), 0);
    assert_eq!(store.ended(long).await.unwrap(), None);
    assert_eq!(keys(&prefix, ":h").await, [""; 0]);
}

/// An id that the history knows never begins again.
#[tokio::test]
async fn an_ended_session_does_not_begin_again() {
    let _shared = ALONE.read().await;
    for is_cluster in [false, true] {
        let store = Prefix::new(is_cluster).store().await;
        for n in 0..4 {
            let owner = user(&format!("user {n}"));
            let mine = session(&store, &owner, now(&store).await);
            let begins = || vec![Change::Insert(Box::new(mine.clone()))];
            assert_eq!(commit(&store, &owner, begins()).await, Outcome::Done);
            let ends = vec![Change::End(mine.id, EndCause::SignedOut)];
            assert_eq!(commit(&store, &owner, ends).await, Outcome::Done);
            assert_eq!(commit(&store, &owner, begins()).await, Outcome::Conflict);
            assert_eq!(store.forget(&Forget::User(owner.clone()), 10).await.unwrap(), 1);
            assert_eq!(commit(&store, &owner, begins()).await, Outcome::Done);
        }
    }
}

/// No way to end a session writes anything where no history is wanted.
#[tokio::test]
async fn a_history_of_no_time_is_none() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    configure(&store, Duration::ZERO);
    let owner = user_in("north", "alice");
    end_one(&store, &owner).await;
    let mine = session(&store, &owner, now(&store).await);
    insert(&store, &mine).await;
    commit(&store, &owner, vec![Change::End(mine.id, EndCause::SignedOut)]).await;
    assert_eq!(store.ended(mine.id).await.unwrap(), None);
    assert_eq!(keys(&prefix, ":h").await, [""; 0]);
}

/// The oldest leave first, whichever shard they are in.
#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_are_forgotten_first() {
    let _shared = ALONE.read().await;
    let store = Prefix::new(true).store().await;
    let begun = now(&store).await;
    let mut newest_first = Vec::new();
    for n in 1..=40 {
        let owner = user(&format!("user {n}"));
        let mine = session(&store, &owner, begun);
        insert(&store, &mine).await;
        let selection = Selection::session(mine.id, TenantFilter::Any);
        let at = begun.minus(HOUR * n);
        let end = EndMany { at, ..end(&store, selection).await };
        assert_eq!(end_all(&store, end, 1).await.len(), 1);
        newest_first.push(mine.id);
    }
    let old = Forget::OlderThan(HOUR * 20);
    let query = HistoryQuery::within(TenantFilter::Any);
    for left in [33, 26, 19] {
        assert_eq!(store.forget(&old, 7).await.unwrap(), 7);
        assert_eq!(walk(&store, query.clone()).await, newest_first[..left]);
    }
    assert_eq!(store.forget(&old, 7).await.unwrap(), 0, "the rest is young");
    assert_eq!(store.audit().await.unwrap(), [""; 0]);
}

/// Nothing of a user is left, and everything of the others.
#[tokio::test]
async fn a_user_is_forgotten_whole() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let (alice, other) = (user_in("north", "alice"), user("alice"));
    for _ in 0..5 {
        end_one(&store, &alice).await;
    }
    let kept = end_one(&store, &other).await;
    let forget = Forget::User(alice);
    for forgotten in [2, 2, 1, 0] {
        assert_eq!(store.forget(&forget, 2).await.unwrap(), forgotten);
    }
    assert_eq!(walk(&store, HistoryQuery::within(TenantFilter::Any)).await, [kept]);
    // The record, the shard's history and the other user's.
    let left = keys(&prefix, ":h").await;
    assert_eq!(left.len(), 3, "{left:?}");
    assert_eq!(store.audit().await.unwrap(), [""; 0]);
}
