//! Calls that find nothing end soon.

use std::time::{Duration, Instant};

use session_conformance::sample::{commit, end, end_all, insert, now, session, user};
use session_core::Store;
use session_core::store::{
    Change, Commit, Entries, HistoryQuery, Outcome, PageQuery, Selection, TenantFilter, Version,
};

use crate::monitor::Monitor;
use crate::namespace::{ALONE, Prefix, url};
use crate::single::ask;

/// More sessions than one call looks at: it answers where to go on, and reads whole chunks.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_finds_nothing_looks_at_a_bounded_number_of_sessions() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    for n in 0..2_368 / Commit::MAX_CHANGES {
        let owner = user(&format!("user {n}"));
        let at = now(&store).await;
        let begin = |_| Change::Insert(Box::new(session(&store, &owner, at)));
        let all = (0..Commit::MAX_CHANGES).map(begin).collect();
        assert_eq!(commit(&store, &owner, all).await, Outcome::Done);
    }
    let mut monitor = Monitor::of([url()]).await;
    let mut asked = async || monitor.asked(&prefix).await;
    asked().await;
    let none = "none".parse().unwrap();
    let mut query = PageQuery::live(TenantFilter::Any, now(&store).await);
    query.client_id = Some(none);
    let begun = Instant::now();
    let page = store.page(&query).await.unwrap();
    println!("a page that finds nothing: {:?}", begun.elapsed());
    assert!(page.sessions.is_empty() && page.next.is_some());
    let page_asked = asked().await;
    assert!(page_asked["zrange"] <= 10, "{page_asked:?}");
    assert!(page_asked["hmget"] <= PageQuery::MAX_EXAMINED, "{page_asked:?}");
    query.after = page.next;
    assert_eq!(store.page(&query).await.unwrap().next, None, "the rest is one page");
    asked().await;

    let client = query.client_id.clone().unwrap();
    let selection = Selection::within(TenantFilter::Any).of_client(client);
    let mut ending = end(&store, selection).await;
    let begun = Instant::now();
    let batch = store.end_many(&ending, 500).await.unwrap();
    println!("a selection that finds nothing: {:?}", begun.elapsed());
    assert!(batch.ended.is_empty() && batch.next.is_some());
    let end_asked = asked().await;
    assert!(end_asked["hget"] <= PageQuery::MAX_EXAMINED, "{end_asked:?}");
    ending.after = batch.next;
    assert_eq!(store.end_many(&ending, 500).await.unwrap().next, None, "the rest is one call");

    let all = end(&store, Selection::within(TenantFilter::Any)).await;
    assert_eq!(end_all(&store, all, 500).await.len(), 2_368);
    asked().await;
    let mut history = HistoryQuery::within(TenantFilter::Any);
    history.client_id = query.client_id;
    let begun = Instant::now();
    let page = store.history(&history).await.unwrap();
    println!("a page of the history that finds nothing: {:?}", begun.elapsed());
    assert!(page.sessions.is_empty() && page.next.is_some());
    let asked = asked().await;
    assert!(asked["zrange"] <= 10, "{asked:?}");
    assert!(asked["get"] <= PageQuery::MAX_EXAMINED, "{asked:?}");
    history.after = page.next;
    assert_eq!(store.history(&history).await.unwrap().next, None, "the rest is one page");
}

/// Of all shards together, and of one that has nothing old no more than its first entries are read.
#[tokio::test]
async fn a_trim_deletes_and_reads_a_bounded_number_of_entries() {
    let _shared = ALONE.read().await;
    let mut prefix = Prefix::new(false);
    prefix.options = prefix.options.with_shards(2);
    let store = prefix.store().await;
    tell(&store, 12).await;
    let hour = Duration::from_secs(3600);
    let mut monitor = Monitor::of([url()]).await;
    assert_eq!(store.trim_log(hour, u32::MAX).await.unwrap(), 0, "all are young");
    assert_eq!(
        monitor.entries(&prefix).await,
        [2, 1, 2, 1],
        "of each shard the first two and the last"
    );
    for _ in 0..4 {
        assert_eq!(store.trim_log(Duration::ZERO, u32::MAX).await.unwrap(), 1_000);
    }
    // The newest of each shard stays, and all users may be in one.
    let rest = store.trim_log(Duration::ZERO, u32::MAX).await.unwrap();
    assert!([2, 1].map(|stay| 12 * 13 * 32 - 4_000 - stay).contains(&rest), "{rest}");
    assert_eq!(store.trim_log(Duration::ZERO, 10).await.unwrap(), 0, "the newest of each stay");
}

