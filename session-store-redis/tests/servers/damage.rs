//! Fields that cannot be read.

use std::time::Duration;

use session_conformance::sample::{insert, now, session, user};
use session_core::store::{Change, Commit, Entries, Outcome};
use session_core::{Actor, EndCause, EventKind, Store, StoreErrorKind};

use crate::namespace::{ALONE, Prefix};
use crate::single::ask;

/// Redis takes nothing back where a script fails: a commit looks at every field before it writes.
#[tokio::test]
async fn a_commit_that_finds_a_damaged_field_changes_nothing() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let (owner, at) = (user("alice"), now(&store).await);
    let [old, mine, new] = [(); 3].map(|()| session(&store, &owner, at));
    insert(&store, &old).await;
    insert(&store, &mine).await;
    let mut updated = mine.clone();
    updated.deadline = at.plus(Duration::from_secs(1));
    let changes = vec![
        Change::End(old.id, EndCause::Evicted),
        Change::Insert(Box::new(new.clone())),
        Change::Update { session: Box::new(updated), kind: EventKind::Rotated },
    ];
    let expected = store.user(&owner).await.unwrap().version;
    let (by, from) = (Actor::Application, None);
    let commit = Commit { owner, expected, changes, at, by, from };
    let cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;

    let users = format!("{}*:u:*", prefix.options.prefix);
    let users: Vec<String> = ask(redis::cmd("KEYS").arg(users)).await;
    let field = [mine.id.as_bytes().as_slice(), b"a"].concat();
    let intact: Vec<u8> = ask(redis::cmd("HGET").arg(&users[0]).arg(&field)).await;
    for damaged in [None, Some(""), Some("none at all"), Some("1 soon 0 ")] {
        ask::<()>(redis::cmd("HDEL").arg(&users[0]).arg(&field)).await;
        if let Some(damaged) = damaged {
            ask::<()>(redis::cmd("HSET").arg(&users[0]).arg(&field).arg(damaged)).await;
        }
        let error = store.commit(&commit).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{damaged:?}: {error}");
        assert_eq!(store.load(old.id).await.unwrap().unwrap().session, old);
        assert_eq!(store.ended(old.id).await.unwrap(), None);
        assert_eq!(store.load(new.id).await.unwrap(), None);
        let told = store.log_since(Some(&cursor), Entries::All, 10).await.unwrap();
        assert_eq!(told.events, []);
    }
    ask::<()>(redis::cmd("HSET").arg(&users[0]).arg(&field).arg(intact)).await;
    assert_eq!(store.audit().await.unwrap(), [""; 0]);
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done, "its version holds still");
    assert_eq!(store.audit().await.unwrap(), [""; 0]);
}
