//! A token that is replaced.

use std::sync::Arc;

use session_core::store::{Change, Outcome, Touch};
use session_core::{ClientId, DeviceInfo, EndCause, ExtraData, Session, Store, Timestamp, UserKey};

use crate::Namespace;
use crate::sample::{
    SECOND, add, address, change_at, commit, ids, insert, log_end, now, read_log, revoke, rotates,
    session, user, user_in, version,
};

pub(crate) async fn a_rotation_is_read_on_every_node(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    let session = add(store.as_ref(), &owner).await;
    assert!(other.load(session.id).await.unwrap().is_some());
    let rotated = rotate(store.as_ref(), &session, None).await;
    for node in [&store, &other, &namespace.connect().await] {
        let token = node.load(session.id).await.unwrap().unwrap().session.token;
        assert_eq!(token.current, rotated.token.current, "the new digest is read");
        assert_eq!(token.family, rotated.token.family, "the family's digest stays");
        assert_eq!(
            token.retired, rotated.token.retired,
            "the retired digest and its time are read"
        );
    }
}

pub(crate) async fn a_rotation_keeps_the_time_of_authentication_or_sets_it(
    namespace: Arc<dyn Namespace>,
) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let mut session = session(store.as_ref(), &user("alice"), now());
    session.authenticated_at = now().minus(SECOND * 60);
    insert(store.as_ref(), &session).await;
    let session = rotate(store.as_ref(), &session, None).await;
    let read = other.load(session.id).await.unwrap().unwrap().session;
    assert_eq!(read.authenticated_at, session.authenticated_at, "none given: it stays");
    let again = now();
    let session = rotate(store.as_ref(), &session, Some(again)).await;
    let read = other.load(session.id).await.unwrap().unwrap().session;
    assert_eq!(read.authenticated_at, again, "the time of a re-authentication is stored");
    assert_eq!(read, session);
}

pub(crate) async fn a_rotation_changes_nothing_else(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user_in("north", "alice");
    let mut session = session(store.as_ref(), &owner, now());
    session.device_info = Some(DeviceInfo::new("Firefox").unwrap());
    session.client_id = Some(ClientId::new("shop").unwrap());
    session.absolute_expiry = Some(now().plus(SECOND * 3600));
    session.data = Some(ExtraData::from_json("[1]").unwrap());
    insert(store.as_ref(), &session).await;
    let other = add(store.as_ref(), &owner).await;
    let used = Touch {
        id: session.id,
        last_accessed: session.last_accessed.plus(SECOND),
        ip_addresses: vec![address(2)],
    };
    store.touch(std::slice::from_ref(&used)).await.unwrap();
    session.last_accessed = used.last_accessed;
    session.ip_addresses.push(address(2));
    let rotated = rotate(store.as_ref(), &session, None).await;
    let read = store.load(session.id).await.unwrap().unwrap().session;
    assert_eq!(read, rotated, "a rotation replaces the token and nothing else");
    let read = store.load(other.id).await.unwrap().unwrap().session;
    assert_eq!(read, other, "the user's other session is as it was");
}

pub(crate) async fn a_second_rotation_retires_the_first_token(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let mut session = add(store.as_ref(), &user("alice")).await;
    for _ in 0..3 {
        let before = session.token.current;
        session = rotate(store.as_ref(), &session, None).await;
        let read = other.load(session.id).await.unwrap().unwrap().session.token;
        let retired = read.retired.map(|retired| retired.digest);
        assert_eq!(retired, Some(before), "the retired token is the one before");
        assert_eq!(read, session.token);
    }
}

pub(crate) async fn a_rotation_raises_the_version(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    let session = add(store.as_ref(), &owner).await;
    let before = version(store.as_ref(), &owner).await;
    rotate(store.as_ref(), &session, None).await;
    let after = version(other.as_ref(), &owner).await;
    assert_ne!(before, after, "a rotation changes the user's version");
    let loaded = other.load(session.id).await.unwrap().unwrap();
    assert_eq!(loaded.version, after, "`load` answers the new version");
    let late = change_at(&owner, before, vec![rotates(&session, None)]);
    let outcome = other.commit(&late).await.unwrap();
    assert_eq!(outcome, Outcome::Conflict, "the version before the rotation conflicts");
}

pub(crate) async fn a_rotation_of_anothers_session_is_a_conflict(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (owner, other) = (user("alice"), user_in("north", "alice"));
    let own = add(store.as_ref(), &owner).await;
    let foreign = add(store.as_ref(), &other).await;
    let changes = vec![Change::End(own.id, EndCause::Revoked), rotates(&foreign, Some(now()))];
    conflicts(store.as_ref(), &owner, changes).await;
    let read = store.load(foreign.id).await.unwrap().unwrap().session;
    assert_eq!(read, foreign, "a token of another user's session is not replaced");
    assert_eq!(ids(store.as_ref(), &owner).await, [own.id], "nothing has happened");
}

pub(crate) async fn a_rotation_of_what_is_gone_is_a_conflict(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let [stays, gone] = [add(store.as_ref(), &owner).await, add(store.as_ref(), &owner).await];
    revoke(store.as_ref(), gone.id).await;
    conflicts(store.as_ref(), &owner, vec![rotates(&gone, None)]).await;
    assert_eq!(store.load(gone.id).await.unwrap(), None, "what is gone stays gone");
    assert_eq!(ids(store.as_ref(), &owner).await, [stays.id]);
}

async fn conflicts(store: &dyn Store, owner: &UserKey, changes: Vec<Change>) {
    let mut cursor = log_end(store).await;
    let before = version(store, owner).await;
    let outcome = commit(store, owner, changes).await;
    assert_eq!(outcome, Outcome::Conflict, "a token of what is gone or another's is a conflict");
    assert_eq!(version(store, owner).await, before, "a conflict raises no version");
    assert_eq!(read_log(store, &mut cursor, 10).await, [], "a conflict is not told");
}

/// Replaces the token, and answers the session as it has to be now.
async fn rotate(
    store: &dyn Store,
    session: &Session,
    authenticated_at: Option<Timestamp>,
) -> Session {
    let change = rotates(session, authenticated_at);
    let Change::ReplaceToken { token, .. } = &change else { unreachable!("it is a rotation") };
    let mut rotated = session.clone();
    rotated.token = token.clone();
    rotated.authenticated_at = authenticated_at.unwrap_or(session.authenticated_at);
    let outcome = commit(store, &session.owner, vec![change]).await;
    assert_eq!(outcome, Outcome::Done, "a rotation that conflicts with no other change");
    rotated
}
