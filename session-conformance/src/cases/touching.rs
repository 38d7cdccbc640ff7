//! Write-backs of the use of sessions.

use std::sync::Arc;
use std::time::Duration;

use session_core::admission::Standing;
use session_core::store::{Change, Outcome, Touch};
use session_core::{Session, SessionId, StoreErrorKind, Timestamp};

use crate::Namespace;
use crate::sample::{
    FAR_AHEAD, HOUR, LONG_AGO, SECOND, add, address, change_at, ids, insert, log_end, now, random,
    read_log, revoke, session, used, user, user_in,
};

pub(crate) async fn a_touch_moves_forward_merges_and_never_creates(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let [one, two] = [add(store.as_ref(), &owner).await, add(store.as_ref(), &owner).await];
    let touch = |id, last_accessed, ip_addresses| Touch { ip_addresses, ..used(id, last_accessed) };
    let unknown = SessionId::from_bytes([7; 16]);
    let later = one.last_accessed.plus(Duration::from_secs(5));
    let version = store.user(&owner).await.unwrap().version;
    let batch = [
        touch(one.id, later, vec![address(2), address(1)]),
        touch(unknown, later, vec![address(3)]),
        touch(two.id, two.last_accessed.minus(Duration::from_secs(5)), vec![]),
    ];
    assert_eq!(store.touch(&batch).await.unwrap(), [unknown]);
    assert_eq!(store.load(unknown).await.unwrap(), None);
    let loaded = store.load(one.id).await.unwrap().unwrap().session;
    assert_eq!(loaded.last_accessed, later);
    assert_eq!(loaded.ip_addresses, [address(2), address(1)]);
    let loaded = store.load(two.id).await.unwrap().unwrap().session;
    assert_eq!(loaded, two, "time moved backwards");
    assert_eq!(store.user(&owner).await.unwrap().version, version);
    let many = touch(one.id, later, (0..40).map(address).collect());
    assert_eq!(store.touch(&[many]).await.unwrap(), []);
    let loaded = store.load(one.id).await.unwrap().unwrap().session;
    assert_eq!(loaded.ip_addresses, (24..40).map(address).collect::<Vec<_>>());
    assert_eq!(store.touch(&[]).await.unwrap(), []);
}

pub(crate) async fn a_session_that_stands_twice_in_a_batch_gets_both(
    namespace: Arc<dyn Namespace>,
) {
    let store = namespace.connect().await;
    let session = add(store.as_ref(), &user("alice")).await;
    let at = |seconds| session.last_accessed.plus(SECOND * seconds);
    let touch = |last_accessed, addresses: &[u8]| Touch {
        ip_addresses: addresses.iter().copied().map(address).collect(),
        ..used(session.id, last_accessed)
    };
    for batch in [
        [touch(at(9), &[2, 3]), touch(at(5), &[4]), touch(at(7), &[2])],
        [touch(at(10), &[5]), touch(at(12), &[6]), touch(at(11), &[5])],
    ] {
        assert_eq!(store.touch(&batch).await.unwrap(), []);
    }
    let read = store.load(session.id).await.unwrap().unwrap().session;
    assert_eq!(read.last_accessed, at(12), "the latest time of all");
    let expected: Vec<_> = [1, 3, 4, 2, 6, 5].into_iter().map(address).collect();
    assert_eq!(read.ip_addresses, expected, "the addresses of all, in their order");
}

