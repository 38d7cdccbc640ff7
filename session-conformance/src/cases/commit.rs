//! One user's changes: all of them or none, for the version they were made for.

use std::sync::Arc;

use session_core::admission::Standing;
use session_core::store::{Change, Commit, Entries, Outcome, Version};
use session_core::{
    EndCause, EventKind, ExtraData, Session, SessionId, Store, StoreErrorKind, UserKey,
};

use crate::Namespace;
use crate::sample::{
    SECOND, add, add_many, begins, change_at, commit, ids, log_end, now, read_log, revoke, session,
    sorted, updates, user, user_in, version,
};

pub(crate) async fn a_commit_needs_the_version_it_was_made_for(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    let at = now(store.as_ref()).await;
    let insert = |expected| {
        let new = session(store.as_ref(), &owner, at);
        change_at(&owner, expected, vec![begins(&new)], at)
    };
    let first = store.user(&owner).await.unwrap().version;
    assert_eq!(store.commit(&insert(first)).await.unwrap(), Outcome::Done);
    assert_eq!(other.commit(&insert(first)).await.unwrap(), Outcome::Conflict);
    assert_eq!(other.commit(&insert(Version(i64::MAX))).await.unwrap(), Outcome::Conflict);
    let second = other.user(&owner).await.unwrap().version;
    assert_ne!(first, second);
    revoke(store.as_ref(), ids(other.as_ref(), &owner).await[0]).await;
    assert_eq!(other.commit(&insert(second)).await.unwrap(), Outcome::Conflict);
    assert_eq!(ids(store.as_ref(), &owner).await, []);
}

pub(crate) async fn every_kind_of_change_needs_the_version(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    let old = add(store.as_ref(), &owner).await;
    let before = version(store.as_ref(), &owner).await;
    let there = [old.clone(), add(store.as_ref(), &owner).await];
    let at = now(store.as_ref()).await;
    let new = Session { data: Some(ExtraData::new(&7.into()).unwrap()), ..old.clone() };
    let update = |kind| Change::Update { session: Box::new(new.clone()), kind };
    let mut cursor = log_end(store.as_ref()).await;
    for change in [
        begins(&session(store.as_ref(), &owner, at)),
        update(EventKind::Rotated),
        update(EventKind::Changed),
        Change::ClaimsChanged(old.id),
        Change::End(old.id, EndCause::Evicted),
    ] {
        let kind = change.kind();
        let late = change_at(&owner, before, vec![change], at);
        let outcome = other.commit(&late).await.unwrap();
        assert_eq!(outcome, Outcome::Conflict, "{kind:?} for a version that no longer holds");
    }
    assert_eq!(ids(store.as_ref(), &owner).await, sorted(&there), "a conflict changes nothing");
    let loaded = store.load(old.id).await.unwrap().map(|loaded| loaded.session);
    assert_eq!(loaded, Some(old), "a conflict changes nothing");
    assert_eq!(read_log(store.as_ref(), &mut cursor, 10).await, [], "and tells nothing");
}

pub(crate) async fn a_commit_is_all_or_nothing(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let old = add(store.as_ref(), &owner).await;
    let new = session(store.as_ref(), &owner, now(store.as_ref()).await);
    let missing = updates(&session(store.as_ref(), &owner, new.signed_in));
    let mut cursor = store.log_since(None, Entries::All, 0).await.unwrap().next;
    let changes =
        vec![Change::End(old.id, EndCause::Evicted), Change::Insert(Box::new(new)), missing];
    assert_eq!(commit(store.as_ref(), &owner, changes).await, Outcome::Conflict);
    assert_eq!(ids(store.as_ref(), &owner).await, [old.id]);
    assert_eq!(read_log(store.as_ref(), &mut cursor, 10).await, []);
    // Ending what is gone is no conflict and is not told.
    let gone = Change::End(SessionId::from_bytes([9; 16]), EndCause::Evicted);
    assert_eq!(commit(store.as_ref(), &owner, vec![gone]).await, Outcome::Done);
    assert_eq!(read_log(store.as_ref(), &mut cursor, 10).await, []);
}

