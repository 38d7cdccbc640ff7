//! A record that is replaced: by a rotation, by new data, by a new name.

use std::sync::Arc;

use session_core::store::{Change, Outcome, Touch};
use session_core::{
    ClientId, DeviceKind, EndCause, EventKind, ExtraData, Session, Store, Timestamp, UserKey,
};
use tokio::task::JoinSet;

use crate::Namespace;
use crate::sample::{
    HOUR, SECOND, add, address, change_at, commit, detailed, ids, insert, log_end, now, read_log,
    revoke, rotated, session, updates, used, user, user_in, version,
};

pub(crate) async fn an_update_is_read_on_every_node(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let mut session = add(store.as_ref(), &user("alice")).await;
    assert!(other.load(session.id).await.unwrap().is_some());
    for _ in 0..3 {
        session = rotated(&session, session.signed_in);
        update(store.as_ref(), &session).await;
        for node in [&store, &other, &namespace.connect().await] {
            let read = node.load(session.id).await.unwrap().unwrap().session;
            assert_eq!(read, session, "the details are those of the last update");
        }
    }
}

pub(crate) async fn details_are_replaced_whole(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let plain = session(store.as_ref(), &user_in("north", "alice"), now(store.as_ref()).await);
    insert(store.as_ref(), &plain).await;
    let full = detailed(plain.clone());
    for details in [&full, &plain, &full] {
        update(store.as_ref(), details).await;
        let read = other.load(plain.id).await.unwrap().unwrap().session;
        assert_eq!(&read, details, "every detail comes and goes, also those of a newer version");
    }
}

pub(crate) async fn an_update_moves_the_deadline_later_only(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let begun = now(store.as_ref()).await;
    let mut session = session(store.as_ref(), &user("alice"), begun);
    session.deadline = begun.plus(HOUR);
    insert(store.as_ref(), &session).await;
    for (deadline, expected) in [
        (begun.plus(SECOND), begun.plus(HOUR)),
        (begun.plus(HOUR * 2), begun.plus(HOUR * 2)),
        (begun.plus(HOUR), begun.plus(HOUR * 2)),
        (Timestamp::MAX, Timestamp::MAX),
        (begun, Timestamp::MAX),
    ] {
        update(store.as_ref(), &Session { deadline, ..session.clone() }).await;
        let read = other.load(session.id).await.unwrap().unwrap().session.deadline;
        assert_eq!(read, expected, "the later of the two deadlines holds");
        let standing = other.user(&session.owner).await.unwrap().sessions.remove(0);
        assert_eq!(standing.deadline, expected, "`user` reads the same");
    }
}

pub(crate) async fn an_update_changes_nothing_else(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user_in("north", "alice");
    let begun = now(store.as_ref()).await;
    let mut session = detailed(session(store.as_ref(), &owner, begun));
    session.client_id = Some(ClientId::new("shop").unwrap());
    insert(store.as_ref(), &session).await;
    let other = add(store.as_ref(), &owner).await;
    // A node that has not heard of the last write-back makes a record of what it knows.
    let mut stale = rotated(&session, begun);
    stale.data = Some(ExtraData::from_json("[1]").unwrap());
    let used = Touch {
        claimed: true,
        ip_addresses: vec![address(2)],
        ..used(session.id, begun.plus(SECOND))
    };
    store.touch(std::slice::from_ref(&used)).await.unwrap();
    let mut expected = stale.clone();
    expected.last_accessed = used.last_accessed;
    expected.claimed = true;
    expected.ip_addresses.push(address(2));
    // What only its beginning may set.
    stale.device_kind = DeviceKind::Tv;
    stale.client_id = None;
    stale.signed_in = begun.minus(HOUR);
    update(store.as_ref(), &stale).await;
    let read = store.load(session.id).await.unwrap().unwrap().session;
    assert_eq!(read, expected, "an update replaces the details, and what write-backs keep stays");
    let read = store.load(other.id).await.unwrap().unwrap().session;
    assert_eq!(read, other, "the user's other session is as it was");
}

pub(crate) async fn an_update_raises_the_version(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    let session = add(store.as_ref(), &owner).await;
    let before = version(store.as_ref(), &owner).await;
    update(store.as_ref(), &session).await;
    let after = version(other.as_ref(), &owner).await;
    assert_ne!(before, after, "an update changes the user's version, also where nothing differs");
    let loaded = other.load(session.id).await.unwrap().unwrap();
    assert_eq!(loaded.version, after, "`load` answers the new version");
    let late = change_at(&owner, before, vec![updates(&session)], session.signed_in);
    let outcome = other.commit(&late).await.unwrap();
    assert_eq!(outcome, Outcome::Conflict, "the version before the update conflicts");
}

