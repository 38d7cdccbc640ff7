//! Fields that cannot be read.

use std::time::Duration;

use session_conformance::sample::{end, end_all, insert, now, session, sweep_all, user, user_in};
use session_core::store::{
    Change, Commit, EndMany, Entries, Forget, HistoryQuery, Outcome, PageQuery, Selection, Sweep,
    TenantFilter, Touch,
};
use session_core::{
    Actor, DeviceKind, EndCause, EventKind, Session, Store, StoreErrorKind, Timestamp,
};

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

/// One script writes many accesses: it passes over what it cannot read, and writes the others.
#[tokio::test]
async fn a_touch_passes_over_damaged_fields() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let (owner, at) = (user("alice"), now(&store).await);
    let sessions = [(); 3].map(|()| session(&store, &owner, at));
    for session in &sessions {
        insert(&store, session).await;
    }
    let users = format!("{}*:u:*", prefix.options.prefix);
    let users: Vec<String> = ask(redis::cmd("KEYS").arg(users)).await;
    let id = sessions[1].id.as_bytes();
    let damages = [
        (id.to_vec(), "12345678"),
        (id.to_vec(), "12345678\u{1}"),
        ([id, &b"a"[..]].concat(), "soon 1 0 "),
        ([id, &b"a"[..]].concat(), "1 soon 0 "),
    ];
    for (n, (field, damaged)) in (1..).zip(damages) {
        let intact: Vec<u8> = ask(redis::cmd("HGET").arg(&users[0]).arg(&field)).await;
        ask::<()>(redis::cmd("HSET").arg(&users[0]).arg(&field).arg(damaged)).await;
        let later = at.plus(Duration::from_secs(n));
        let touch = |session: &Session| Touch {
            id: session.id,
            last_accessed: later,
            deadline: later,
            claimed: true,
            ip_addresses: vec![[192, 0, 2, 77].into()],
        };
        let batch: Vec<_> = sessions.iter().map(touch).collect();
        assert_eq!(store.touch(&batch).await.unwrap(), [], "{damaged:?} is not gone");
        for session in [&sessions[0], &sessions[2]] {
            let read = store.load(session.id).await.unwrap().unwrap().session;
            assert_eq!(read.last_accessed, later, "{damaged:?}");
        }
        let left: String = ask(redis::cmd("HGET").arg(&users[0]).arg(&field)).await;
        assert_eq!(left, damaged, "what is damaged stays as it is");
        ask::<()>(redis::cmd("HSET").arg(&users[0]).arg(&field).arg(intact)).await;
    }
}

/// The cleanup finds sessions in an index whose members name the owner: it goes on behind those that
/// it cannot read, however few it may end in a call.
#[tokio::test]
async fn a_sweep_passes_over_members_that_cannot_be_read() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let (alice, begun) = (user_in("north", "alice"), now(&store).await);
    let mut sessions = Vec::new();
    for age in [5, 3, 1] {
        let deadline = begun.minus(Duration::from_secs(age));
        let mine = Session { deadline, ..session(&store, &alice, deadline) };
        insert(&store, &mine).await;
        sessions.push(mine.id);
    }
    let due: Vec<String> =
        ask(redis::cmd("KEYS").arg(format!("{}*:due", prefix.options.prefix))).await;
    for age in [6, 4, 2] {
        let score = begun.minus(Duration::from_secs(age)).as_micros();
        let member = [&[u8::try_from(age).unwrap(); 24][..], b"\x05nor"].concat();
        ask::<()>(redis::cmd("ZADD").arg(&due[0]).arg(score).arg(member)).await;
    }
    for damaged in ["", "short"] {
        ask::<()>(redis::cmd("ZADD").arg(&due[0]).arg(1).arg(damaged)).await;
    }
    for session in sessions {
        let sweep = Sweep { overdue: Duration::ZERO, after: None, at: begun };
        let swept = store.sweep(&sweep, 1).await.unwrap().ended;
        assert_eq!(swept.iter().map(|ended| ended.id).collect::<Vec<_>>(), [session]);
    }
    assert_eq!(sweep_all(&store, Duration::ZERO, 2).await, []);
    assert_eq!(store.user(&alice).await.unwrap().sessions, []);
}

