//! Values that the tests use.

use std::time::SystemTime;

use session_core::rotation::TokenState;
use session_core::store::{Change, Commit, EndMany, Outcome, Selection, TenantFilter};
use session_core::{
    Actor, DeviceKind, EndCause, Session, SessionId, Store, TenantId, Timestamp, Token, UserId,
    UserKey,
};
use session_store_redis::RedisStore;

pub(crate) fn now() -> Timestamp {
    Timestamp::EPOCH.plus(SystemTime::UNIX_EPOCH.elapsed().unwrap())
}

pub(crate) fn user(name: &str) -> UserKey {
    UserKey::new(UserId::new(name).unwrap())
}

pub(crate) fn user_in(tenant: &str, name: &str) -> UserKey {
    UserKey::in_tenant(TenantId::new(tenant).unwrap(), UserId::new(name).unwrap())
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub(crate) fn session(store: &RedisStore, owner: &UserKey) -> Session {
    let token = Token::new(store.session_id(owner, random()), random(), random());
    let at = now();
    Session {
        id: token.session_id(),
        owner: owner.clone(),
        device_kind: DeviceKind::Web,
        device_info: None,
        client_id: None,
        ip_addresses: vec!["192.0.2.1".parse().unwrap()],
        signed_in: at,
        last_accessed: at,
        authenticated_at: at,
        absolute_expiry: None,
        data: None,
        token: TokenState::new(&token),
    }
}

pub(crate) async fn commit(store: &RedisStore, owner: &UserKey, changes: Vec<Change>) -> Outcome {
    let expected = store.user(owner).await.unwrap().version;
    let by = Actor::Application;
    let commit = Commit { owner: owner.clone(), expected, changes, at: now(), by };
    store.commit(&commit).await.unwrap()
}

pub(crate) async fn insert(store: &RedisStore, session: &Session) {
    let change = Change::Insert(Box::new(session.clone()));
    assert_eq!(commit(store, &session.owner, vec![change]).await, Outcome::Done);
}

pub(crate) fn end(selection: Selection) -> EndMany {
    EndMany { selection, cause: EndCause::Revoked, at: now(), by: Actor::Application }
}

pub(crate) async fn revoke(store: &RedisStore, id: SessionId) -> usize {
    let selection = Selection::session(id, TenantFilter::Any);
    store.end_many(&end(selection), 10).await.unwrap().len()
}