pub(crate) async fn an_update_is_told_as_its_kind(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user_in("north", "alice");
    let session = add(store.as_ref(), &owner).await;
    let mut cursor = log_end(other.as_ref()).await;
    let kinds = [EventKind::Changed, EventKind::Rotated, EventKind::Changed];
    for kind in kinds {
        let change = Change::Update { session: Box::new(session.clone()), kind };
        assert_eq!(commit(store.as_ref(), &owner, vec![change]).await, Outcome::Done);
    }
    let told = read_log(other.as_ref(), &mut cursor, 10).await;
    let told: Vec<_> = told.iter().map(|event| (event.kind, event.session)).collect();
    assert_eq!(told, kinds.map(|kind| (kind, Some(session.id))), "a rotation or a change");
}

pub(crate) async fn an_update_of_anothers_session_is_a_conflict(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (owner, other) = (user("alice"), user_in("north", "alice"));
    let own = add(store.as_ref(), &owner).await;
    let foreign = add(store.as_ref(), &other).await;
    let mut taken = rotated(&foreign, foreign.signed_in);
    taken.owner = owner.clone();
    let changes = vec![Change::End(own.id, EndCause::Revoked), updates(&taken)];
    conflicts(store.as_ref(), &owner, changes).await;
    let read = store.load(foreign.id).await.unwrap().unwrap().session;
    assert_eq!(read, foreign, "another user's record is not replaced");
    assert_eq!(ids(store.as_ref(), &owner).await, [own.id], "nothing has happened");
}

pub(crate) async fn an_update_of_what_is_gone_is_a_conflict(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let [stays, gone] = [add(store.as_ref(), &owner).await, add(store.as_ref(), &owner).await];
    revoke(store.as_ref(), gone.id).await;
    conflicts(store.as_ref(), &owner, vec![updates(&gone)]).await;
    assert_eq!(store.load(gone.id).await.unwrap(), None, "what is gone stays gone");
    assert_eq!(ids(store.as_ref(), &owner).await, [stays.id]);
}

/// Three nodes count in the data of one session, as `update_data` does.
pub(crate) async fn no_update_is_lost(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let session = add(store.as_ref(), &user("alice")).await;
    let mut counting = JoinSet::new();
    for _ in 0..3 {
        let (node, id) = (namespace.connect().await, session.id);
        counting.spawn(async move {
            for _ in 0..10 {
                while !counts(node.as_ref(), id).await {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    counting.join_all().await;
    let read = store.load(session.id).await.unwrap().unwrap().session;
    assert_eq!(count(&read), 30, "of two updates for one version one is a conflict");
}

/// Adds one, as a change or as a rotation, unless another node was faster.
async fn counts(store: &dyn Store, id: session_core::SessionId) -> bool {
    let loaded = store.load(id).await.unwrap().unwrap();
    // Lets the others come in between, also on a store that never waits.
    tokio::task::yield_now().await;
    let mut session = loaded.session;
    session.data = Some(ExtraData::new(&(count(&session) + 1).into()).unwrap());
    let (owner, at) = (session.owner.clone(), session.signed_in);
    let kind =
        if count(&session).is_multiple_of(2) { EventKind::Changed } else { EventKind::Rotated };
    let change = Change::Update { session: Box::new(session), kind };
    let commit = change_at(&owner, loaded.version, vec![change], at);
    store.commit(&commit).await.unwrap() == Outcome::Done
}

fn count(session: &Session) -> u64 {
    session.data.as_ref().and_then(|data| data.to_value().as_u64()).unwrap_or(0)
}

async fn conflicts(store: &dyn Store, owner: &UserKey, changes: Vec<Change>) {
    let mut cursor = log_end(store).await;
    let before = version(store, owner).await;
    let outcome = commit(store, owner, changes).await;
    assert_eq!(outcome, Outcome::Conflict, "a record of what is gone or another's is a conflict");
    assert_eq!(version(store, owner).await, before, "a conflict raises no version");
    assert_eq!(read_log(store, &mut cursor, 10).await, [], "a conflict is not told");
}

/// Replaces the record.
async fn update(store: &dyn Store, session: &Session) {
    let outcome = commit(store, &session.owner, vec![updates(session)]).await;
    assert_eq!(outcome, Outcome::Done, "an update that conflicts with no other change");
}
