//! Records that cannot be read, where the backend can damage one.

use std::sync::Arc;
use std::time::Duration;

use session_core::policy::PolicyScope;
use session_core::store::{
    Change, Entries, Forget, HistoryQuery, Outcome, PageQuery, Selection, TenantFilter, Touch,
};
use session_core::{
    EndCause, EventKind, Session, SessionId, Store, StoreError, StoreErrorKind, UserKey,
};

use super::forgetting::forget_all;
use super::{blocks, history_pages, policies, walks};
use crate::Namespace;
use crate::run::skip;
use crate::sample::{
    HOUR, LONG_AGO, SECOND, add_many, at_most, begins, change_at, commit, end, end_all, end_at,
    ended_ids, ids, insert_all, log_end, now, read_log, revoke, session, sorted, sweep_all,
    updates, used, user, user_in,
};

pub(crate) async fn a_damaged_session_hides_no_other(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (alice, bob) = (user_in("north", "alice"), user_in("north", "bob"));
    let hers = in_order(add_many(store.as_ref(), &alice, 5).await);
    let his = add_many(store.as_ref(), &bob, 1).await;
    drop(store);
    let damaged = damage(namespace.as_ref(), &hers[2]).await;
    let store = namespace.connect().await;
    let error = store.load(damaged).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "`load` of what cannot be read: {error}");
    match store.user(&alice).await {
        Ok(state) => assert_eq!(state.sessions.len(), hers.len(), "`user` overlooks none"),
        Err(error) => assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}"),
    }
    assert_eq!(ids(store.as_ref(), &bob).await, sorted(&his), "others' sessions can be read");

    let readable = sorted(hers.iter().filter(|session| session.id != damaged));
    for tenant in [TenantFilter::Any, TenantFilter::Is(alice.tenant.clone())] {
        for limit in [1, 200] {
            let mut query = PageQuery::live(tenant.clone(), hers[0].signed_in);
            query.limit = limit;
            let listed = walks::walk(store.as_ref(), &query).await;
            let listed = sorted(listed.iter().filter(|session| session.owner == alice));
            assert_eq!(listed, readable, "a page leaves out what cannot be read, and goes on");
            query.user = Some(alice.user.clone());
            let listed = walks::walk(store.as_ref(), &query).await;
            assert_eq!(sorted(&listed), readable, "so does a page of its user");
        }
    }
    let later = hers[0].signed_in.plus(SECOND);
    let place = "2001:db8::7".parse().unwrap();
    let batch: Vec<_> = hers
        .iter()
        .map(|session| Touch { ip_addresses: vec![place], ..used(session.id, later) })
        .collect();
    let gone = store.touch(&batch).await.unwrap();
    assert_eq!(gone, [], "`touch` passes over what cannot be read, which is not gone");
    for id in readable {
        let read = store.load(id).await.unwrap().unwrap().session;
        assert_eq!(read.last_accessed, later, "`touch` writes the others");
        assert_eq!(read.ip_addresses.last(), Some(&place), "and where they were used");
    }
}

pub(crate) async fn a_damaged_session_ends_as_others_do(namespace: Arc<dyn Namespace>) {
    let alice = user_in("north", "alice");
    for sweeps in [false, true] {
        let store = namespace.connect().await;
        let begun = now(store.as_ref()).await;
        let mut sessions = [(); 3].map(|()| session(store.as_ref(), &alice, begun));
        if sweeps {
            sessions.iter_mut().for_each(|session| session.deadline = begun.minus(HOUR));
        }
        insert_all(store.as_ref(), &sessions).await;
        drop(store);
        let damaged = damage(namespace.as_ref(), &sessions[1]).await;
        let store = namespace.connect().await;
        let mut cursor = log_end(store.as_ref()).await;
        let ended = if sweeps {
            sweep_all(store.as_ref(), Duration::ZERO, 2).await
        } else {
            let all = end(store.as_ref(), Selection::user(alice.clone())).await;
            end_all(store.as_ref(), all, 2).await
        };
        assert_eq!(ended_ids(&ended), sorted(&sessions), "what cannot be read ends, too");
        assert_eq!(ids(store.as_ref(), &alice).await, [], "its user can be read again");
        let told = read_log(store.as_ref(), &mut cursor, 10).await;
        let ends = |kind| matches!(kind, EventKind::Ended(_));
        assert_eq!(told.iter().filter(|event| ends(event.kind)).count(), 3, "each end is told");
        let error = store.ended(damaged).await.unwrap_err();
        assert_eq!(
            error.kind(),
            StoreErrorKind::Corrupt,
            "it is in the history as it was: {error}"
        );
    }
}

