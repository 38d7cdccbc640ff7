//! What goes from the log: a prefix of it, and never its newest entry.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::store::{Change, Commit, Entries, Outcome, PageQuery};
use session_core::{Store, Timestamp};

use crate::Namespace;
use crate::sample::{
    HOUR, PATIENCE, Patience, SECOND, SLACK, add_many, begins, change_at, commit, ids, let_pass,
    log_end, now, read_log, session, trim_old, user, version,
};

pub(crate) async fn a_young_entry_keeps_the_older_ones_behind_it(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let line = now(store.as_ref()).await;
    let start = log_end(store.as_ref()).await;
    let (young, old) = (line.minus(HOUR / 2), line.minus(HOUR * 2));
    write(store.as_ref(), &[young, old, old, old, young]).await;
    for limit in [1, 10, u32::MAX] {
        let trimmed = store.trim_log(HOUR, limit).await.unwrap();
        assert_eq!(trimmed, 0, "an entry that is not old enough stands before the old ones");
    }
    let told = read_log(store.as_ref(), &mut start.clone(), 10).await;
    assert_eq!(told.len(), 5, "only a prefix goes, so all stay");
}

pub(crate) async fn only_a_prefix_goes(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let line = now(store.as_ref()).await;
    let (young, old) = (line.minus(HOUR / 2), line.minus(HOUR * 2));
    let start = log_end(store.as_ref()).await;
    write(store.as_ref(), &[old, old, young, old, old, young]).await;
    trim_old(store.as_ref(), HOUR, 2).await;
    for _ in 0..3 {
        assert_eq!(store.trim_log(HOUR, 10).await.unwrap(), 0, "behind a young entry all stays");
    }
    let page = store.log_since(Some(&start), Entries::All, 10).await.unwrap();
    assert!(page.gap, "a reader behind what was trimmed has a gap");
    trim_old(store.as_ref(), HOUR / 4, 3).await;
    let trimmed = store.trim_log(HOUR / 4, 10).await.unwrap();
    assert_eq!(trimmed, 0, "of six entries five went, and the newest stays");
}

pub(crate) async fn the_newest_entry_stays(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let line = now(store.as_ref()).await;
    assert_eq!(
        store.trim_log(Duration::ZERO, 10).await.unwrap(),
        0,
        "an empty log has nothing to go"
    );
    let mut left = 0;
    for _ in 0..3 {
        write(store.as_ref(), &[line.minus(SECOND)]).await;
        left += 1 - store.trim_log(Duration::ZERO, 1).await.unwrap();
        assert!(left > 0, "the newest entry stays");
        let mut cursor = log_end(store.as_ref()).await;
        assert_eq!(read_log(store.as_ref(), &mut cursor, 10).await, [], "the end is known");
        write(store.as_ref(), &[line.minus(SECOND)]).await;
        left += 1;
        let told = read_log(store.as_ref(), &mut cursor, 10).await;
        assert_eq!(told.len(), 1, "a reader at the end has missed nothing");
    }
}

pub(crate) async fn an_entry_goes_by_its_age_on_the_stores_clock(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let begun = now(store.as_ref()).await;
    let age = HOUR - PATIENCE;
    write(store.as_ref(), &[begun.minus(age); 3]).await;
    write(store.as_ref(), &[begun.plus(HOUR); 2]).await;
    let trimmed = store.trim_log(HOUR, 10).await.unwrap();
    assert_eq!(trimmed, 0, "entries that are younger than an hour");
    trim_old(store.as_ref(), age, 3).await;
    let trimmed = store.trim_log(Duration::ZERO, 10).await.unwrap();
    assert_eq!(trimmed, 0, "entries of a time to come");
}

pub(crate) async fn a_limit_of_none_counts_as_one(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let line = now(store.as_ref()).await;
    write(store.as_ref(), &[line.minus(SECOND); 4]).await;
    let (mut patience, mut trimmed) = (Patience::default(), 0);
    while trimmed < 3 {
        assert!(patience.lasts(), "a limit of 0 counts as 1: {trimmed} of 3 went");
        let at_once = store.trim_log(Duration::ZERO, 0).await.unwrap();
        assert!(at_once <= 1, "a limit of 0 counts as 1");
        patience.renew_if(at_once > 0);
        trimmed += at_once;
        tokio::task::yield_now().await;
    }
    assert_eq!(store.trim_log(Duration::ZERO, 0).await.unwrap(), 0, "the newest entry stays");
}

pub(crate) async fn a_limit_beyond_the_largest_counts_as_the_largest(
    namespace: Arc<dyn Namespace>,
) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let sessions = add_many(store.as_ref(), &owner, Commit::MAX_CHANGES).await;
    let again = || sessions.iter().map(|session| Change::ClaimsChanged(session.id)).collect();
    let most = PageQuery::MAX_EXAMINED as usize;
    for _ in 0..most / Commit::MAX_CHANGES + 2 {
        assert_eq!(commit(store.as_ref(), &owner, again()).await, Outcome::Done);
    }
    let_pass(store.as_ref(), SLACK).await;
    let (mut patience, mut trimmed) = (Patience::default(), 0);
    while trimmed <= most {
        assert!(patience.lasts(), "{trimmed} old entries went, of more than {most}");
        let at_once = store.trim_log(Duration::ZERO, u32::MAX).await.unwrap() as usize;
        assert!(at_once <= most, "{at_once} entries went in one call");
        patience.renew_if(at_once > 0);
        trimmed += at_once;
        tokio::task::yield_now().await;
    }
    assert_eq!(ids(store.as_ref(), &owner).await.len(), sessions.len(), "the sessions stay");
}

/// Where that depends on which transactions of others had not ended when it read (PostgreSQL), it
/// is tried again.
pub(crate) async fn a_reader_in_what_is_left_misses_nothing(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let begun = Instant::now();
    for round in 0_u32.. {
        // Each round is younger than the last one, and older than the entries of the next one.
        let age = HOUR * (100 - round.min(99));
        let line = now(store.as_ref()).await.minus(age);
        let (young, old) = (line.plus(PATIENCE * 2), line.minus(SECOND));
        write(store.as_ref(), &[old, old, young]).await;
        let mut cursor = log_end(store.as_ref()).await;
        write(store.as_ref(), &[old, young]).await;
        // With the last entry of the round before.
        trim_old(store.as_ref(), age, 2 + round.min(1)).await;
        let page = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap();
        if !page.gap {
            let told = read_log(store.as_ref(), &mut cursor, 10).await;
            let told: Vec<_> = told.iter().map(|event| event.at).collect();
            assert_eq!(told, [old, young], "what stands behind the reader's last entry");
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "a reader of what is left has missed nothing");
        trim_old(store.as_ref(), age - PATIENCE * 3, 2).await;
    }
}

/// Appends an entry for each of these times.
async fn write(store: &dyn Store, times: &[Timestamp]) {
    let owner = user("alice");
    for at in times {
        let new = session(store, &owner, *at);
        let expected = version(store, &owner).await;
        let commit = change_at(&owner, expected, vec![begins(&new)], *at);
        assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done);
    }
}
