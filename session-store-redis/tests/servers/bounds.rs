//! Calls that find nothing end soon.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use session_conformance::sample::{commit, end, end_all, now, session, user};
use session_core::Store;
use session_core::store::{
    Change, Commit, HistoryQuery, Outcome, PageQuery, Selection, TenantFilter,
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
    // Some users of each shard.
    let owners: Vec<_> = (0..12).map(|n| user(&format!("user {n}"))).collect();
    for owner in &owners {
        let at = now(&store).await;
        let sessions = [(); Commit::MAX_CHANGES].map(|()| session(&store, owner, at));
        let begin = sessions.iter().map(|session| Change::Insert(Box::new(session.clone())));
        assert_eq!(commit(&store, owner, begin.collect()).await, Outcome::Done);
        for _ in 0..12 {
            let again = sessions.iter().map(|session| Change::ClaimsChanged(session.id));
            assert_eq!(commit(&store, owner, again.collect()).await, Outcome::Done);
        }
    }
    let hour = Duration::from_secs(3600);
    let server = redis::Client::open(url()).unwrap();
    let mut lines = server.get_async_monitor().await.unwrap().into_on_message();
    assert_eq!(store.trim_log(hour, u32::MAX).await.unwrap(), 0, "all are young");
    let (mut shards, end) = (0, format!("end-{:x}", getrandom::u64().unwrap()));
    ask::<()>(redis::cmd("ECHO").arg(&end)).await;
    while let Some(line) = lines.next().await.filter(|line: &String| !line.contains(&end)) {
        if line.contains(&prefix.options.prefix) && line.contains(r#""XRANGE""#) {
            assert!(line.ends_with(r#""COUNT" "2""#), "{line}");
            shards += 1;
        }
    }
    assert_eq!(shards, 2);
    for _ in 0..4 {
        assert_eq!(store.trim_log(Duration::ZERO, u32::MAX).await.unwrap(), 1_000);
    }
    assert_eq!(store.trim_log(Duration::ZERO, u32::MAX).await.unwrap(), 12 * 13 * 32 - 4_002);
    assert_eq!(store.trim_log(Duration::ZERO, 10).await.unwrap(), 0, "the newest of each stay");
}
