//! Calls that find nothing end soon.

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use session_conformance::sample::{commit, end, end_all, insert, now, session, user};
use session_core::Store;
use session_core::store::{
    Change, Commit, Entries, HistoryQuery, Outcome, PageQuery, Selection, TenantFilter,
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
    let mut ranges = Ranges::begin().await;
    assert_eq!(store.trim_log(hour, u32::MAX).await.unwrap(), 0, "all are young");
    assert_eq!(ranges.counts(&prefix).await, [2; 2], "of each shard");
    for _ in 0..4 {
        assert_eq!(store.trim_log(Duration::ZERO, u32::MAX).await.unwrap(), 1_000);
    }
    assert_eq!(store.trim_log(Duration::ZERO, u32::MAX).await.unwrap(), 12 * 13 * 32 - 4_002);
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
    let mut ranges = Ranges::begin().await;
    let (mut found, mut pages) = (0, 0);
    loop {
        let page = store.log_since(Some(&cursor), Entries::All, 400).await.unwrap();
        assert!(!page.gap && page.events.len() <= 400);
        // The first shard's page, and a share of the others': each begins with the last entry read and
        // ends with one that tells whether there are more.
        let asked: u64 = ranges.counts(&prefix).await.iter().sum();
        assert!(asked <= 402 + 400 + 4 * 3, "{asked}");
        found += page.events.len();
        pages += 1;
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    assert_eq!(found, 12 * 5 * Commit::MAX_CHANGES);
    assert!(pages <= 20, "{pages}");
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
    let mut ranges = Ranges::begin().await;
    insert(&store, &session(&store, &user("alice"), now(&store).await)).await;
    // Whether an entry is ahead of the clock: none is.
    assert_eq!(ranges.counts(&prefix).await, [1]);
    let all = 12 * 2 * Commit::MAX_CHANGES + 1;
    let (mark, told) = (1, store.report().await.unwrap().details);
    assert!(told.contains(&("log entries".into(), (all + mark).to_string())), "{told:?}");
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

/// How many entries of logs a server is asked for, by clients and by scripts.
struct Ranges(Pin<Box<dyn Stream<Item = String>>>);

impl Ranges {
    async fn begin() -> Self {
        let server = redis::Client::open(url()).unwrap();
        Self(Box::pin(server.get_async_monitor().await.unwrap().into_on_message()))
    }

    /// Of each range since the last time.
    async fn counts(&mut self, prefix: &Prefix) -> Vec<u64> {
        let end = format!("end-{:x}", getrandom::u64().unwrap());
        ask::<()>(redis::cmd("ECHO").arg(&end)).await;
        let mut counts = Vec::new();
        while let Some(line) = self.0.next().await.filter(|line| !line.contains(&end)) {
            if line.contains(&prefix.options.prefix) && line.contains(r#""XRANGE""#) {
                counts.push(line.rsplit('"').nth(1).unwrap().parse().unwrap());
            }
        }
        counts
    }
}