pub(crate) async fn a_commit_made_twice_is_a_conflict(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    let old = add(store.as_ref(), &owner).await;
    let new = session(store.as_ref(), &owner, now(store.as_ref()).await);
    let expected = version(store.as_ref(), &owner).await;
    let changes = vec![Change::End(old.id, EndCause::Evicted), begins(&new)];
    let commit = change_at(&owner, expected, changes, now(store.as_ref()).await);
    let mut cursor = log_end(store.as_ref()).await;
    assert_eq!(store.commit(&commit).await.unwrap(), Outcome::Done, "the version holds");
    let after = version(store.as_ref(), &owner).await;
    for node in [&store, &other] {
        let again = node.commit(&commit).await.unwrap();
        assert_eq!(again, Outcome::Conflict, "a commit made a second time is a conflict");
    }
    assert_eq!(version(store.as_ref(), &owner).await, after, "a conflict raises no version");
    assert_eq!(ids(store.as_ref(), &owner).await, [new.id]);
    let told = read_log(store.as_ref(), &mut cursor, 10).await;
    assert_eq!(told.len(), 2, "a conflict is not told: {told:?}");
}

pub(crate) async fn an_id_inserted_twice_is_a_conflict(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let first = add(store.as_ref(), &owner).await;
    let mut again = session(store.as_ref(), &owner, now(store.as_ref()).await.plus(SECOND));
    again.id = first.id;
    let outcome = commit(store.as_ref(), &owner, vec![begins(&again)]).await;
    assert_eq!(outcome, Outcome::Conflict, "an id that exists already is a conflict");
    for other in [user("bob"), user_in("north", "alice")] {
        let mut taken = session(store.as_ref(), &other, now(store.as_ref()).await);
        taken.id = first.id;
        let outcome = commit(store.as_ref(), &other, vec![begins(&taken)]).await;
        assert_eq!(outcome, Outcome::Conflict, "an id that another user has is a conflict");
        assert_eq!(ids(store.as_ref(), &other).await, [], "nothing has happened");
    }
    let read = store.load(first.id).await.unwrap().unwrap().session;
    assert_eq!(read, first, "the session that has the id is as it was");
}

pub(crate) async fn limits_are_refused_and_nothing_happens(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let old = add(store.as_ref(), &owner).await;
    let expected = version(store.as_ref(), &owner).await;
    let at = now(store.as_ref()).await;
    let new = || begins(&session(store.as_ref(), &owner, at));
    let too_many = (0..=Commit::MAX_CHANGES).map(|_| new()).collect();
    let twice = vec![Change::End(old.id, EndCause::Revoked), Change::ClaimsChanged(old.id)];
    let bobs = session(store.as_ref(), &user("bob"), at);
    let foreign = vec![new(), begins(&bobs)];
    let mut cursor = log_end(store.as_ref()).await;
    for (changes, what) in [
        (too_many, "more changes than `Commit::MAX_CHANGES`"),
        (twice, "two changes of one session"),
        (foreign, "a new session of another owner"),
        (vec![new(), updates(&bobs)], "a record of another owner's session"),
    ] {
        let refused = store.commit(&change_at(&owner, expected, changes, at)).await;
        let kind = refused.map_err(|error| error.kind());
        assert_eq!(kind, Err(StoreErrorKind::Refused), "a commit with {what} is refused");
    }
    let state = store.user(&owner).await.unwrap();
    assert_eq!((state.version, state.sessions), (expected, vec![Standing::from(&old)]));
    assert_eq!(ids(store.as_ref(), &user("bob")).await, [], "nothing has happened to bob");
    assert_eq!(read_log(store.as_ref(), &mut cursor, 10).await, [], "what is refused is not told");
}