/// An ending cannot read what it goes by of one session: it goes on to the others.
#[tokio::test]
async fn an_ending_passes_over_what_it_cannot_judge() {
    let _shared = ALONE.read().await;
    let alice = user_in("north", "alice");
    let within = Selection::within(TenantFilter::Is(alice.tenant.clone()));
    let mut named = Selection::within(TenantFilter::Any);
    named.user = Some(alice.user.clone());
    let on_the_web = within.clone().on(DeviceKind::Web);
    let (no_owner, no_kind) = ("12345678\u{1}", "12345678\u{5}north\u{5}alice{");
    for (damaged, selection) in [
        (no_owner, &within),
        (no_owner, &named),
        (no_owner, &Selection::user(alice.clone())),
        (no_kind, &on_the_web),
    ] {
        for by_id in [false, true] {
            let prefix = Prefix::new(false);
            let store = prefix.store().await;
            let at = now(&store).await;
            let mut sessions = [(); 3].map(|()| session(&store, &alice, at));
            sessions.sort_by_key(|session| session.id);
            for session in &sessions {
                insert(&store, session).await;
            }
            let [first, second, third] = sessions.map(|session| session.id);
            let users = format!("{}*:u:*", prefix.options.prefix);
            let users: Vec<String> = ask(redis::cmd("KEYS").arg(users)).await;
            let mut damage = redis::cmd("HSET");
            ask::<()>(damage.arg(&users[0]).arg(second.as_bytes()).arg(damaged)).await;
            let selection = match by_id {
                true => selection.clone().among([first, second, third]),
                false => selection.clone(),
            };
            let ended = end_all(&store, end(&store, selection.clone()).await, 1).await;
            let ended: Vec<_> = ended.iter().map(|ended| ended.id).collect();
            assert_eq!(ended, [first, third], "{selection:?} beside {damaged:?}");
        }
    }
}

/// A member of an index that names no session ends neither a walk over pages nor an ending.
#[tokio::test]
async fn a_walk_passes_over_members_that_are_no_place() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let (alice, at) = (user_in("north", "alice"), now(&store).await);
    let mut begun = Vec::new();
    for _ in 0..3 {
        let mine = session(&store, &alice, at);
        insert(&store, &mine).await;
        begun.push(mine.id);
    }
    begun.sort();
    // More than one command reads, so that a whole answer is damaged.
    let many = (0..300).map(|n| format!("{n:020}"));
    let damaged: Vec<_> = many.chain(["", "a short one", "~"].map(str::to_owned)).collect();
    for index in ["all", "t:north"] {
        let mut add = redis::cmd("ZADD");
        add.arg(key(&prefix, index).await);
        for member in &damaged {
            add.arg(0).arg(member);
        }
        ask::<()>(&mut add).await;
    }
    for tenant in [TenantFilter::Any, TenantFilter::Is(alice.tenant.clone())] {
        let (mut query, mut listed) = (PageQuery::live(tenant, at), Vec::new());
        query.limit = 1;
        loop {
            let page = store.page(&query).await.unwrap();
            listed.extend(page.sessions.iter().map(|session| session.id));
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        assert_eq!(listed, begun);
    }
    let north = Selection::within(TenantFilter::Is(alice.tenant.clone()));
    let ended = end_all(&store, end(&store, north).await, 1).await;
    assert_eq!(ended.iter().map(|ended| ended.id).collect::<Vec<_>>(), begun);
}