pub(crate) async fn a_commit_beside_a_damaged_session_happens_or_fails_whole(
    namespace: Arc<dyn Namespace>,
) {
    let store = namespace.connect().await;
    let alice = user_in("north", "alice");
    let [mut stays, evicted, unreadable] =
        <[Session; 3]>::try_from(add_many(store.as_ref(), &alice, 3).await).unwrap();
    drop(store);
    let damaged = damage(namespace.as_ref(), &unreadable).await;
    let store = namespace.connect().await;
    stays.device_name = Some("renamed".parse().unwrap());
    let [one, two, three] = [(); 3].map(|()| session(store.as_ref(), &alice, stays.signed_in));
    let end = |id| Change::End(id, EndCause::Evicted);
    for changes in [
        vec![begins(&one), updates(&stays)],
        vec![end(evicted.id), begins(&two)],
        vec![begins(&three), end(damaged)],
    ] {
        commits_whole_or_not(store.as_ref(), &stays, changes).await;
    }
}

/// Commits on a user with a session that cannot be read, and another one that can.
async fn commits_whole_or_not(store: &dyn Store, readable: &Session, changes: Vec<Change>) {
    let read = async || store.load(readable.id).await.unwrap().unwrap();
    let (before, mut cursor) = (read().await, log_end(store).await);
    let commit = change_at(&readable.owner, before.version, changes, now(store).await);
    let happens = match store.commit(&commit).await {
        Ok(outcome) => {
            assert_eq!(outcome, Outcome::Done, "no other change came first");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
            false
        }
    };
    let word = if happens { "a commit that is done" } else { "a commit that failed" };
    let told = read_log(store, &mut cursor, 10).await;
    let told: Vec<_> = told.iter().map(|event| (event.session, event.kind)).collect();
    let all = commit.changes.iter().map(|change| (Some(change.session()), change.kind()));
    let right: Vec<_> = all.filter(|_| happens).collect();
    assert_eq!(told, right, "what the log tells of {word}");
    assert_eq!(read().await.version != before.version, happens, "the version after {word}");
    for change in &commit.changes {
        let id = change.session();
        match (change, store.load(id).await) {
            (Change::Insert(_), found) => {
                assert_eq!(found.unwrap().is_some(), happens, "what {word} begins");
            }
            (Change::End(..), Ok(found)) => {
                assert_eq!(found.is_none(), happens, "what {word} ends");
            }
            (Change::End(..), Err(error)) => {
                assert!(!happens, "what {word} ends is gone: {error}");
            }
            (_, found) => {
                let found = found.unwrap().unwrap().session;
                assert_eq!(
                    found.device_name == readable.device_name,
                    happens,
                    "what {word} changes"
                );
            }
        }
    }
}

pub(crate) async fn a_damaged_end_hides_no_other(namespace: Arc<dyn Namespace>) {
    let owners = [user_in("north", "alice"), user("bob")];
    for owner in &owners {
        let store = namespace.connect().await;
        let sessions = in_order(add_many(store.as_ref(), owner, 5).await);
        let long_ago = now(store.as_ref()).await.minus(HOUR * 2);
        for session in &sessions {
            end_at(store.as_ref(), session, EndCause::Revoked, long_ago).await;
        }
        drop(store);
        let damaged = damage(namespace.as_ref(), &sessions[2]).await;
        let store = namespace.connect().await;
        let error = store.ended(damaged).await.unwrap_err();
        assert_eq!(
            error.kind(),
            StoreErrorKind::Corrupt,
            "`ended` of what cannot be read: {error}"
        );
        let readable = sorted(sessions.iter().filter(|session| session.id != damaged));
        for mut query in
            [HistoryQuery::user(owner.clone()), HistoryQuery::within(TenantFilter::Any)]
        {
            for limit in [1, 200] {
                query.limit = limit;
                let listed = history_pages::walk(store.as_ref(), &query).await;
                let listed = sorted(listed.iter().map(|ended| &ended.session));
                assert_eq!(listed, readable, "a page leaves out what cannot be read, and goes on");
            }
        }
        goes(store.as_ref(), owner, &sessions).await;
    }
}

