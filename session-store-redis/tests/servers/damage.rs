//! Fields that cannot be read.

use std::time::Duration;

use session_conformance::sample::{end, end_all, insert, now, session, sweep_all, user, user_in};
use session_core::store::{
    Change, Commit, Entries, Outcome, Selection, Sweep, TenantFilter, Touch,
};
use session_core::{Actor, DeviceKind, EndCause, EventKind, Session, Store, StoreErrorKind};

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