pub(crate) async fn the_later_deadline_holds_and_a_claim_stays(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let begun = now(store.as_ref()).await;
    let mut session = session(store.as_ref(), &user("alice"), begun);
    session.deadline = begun.plus(HOUR);
    insert(store.as_ref(), &session).await;
    let touch = |deadline, claimed| Touch { deadline, claimed, ..used(session.id, begun) };
    let later = begun.plus(HOUR * 2);
    for (batch, deadline, claimed) in [
        (vec![touch(begun, false)], session.deadline, false),
        (vec![touch(later, false), touch(begun, false)], later, false),
        (vec![touch(begun, true)], later, true),
        (vec![touch(LONG_AGO, false)], later, true),
        (vec![touch(FAR_AHEAD, true), touch(later, false)], FAR_AHEAD, true),
        (vec![touch(Timestamp::MAX, false)], Timestamp::MAX, true),
    ] {
        assert_eq!(store.touch(&batch).await.unwrap(), []);
        let expected = Session { deadline, claimed, ..session.clone() };
        let read = other.load(session.id).await.unwrap().unwrap().session;
        assert_eq!(read, expected, "the later deadline holds, and what is claimed stays claimed");
        let standing = other.user(&session.owner).await.unwrap().sessions;
        assert_eq!(standing, [Standing::from(&expected)], "`user` reads the same");
    }
}

pub(crate) async fn a_batch_beyond_the_most_is_refused(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let session = add(store.as_ref(), &user("alice")).await;
    let later = session.last_accessed.plus(SECOND);
    let touch = |id| used(id, later);
    let unknown = || store.session_id(&session.owner, later, random());
    let mut gone: Vec<_> = (1..Touch::MAX_BATCH).map(|_| unknown()).collect();
    gone.sort();
    let mut batch: Vec<_> = gone.iter().copied().map(touch).collect();
    batch.extend([touch(session.id), touch(unknown())]);
    let kind = store.touch(&batch).await.map_err(|error| error.kind());
    assert_eq!(kind, Err(StoreErrorKind::Refused), "a batch beyond `Touch::MAX_BATCH` is refused");
    let read = store.load(session.id).await.unwrap().unwrap().session;
    assert_eq!(read, session, "nothing of a refused batch is written");
    batch.pop();
    let mut answered = store.touch(&batch).await.unwrap();
    answered.sort();
    assert_eq!(answered, gone, "a batch of `Touch::MAX_BATCH` is taken");
    let read = store.load(session.id).await.unwrap().unwrap().session;
    assert_eq!(read.last_accessed, later, "a batch of `Touch::MAX_BATCH` is written");
}

pub(crate) async fn a_touch_raises_no_version_and_is_not_told(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user_in("north", "alice");
    let session = add(store.as_ref(), &owner).await;
    let mut cursor = log_end(store.as_ref()).await;
    let before = store.user(&owner).await.unwrap();
    let last_accessed = session.last_accessed.plus(SECOND);
    let touch = Touch { ip_addresses: vec![address(2)], ..used(session.id, last_accessed) };
    assert_eq!(store.touch(&[touch]).await.unwrap(), []);
    let after = store.user(&owner).await.unwrap();
    assert_eq!(after.version, before.version, "a touch raises no version");
    assert_eq!(after.sessions[0].last_accessed, last_accessed, "`user` reads the later time");
    assert_eq!(read_log(store.as_ref(), &mut cursor, 10).await, [], "a touch is not told");
    let change = change_at(
        &owner,
        before.version,
        vec![Change::ClaimsChanged(session.id)],
        now(store.as_ref()).await,
    );
    let outcome = store.commit(&change).await.unwrap();
    assert_eq!(outcome, Outcome::Done, "a commit made before the touch goes through");
}

pub(crate) async fn what_is_gone_is_answered_once(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let [stays, gone] = [add(store.as_ref(), &owner).await, add(store.as_ref(), &owner).await];
    revoke(store.as_ref(), gone.id).await;
    let at = now(store.as_ref()).await;
    let never = store.session_id(&owner, at, random());
    let touch = |id| Touch { ip_addresses: vec![address(3)], ..used(id, at) };
    let batch = [gone.id, stays.id, never, gone.id, stays.id, never].map(touch);
    let mut answered = store.touch(&batch).await.unwrap();
    answered.sort();
    let mut expected = [gone.id, never];
    expected.sort();
    assert_eq!(answered, expected, "each id that is gone, once");
    for id in expected {
        assert_eq!(store.load(id).await.unwrap(), None, "a touch never creates a session");
    }
    assert_eq!(ids(store.as_ref(), &owner).await, [stays.id]);
}