/// A cluster's log is one stream for each shard. A reader that is behind on all of them would read as many
/// pages as there are shards for each that it makes.
#[tokio::test]
async fn a_page_of_the_log_reads_a_share_of_it_from_each_shard() {
    let _shared = ALONE.read().await;
    let mut prefix = Prefix::new(false);
    prefix.options = prefix.options.with_shards(5);
    let store = prefix.store().await;
    let mut cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
    tell(&store, 4).await;
    let mut monitor = Monitor::of([url()]).await;
    let (mut found, mut shares) = (0, Vec::<u64>::new());
    loop {
        let page = store.log_since(Some(&cursor), Entries::All, 100).await.unwrap();
        assert!(!page.gap && page.events.len() <= 100);
        let asked = monitor.entries(&prefix).await;
        assert!(asked.len() <= 6, "{asked:?}");
        // Of the first shard a few with the clock, and its share where it has more.
        assert_eq!(asked[0], 10);
        let of_each = &asked[1..];
        assert!(of_each.iter().all(|count| *count == of_each[0]), "{asked:?}");
        shares.extend(of_each.first());
        found += page.events.len();
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    // Each read begins with the last entry that was read, and ends with one that tells whether there are
    // more. The first page does not know yet that several shards have more.
    assert_eq!(shares[0], 102);
    assert!(shares.iter().any(|share| *share <= 100 / 2 + 2), "{shares:?}");
    assert_eq!(found, 12 * 5 * Commit::MAX_CHANGES);
}

/// A log grows far beyond its cap while its entries are young. Each change sees whether there is something
/// to cut, and would else read a part of the log for that.
#[tokio::test]
async fn a_change_beside_a_long_log_reads_no_entry() {
    let _shared = ALONE.read().await;
    let mut prefix = Prefix::new(false);
    prefix.options.log_cap = 100;
    let store = prefix.store().await;
    tell(&store, 1).await;
    let mut monitor = Monitor::of([url()]).await;
    insert(&store, &session(&store, &user("alice"), now(&store).await)).await;
    // At most one that the clock is not past.
    let asked = monitor.entries(&prefix).await;
    assert!(!asked.is_empty() && asked.iter().all(|count| *count == 1), "{asked:?}");
    let all = 12 * 2 * Commit::MAX_CHANGES + 1;
    let (mark, told) = (1, store.report().await.unwrap().details);
    assert!(told.contains(&("log entries".into(), (all + mark).to_string())), "{told:?}");
}

/// The number of an entry is the version of its user, and of any two changes the later has the larger.
#[tokio::test]
async fn numbers_grow_though_the_clock_has_been_set_back() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let cursor = store.log_since(None, Entries::All, 1).await.unwrap().next;
    let owner = user("alice");
    insert(&store, &session(&store, &owner, now(&store).await)).await;
    // What was written while the clock was an hour ahead.
    let logs: Vec<String> =
        ask(redis::cmd("KEYS").arg(format!("{}*:log", prefix.options.prefix))).await;
    let [log] = &logs[..] else { panic!("{logs:?}") };
    let told: Vec<(String, Vec<Vec<u8>>)> =
        ask(redis::cmd("XREVRANGE").arg(log).arg("+").arg("-").arg("COUNT").arg(1)).await;
    let (number, mark) = told[0].0.split_once('-').unwrap();
    let ahead = number.parse::<i64>().unwrap() + 3_600_000_000;
    ask::<String>(redis::cmd("XADD").arg(log).arg(format!("{ahead}-{mark}")).arg(&told[0].1)).await;
    insert(&store, &session(&store, &owner, now(&store).await)).await;
    assert_eq!(store.user(&owner).await.unwrap().version, Version(ahead + 1));
    let page = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap();
    assert_eq!(page.events.len(), 3);
}

/// Signs in twelve users, some on each shard, and changes the claims of their sessions.
async fn tell(store: &impl Store, changes: usize) {
    for n in 0..12 {
        let (owner, at) = (user(&format!("user {n}")), now(store).await);
        let sessions = [(); Commit::MAX_CHANGES].map(|()| session(store, &owner, at));
        let begin = sessions.iter().map(|session| Change::Insert(Box::new(session.clone())));
        assert_eq!(commit(store, &owner, begin.collect()).await, Outcome::Done);
        for _ in 0..changes {
            let again = sessions.iter().map(|session| Change::ClaimsChanged(session.id));
            assert_eq!(commit(store, &owner, again.collect()).await, Outcome::Done);
        }
    }
}