/// The members that stand before all others, the oldest end first, are the damaged ones.
#[tokio::test]
async fn what_is_damaged_in_the_history_does_not_stop_its_cleanup() {
    let _shared = ALONE.read().await;
    let prefix = Prefix::new(false);
    let store = prefix.store().await;
    let (alice, at) = (user_in("north", "alice"), now(&store).await);
    let mut kept = Vec::new();
    for hours in [4, 3, 2, 0] {
        insert(&store, &session(&store, &alice, at)).await;
        let ending = end(&store, Selection::user(alice.clone())).await;
        let ending = EndMany { at: at.minus(HOUR * hours), ..ending };
        kept.push(end_all(&store, ending, 1).await[0].id);
    }
    let young = kept.pop().unwrap();
    let history = key(&prefix, "history").await;
    let no_owner = [[0xfe; 8].as_slice(), kept[0].as_bytes(), b"\x05no"].concat();
    let damaged = [b"\xff".to_vec(), b"\xff\xff short".to_vec(), vec![0xff; 23], no_owner];
    for member in &damaged {
        ask::<()>(redis::cmd("ZADD").arg(&history).arg(0).arg(member)).await;
    }
    let of_user = key(&prefix, "hu:*").await;
    ask::<()>(redis::cmd("ZADD").arg(&of_user).arg(0).arg("a short one")).await;
    let query = HistoryQuery::user(alice.clone());
    assert_eq!(store.history(&query).await.unwrap().sessions.len(), 4);

    let old = Forget::OlderThan(HOUR);
    let mut gone = 0;
    loop {
        match store.forget(&old, 1).await.unwrap() {
            0 => break,
            some => gone += some,
        }
    }
    assert_eq!(gone, 7, "three sessions and four members that are damaged");
    let listed = store.history(&query).await.unwrap().sessions;
    assert_eq!(listed.iter().map(|ended| ended.session.id).collect::<Vec<_>>(), [young]);
    let left: Vec<Vec<u8>> = ask(redis::cmd("ZRANGE").arg(&history).arg(0).arg(-1)).await;
    assert_eq!(left.len(), 1, "what is damaged is gone: {left:?}");

    let all = Forget::User(alice);
    while store.forget(&all, 1).await.unwrap() > 0 {}
    let left: u32 = ask(redis::cmd("EXISTS").arg(&of_user).arg(&history)).await;
    assert_eq!(left, 0, "nothing is left of the user");
}

/// A member of the index by deadline that names a session of another shard stays, and the walk goes on.
#[tokio::test]
async fn a_cleanup_passes_over_a_member_in_the_wrong_shard() {
    let _shared = ALONE.read().await;
    let mut prefix = Prefix::new(false);
    prefix.options = prefix.options.with_shards(2);
    let store = prefix.store().await;
    for n in 0..30 {
        let mut mine = session(&store, &user(&format!("user {n}")), now(&store).await);
        mine.deadline = Timestamp::EPOCH;
        insert(&store, &mine).await;
    }
    let due = format!("{}*:due", prefix.options.prefix);
    let due: Vec<String> = ask(redis::cmd("KEYS").arg(due)).await;
    assert_eq!(due.len(), 2, "both shards have sessions");
    let members = async |key: &str| -> Vec<Vec<u8>> {
        ask(redis::cmd("ZRANGE").arg(key).arg(0).arg(-1)).await
    };
    let (mut first, mut second) = (members(&due[0]).await, members(&due[1]).await);
    ask::<()>(redis::cmd("ZADD").arg(&due[0]).arg(-1).arg(second.pop().unwrap())).await;
    ask::<()>(redis::cmd("ZADD").arg(&due[1]).arg(-1).arg(first.pop().unwrap())).await;
    let swept = sweep_all(&store, Duration::ZERO, 1).await;
    assert_eq!(swept.len(), 30);
}

/// The one key whose name ends so.
async fn key(prefix: &Prefix, end: &str) -> String {
    let pattern = format!("{}*:{end}", prefix.options.prefix);
    let mut keys: Vec<String> = ask(redis::cmd("KEYS").arg(&pattern)).await;
    assert_eq!(keys.len(), 1, "{pattern}: {keys:?}");
    keys.remove(0)
}

const HOUR: Duration = Duration::from_secs(3600);