pub(crate) async fn a_damaged_log_entry_is_a_gap(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user_in("north", "alice");
    let cursor = log_end(store.as_ref()).await;
    let sessions = [0, 1, 2].map(|_| session(store.as_ref(), &owner, LONG_AGO));
    insert_all(store.as_ref(), &sessions).await;
    drop(store);
    if !namespace.damage_log(sessions[1].id).await {
        skip("the backend damages no entry of the log");
    }
    let store = namespace.connect().await;
    let (mut cursor, mut told, mut gaps) = (cursor, Vec::new(), 0);
    for call in 0.. {
        assert!(call < 100, "the log has no end");
        let page = store.log_since(Some(&cursor), Entries::All, 1).await.unwrap();
        gaps += usize::from(page.gap);
        told.extend(page.events.iter().filter_map(|event| event.session));
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    assert_eq!(gaps, 1, "an entry that cannot be read may have been missed, once");
    assert_eq!(told, [sessions[0].id, sessions[2].id], "it is left out, and the log goes on");
    let new = add_many(store.as_ref(), &owner, 1).await;
    let told = read_log(store.as_ref(), &mut cursor, 10).await;
    let told: Vec<_> = told.iter().filter_map(|event| event.session).collect();
    assert_eq!(told, [new[0].id], "a reader behind it has no gap");
}

/// The first user's by age, or where that is left to the store by name, as the other's.
async fn goes(store: &dyn Store, owner: &UserKey, sessions: &[Session]) {
    let new = Session { id: sessions[2].id, ..session(store, owner, sessions[2].signed_in) };
    let again = commit(store, owner, vec![begins(&new)]).await;
    assert_eq!(again, Outcome::Conflict, "its id does not come back");
    let mut gone = 0;
    if owner.tenant.is_some() {
        gone += forget_all(store, &Forget::OlderThan(HOUR), 2).await;
    }
    gone += forget_all(store, &Forget::User(owner.clone()), 2).await;
    assert_eq!(gone, sessions.len(), "what cannot be read is forgotten and counted, too");
    for session in sessions {
        assert_eq!(store.ended(session.id).await.unwrap(), None, "it is forgotten");
    }
}

/// As lists show them, in one direction or the other: the third of five has others before and after it.
fn in_order(mut sessions: Vec<Session>) -> Vec<Session> {
    sessions.sort_by_key(|session| (session.signed_in, session.id));
    sessions
}

pub(crate) async fn a_damaged_policy_or_block_is_not_overlooked(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (alice, bob) = (user_in("north", "alice"), user_in("north", "bob"));
    let hers = add_many(store.as_ref(), &alice, 2).await;
    let scope = PolicyScope::User(alice.clone());
    policies::set(store.as_ref(), &scope, Some(at_most(2))).await;
    blocks::set(store.as_ref(), &scope, None).await;
    let state = store.user(&alice).await.unwrap();
    drop(store);
    if !namespace.damage_settings(&alice).await {
        skip("the backend damages no policy and no block");
    }
    let store = namespace.connect().await;
    let kind = |error: StoreError| error.kind();
    let corrupt = StoreErrorKind::Corrupt;
    assert_eq!(store.policy(&scope).await.map_err(kind), Err(corrupt), "`policy`");
    assert_eq!(store.block(&scope).await.map_err(kind), Err(corrupt), "`block`");
    assert_eq!(store.user(&alice).await.map_err(kind), Err(corrupt), "`user` overlooks neither");
    let session = session(store.as_ref(), &alice, now(store.as_ref()).await);
    let sign_in = change_at(&alice, state.version, vec![begins(&session)], session.signed_in);
    let answer = store.commit(&sign_in).await.map_err(kind);
    let refused = matches!(answer, Ok(Outcome::Conflict) | Err(StoreErrorKind::Corrupt));
    assert!(refused, "a block that cannot be read is one: {answer:?}");

    assert_eq!(blocks::begins_now(store.as_ref(), &bob).await, Outcome::Done, "others sign in");
    assert!(store.load(hers[0].id).await.unwrap().is_some(), "`load` looks at neither");
    for session in &hers {
        assert_eq!(revoke(store.as_ref(), session.id).await, 1, "`end_many` looks at neither");
    }
    policies::set(store.as_ref(), &scope, Some(at_most(1))).await;
    assert_eq!(store.policy(&scope).await.unwrap(), Some(at_most(1)), "set, it is read");
    assert_eq!(store.user(&alice).await.map_err(kind), Err(corrupt), "`user` overlooks no block");
    blocks::lift(store.as_ref(), &scope).await;
    assert_eq!(store.block(&scope).await.unwrap(), None, "lifted, there is none");
    assert_eq!(blocks::begins_now(store.as_ref(), &alice).await, Outcome::Done);

    blocks::set(store.as_ref(), &scope, None).await;
    drop(store);
    assert!(namespace.damage_settings(&alice).await, "it did so before");
    let store = namespace.connect().await;
    blocks::lift(store.as_ref(), &scope).await;
    assert_eq!(store.user(&alice).await.map_err(kind), Err(corrupt), "`user` overlooks no policy");
    policies::set(store.as_ref(), &scope, None).await;
    assert_eq!(blocks::begins_now(store.as_ref(), &alice).await, Outcome::Done);
}

/// Damages the record of a session.
async fn damage(namespace: &dyn Namespace, session: &Session) -> SessionId {
    if !namespace.damage(session.id).await {
        skip("the backend damages no record");
    }
    session.id
}