pub(crate) async fn the_largest_commit_is_told_in_order(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user_in("north", "alice");
    let old = add_many(store.as_ref(), &owner, Commit::MAX_CHANGES / 2).await;
    let at = now(store.as_ref()).await;
    let new: Vec<_> = old.iter().map(|_| session(store.as_ref(), &owner, at)).collect();
    let pairs = old.iter().zip(&new);
    let changes: Vec<_> = pairs
        .flat_map(|(old, new)| [begins(new), Change::End(old.id, EndCause::Evicted)])
        .collect();
    let expected: Vec<_> = changes.iter().map(|c| (c.kind(), Some(c.session()))).collect();
    let mut cursor = log_end(other.as_ref()).await;
    let outcome = commit(store.as_ref(), &owner, changes).await;
    assert_eq!(outcome, Outcome::Done, "a commit of `Commit::MAX_CHANGES` changes goes through");
    let told = read_log(other.as_ref(), &mut cursor, 5).await;
    let told: Vec<_> = told.iter().map(|event| (event.kind, event.session)).collect();
    assert_eq!(told, expected, "the log tells the changes in their order");
    assert_eq!(ids(other.as_ref(), &owner).await, sorted(&new));
}

pub(crate) async fn an_end_of_what_is_gone_is_passed_over(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let [stays, gone] = [add(store.as_ref(), &owner).await, add(store.as_ref(), &owner).await];
    revoke(store.as_ref(), gone.id).await;
    let change = Change::End(gone.id, EndCause::Evicted);
    passes_over(store.as_ref(), &owner, change, "an end of what is gone").await;
    assert_eq!(ids(store.as_ref(), &owner).await, [stays.id]);
}

pub(crate) async fn an_end_of_anothers_session_is_passed_over(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (owner, other) = (user_in("north", "alice"), user_in("south", "alice"));
    add(store.as_ref(), &owner).await;
    let foreign = add(store.as_ref(), &other).await;
    let before = version(store.as_ref(), &other).await;
    let change = Change::End(foreign.id, EndCause::Revoked);
    passes_over(store.as_ref(), &owner, change, "an end of another's session").await;
    let loaded = store.load(foreign.id).await.unwrap();
    assert!(loaded.is_some(), "a commit reaches its owner's sessions only");
    assert_eq!(version(store.as_ref(), &other).await, before, "and no other user's version");
}

pub(crate) async fn changed_claims_of_what_is_gone_are_passed_over(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (owner, other) = (user("alice"), user("bob"));
    let gone = add(store.as_ref(), &owner).await;
    add(store.as_ref(), &owner).await;
    revoke(store.as_ref(), gone.id).await;
    let foreign = add(store.as_ref(), &other).await;
    for (id, what) in [(gone.id, "claims of what is gone"), (foreign.id, "claims of another's")] {
        passes_over(store.as_ref(), &owner, Change::ClaimsChanged(id), what).await;
    }
}

async fn passes_over(store: &dyn Store, owner: &UserKey, change: Change, what: &str) {
    let mut cursor = log_end(store).await;
    let before = version(store, owner).await;
    let outcome = commit(store, owner, vec![change]).await;
    assert_eq!(outcome, Outcome::Done, "{what}: passed over, no conflict");
    assert_eq!(version(store, owner).await, before, "{what}: passed over, so the version stays");
    assert_eq!(read_log(store, &mut cursor, 10).await, [], "{what}: passed over, so not told");
}

pub(crate) async fn what_is_passed_over_does_not_stop_the_rest(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let foreign = add(store.as_ref(), &user("bob")).await;
    let old = add(store.as_ref(), &owner).await;
    let new = session(store.as_ref(), &owner, now(store.as_ref()).await);
    let before = version(store.as_ref(), &owner).await;
    let mut cursor = log_end(store.as_ref()).await;
    let changes = vec![
        Change::End(foreign.id, EndCause::Evicted),
        Change::End(old.id, EndCause::Evicted),
        Change::ClaimsChanged(SessionId::from_bytes([9; 16])),
        begins(&new),
    ];
    assert_eq!(commit(store.as_ref(), &owner, changes).await, Outcome::Done);
    assert_eq!(ids(store.as_ref(), &owner).await, [new.id]);
    assert_ne!(version(store.as_ref(), &owner).await, before, "two of the changes happened");
    let told = read_log(store.as_ref(), &mut cursor, 10).await;
    let told: Vec<_> = told.iter().map(|event| event.session.unwrap()).collect();
    assert_eq!(told, [old.id, new.id], "what was passed over is not told, the rest is");
}
