//! `end_many`: what is selected ends, once, however many calls that takes.

use std::sync::Arc;
use std::time::Duration;

use session_core::store::{Continuation, EndMany, Ended, EndedBatch, Selection, TenantFilter};
use session_core::{ClientId, DeviceKind, Session, SessionId, StoreErrorKind};

use crate::Namespace;
use crate::sample::{
    HOUR, SECOND, add, add_many, end, end_all, ended_ids, ids, insert, insert_all, log_end, now,
    random, read_log, session, sorted, used, user, user_in,
};

pub(crate) async fn a_limit_smaller_than_the_candidates_reaches_all(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let (alice, bob, other) = (user_in("north", "alice"), user_in("north", "bob"), user("alice"));
    let north = || Selection::within(TenantFilter::Is(alice.tenant.clone()));
    let any = || Selection::within(TenantFilter::Any);
    let shop = || ClientId::new("shop").unwrap();
    let mut sessions = Vec::new();
    let begun = now(store.as_ref()).await;
    for n in 0..24_u32 {
        let owner = [&alice, &bob, &other][n as usize % 3];
        let mut session = session(store.as_ref(), owner, begun.plus(SECOND * n));
        let n = n as usize;
        if n.is_multiple_of(2) {
            session.device_kind = DeviceKind::Mobile;
        }
        session.client_id = (n % 4 < 2).then(shop);
        sessions.push(session);
    }
    insert_all(store.as_ref(), &sessions).await;
    for selection in [
        any().among(sessions.iter().step_by(5).map(|s| s.id).collect::<Vec<_>>()).of_client(shop()),
        Selection::user(alice.clone()).on(DeviceKind::Mobile).of_client(shop()),
        Selection { user: Some(alice.user.clone()), ..any() }.of_client(shop()),
        north().on(DeviceKind::Mobile).except(sessions[4].id),
        any().of_client(shop()),
        // These sessions were last accessed when they began.
        any().on(DeviceKind::Mobile).last_accessed_before(begun.plus(SECOND * 12)),
        Selection::user(bob.clone()).signed_in_before(begun.plus(SECOND * 16)),
        any().signed_in_before(begun.plus(SECOND * 8)),
        Selection::user(bob.clone()),
        north(),
        any(),
    ] {
        let (selected, rest): (Vec<_>, Vec<_>) =
            sessions.into_iter().partition(|session| selection.covers(session));
        let ended = end_all(store.as_ref(), end(store.as_ref(), selection.clone()).await, 2).await;
        let expected = sorted(&selected);
        assert_eq!(ended_ids(&ended), expected, "what is selected ends, once: {selection:?}");
        for Ended { id, owner } in &ended {
            let whose = selected.iter().find(|s| s.id == *id).map(|s| &s.owner);
            assert_eq!(whose, Some(owner), "the owner of what ended");
        }
        for session in &selected {
            assert_eq!(store.load(session.id).await.unwrap(), None, "an end is read at once");
        }
        for owner in [&alice, &bob, &other] {
            let left = rest.iter().filter(|session| session.owner == *owner);
            assert_eq!(ids(store.as_ref(), owner).await, sorted(left), "the rest stays");
        }
        sessions = rest;
    }
}

pub(crate) async fn signed_in_before_is_met_to_the_microsecond(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let line = now(store.as_ref()).await;
    let micro = Duration::from_micros(1);
    let times = [line.minus(micro), line, line.plus(micro)];
    let sessions = times.map(|at| session(store.as_ref(), &owner, at));
    insert_all(store.as_ref(), &sessions).await;
    for (selection, ends) in [
        (Selection::user(owner.clone()).signed_in_before(line.minus(micro)), &sessions[..0]),
        (Selection::user(owner.clone()).signed_in_before(line), &sessions[..1]),
        (Selection::within(TenantFilter::Any).signed_in_before(times[2]), &sessions[1..2]),
        (Selection::session(sessions[2].id, TenantFilter::Any).signed_in_before(line), &[]),
    ] {
        let ended = end_all(store.as_ref(), end(store.as_ref(), selection.clone()).await, 10).await;
        assert_eq!(ended_ids(&ended), sorted(ends), "what signed in before: {selection:?}");
    }
    assert_eq!(ids(store.as_ref(), &owner).await, [sessions[2].id]);
}

pub(crate) async fn last_accessed_before_is_met_to_the_microsecond(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let line = now(store.as_ref()).await;
    let micro = Duration::from_micros(1);
    let times = [line.minus(micro), line, line.plus(micro)];
    // None of them began at the time that it was last accessed.
    let begun = line.minus(SECOND);
    let accessed = |at| Session { last_accessed: at, ..session(store.as_ref(), &owner, begun) };
    let sessions = times.map(accessed);
    insert_all(store.as_ref(), &sessions).await;
    for (selection, ends) in [
        (Selection::user(owner.clone()).last_accessed_before(line.minus(micro)), &sessions[..0]),
        (Selection::user(owner.clone()).last_accessed_before(line), &sessions[..1]),
        (Selection::session(sessions[1].id, TenantFilter::Any).last_accessed_before(line), &[]),
        (Selection::within(TenantFilter::Any).last_accessed_before(times[2]), &sessions[1..2]),
    ] {
        let ended = end_all(store.as_ref(), end(store.as_ref(), selection.clone()).await, 10).await;
        assert_eq!(ended_ids(&ended), sorted(ends), "last accessed before: {selection:?}");
    }
    assert_eq!(ids(store.as_ref(), &owner).await, [sessions[2].id]);
}

/// A node has read that all of them are unused for long. Some are used on another one before it ends
/// them.
pub(crate) async fn what_was_used_since_stays(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owners = [user("alice"), user("bob"), user_in("north", "alice")];
    for round in 0..3 {
        let now = now(store.as_ref()).await;
        let line = now.minus(HOUR);
        let mut sessions = Vec::new();
        for n in 0..12 {
            sessions.push(session(store.as_ref(), &owners[n % 3], line.minus(SECOND)));
        }
        insert_all(store.as_ref(), &sessions).await;
        let used_since: Vec<_> = sessions.iter().skip(1).step_by(4).collect();
        let unused: Vec<_> = sessions.iter().filter(|s| !used_since.contains(s)).collect();
        let touches: Vec<_> = used_since.iter().map(|session| used(session.id, line)).collect();
        assert_eq!(other.touch(&touches).await.unwrap(), []);
        let ids: Vec<_> = sessions.iter().map(|session| session.id).collect();
        let any = Selection::within(TenantFilter::Any).last_accessed_before(line);
        let (selection, limit) = match round {
            0 => (any, 2),
            1 => (any.among(ids), 2),
            _ => (any.among(ids), 12),
        };
        let mut cursor = log_end(store.as_ref()).await;
        let ended = end_all(store.as_ref(), end(store.as_ref(), selection).await, limit).await;
        assert_eq!(ended_ids(&ended), sorted(unused.iter().copied()), "what was used since stays");
        let told = read_log(other.as_ref(), &mut cursor, 10).await;
        assert_eq!(told.len(), unused.len(), "what stays is not told");
        for session in &used_since {
            let loaded = store.load(session.id).await.unwrap().expect("it is in use").session;
            assert_eq!(loaded.last_accessed, line, "what stays is as it was");
            assert_eq!(store.ended(session.id).await.unwrap(), None, "nothing is remembered of it");
        }
        let rest = Selection::within(TenantFilter::Any);
        let ended = end_all(store.as_ref(), end(store.as_ref(), rest).await, 5).await;
        assert_eq!(ended_ids(&ended), sorted(used_since), "it ends like any other");
    }
}

pub(crate) async fn a_second_walk_finds_only_what_is_left(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    add_many(store.as_ref(), &owner, 7).await;
    let selection = Selection::user(owner.clone());
    let first = store.end_many(&end(store.as_ref(), selection.clone()).await, 3).await.unwrap();
    assert!(first.ended.len() <= 3, "a call ends no more than its limit");
    assert!(first.next.is_some(), "a walk that has not reached all says where to go on");
    let left = ids(store.as_ref(), &owner).await;
    assert_eq!(left.len(), 7 - first.ended.len(), "what a call says ended has ended, no other");
    let second = end_all(other.as_ref(), end(store.as_ref(), selection.clone()).await, 3).await;
    assert_eq!(ended_ids(&second), left, "a walk from the beginning finds what is left");
    let mut rest = end(store.as_ref(), selection.clone()).await;
    rest.after = first.next;
    assert_eq!(end_all(store.as_ref(), rest, 3).await, [], "nothing is left to the first walk");
    assert_eq!(
        end_all(store.as_ref(), end(store.as_ref(), selection).await, 3).await,
        [],
        "a third walk finds nothing"
    );
}

pub(crate) async fn an_id_that_is_selected_twice_ends_once(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let sessions = add_many(store.as_ref(), &owner, 3).await;
    let mut cursor = log_end(store.as_ref()).await;
    let twice: Vec<_> = [0, 1, 0, 1, 1].map(|n: usize| sessions[n].id).into();
    let selection = Selection::within(TenantFilter::Any).among(twice);
    let ended = end_all(store.as_ref(), end(store.as_ref(), selection).await, 10).await;
    assert_eq!(ended_ids(&ended), sorted(&sessions[..2]), "an id that stands twice counts once");
    let told = read_log(store.as_ref(), &mut cursor, 10).await;
    assert_eq!(told.len(), 2, "each end is told once: {told:?}");
    assert_eq!(ids(store.as_ref(), &owner).await, [sessions[2].id]);
}

pub(crate) async fn a_selection_by_ids_is_one_call(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let mut sessions = Vec::new();
    for n in 0..4 {
        sessions.extend(add_many(store.as_ref(), &user(&format!("user {n}")), 3).await);
    }
    let unknown = store.session_id(&user("bob"), sessions[0].signed_in, random());
    for chosen in [&sessions[1..2], &sessions[2..9]] {
        let mut ids: Vec<_> = chosen.iter().map(|session| session.id).collect();
        ids.push(unknown);
        let limit = u32::try_from(ids.len()).unwrap();
        let selection = Selection::within(TenantFilter::Any).among(ids);
        let batch = store.end_many(&end(store.as_ref(), selection).await, limit).await.unwrap();
        assert_eq!(ended_ids(&batch.ended), sorted(chosen), "a limit of their number is enough");
        assert_eq!(batch.next, None, "the walk is over after one call");
    }
    let last = Selection::session(sessions[0].id, TenantFilter::Is(None));
    let batch = store.end_many(&end(store.as_ref(), last).await, 1).await.unwrap();
    assert_eq!((batch.ended.len(), batch.next), (1, None), "one session is one call");
}

pub(crate) async fn more_ids_than_the_most_are_refused(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let session = add(store.as_ref(), &owner).await;
    let mut ids: Vec<_> = (0..Selection::MAX_IDS)
        .map(|_| store.session_id(&owner, session.signed_in, random()))
        .collect();
    ids.push(session.id);
    let all = end(store.as_ref(), Selection::user(owner.clone())).await;
    let select =
        |ids: &[SessionId]| EndMany { selection: all.selection.clone().among(ids), ..all.clone() };
    let refused = store.end_many(&select(&ids), 500).await.map_err(|error| error.kind());
    assert_eq!(refused, Err(StoreErrorKind::Refused), "more than `Selection::MAX_IDS` ids");
    assert!(store.load(session.id).await.unwrap().is_some(), "a refused call ends nothing");
    let batch = store.end_many(&select(&ids[1..]), 500).await.unwrap();
    assert_eq!(ended_ids(&batch.ended), [session.id], "`Selection::MAX_IDS` ids are taken");
    let none = end_all(store.as_ref(), select(&[]), 10).await;
    assert_eq!(none, [], "no id selects nothing");
}

pub(crate) async fn a_malformed_continuation_is_refused(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user_in("north", "alice");
    let session = add(store.as_ref(), &owner).await;
    let mut cursor = log_end(store.as_ref()).await;
    for selection in [
        Selection::within(TenantFilter::Any),
        Selection::within(TenantFilter::Is(owner.tenant.clone())),
        Selection::user(owner.clone()),
        Selection::session(session.id, TenantFilter::Any),
    ] {
        let walk = end(store.as_ref(), selection).await;
        for after in malformed() {
            let walk = EndMany { after: Some(after), ..walk.clone() };
            let answer = store.end_many(&walk, 10).await.map_err(|error| error.kind());
            assert_eq!(answer, Err(StoreErrorKind::Refused), "{:?}", walk.after);
        }
    }
    assert_eq!(ids(store.as_ref(), &owner).await, [session.id], "a refused call ends nothing");
    assert_eq!(read_log(store.as_ref(), &mut cursor, 10).await, [], "and tells nothing");
}

/// Bytes that no store makes. Some are as long as a number is, or a number and a place, and name what
/// stands behind everything.
pub(super) fn malformed() -> [Continuation; 7] {
    let far = |length| vec![0xff; length];
    [vec![], vec![1], b"elsewhere".to_vec(), far(2), far(8), far(26), far(300)].map(Continuation)
}

pub(crate) async fn a_limit_of_none_counts_as_one(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let sessions = add_many(store.as_ref(), &owner, 3).await;
    let mut walk = end(store.as_ref(), Selection::user(owner)).await;
    let mut ended = Vec::new();
    for _ in 0..100 {
        let batch = store.end_many(&walk, 0).await.unwrap();
        assert!(batch.ended.len() <= 1, "a limit of 0 counts as 1");
        ended.extend(batch.ended);
        match batch.next {
            Some(next) => walk.after = Some(next),
            None => break,
        }
    }
    assert_eq!(ended_ids(&ended), sorted(&sessions), "a limit of 0 counts as 1 and ends all");
}

pub(crate) async fn a_limit_beyond_the_largest_counts_as_the_largest(
    namespace: Arc<dyn Namespace>,
) {
    let store = namespace.connect().await;
    let most = EndedBatch::MAX_LIMIT as usize;
    let owner = user("alice");
    let sessions = add_many(store.as_ref(), &owner, most + 5).await;
    let mut walk = end(store.as_ref(), Selection::user(owner)).await;
    let mut ended = Vec::new();
    for _ in 0..100 {
        let batch = store.end_many(&walk, u32::MAX).await.unwrap();
        assert!(batch.ended.len() <= most, "{} ended in one call", batch.ended.len());
        ended.extend(batch.ended);
        match batch.next {
            Some(next) => walk.after = Some(next),
            None => break,
        }
    }
    assert_eq!(ended_ids(&ended), sorted(&sessions), "all end, in more calls than one");
}

pub(crate) async fn an_exception_is_spared_on_every_call(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    // A walk may meet the exception first or last.
    for (n, place) in [0, 5].into_iter().enumerate() {
        let owner = user(&format!("user {n}"));
        let mut sessions = add_many(store.as_ref(), &owner, 6).await;
        sessions.sort_by_key(|session| session.id);
        let spared = sessions.remove(place);
        for limit in [1, 10] {
            let selection = Selection::user(owner.clone()).except(spared.id);
            let ended = end_all(store.as_ref(), end(store.as_ref(), selection).await, limit).await;
            assert_eq!(ended_ids(&ended), sorted(&sessions), "all but the exception end");
            assert_eq!(ids(store.as_ref(), &owner).await, [spared.id], "the exception stays");
            sessions = add_many(store.as_ref(), &owner, 3).await;
        }
        let by_id = Selection::session(spared.id, TenantFilter::Any).except(spared.id);
        assert_eq!(
            end_all(store.as_ref(), end(store.as_ref(), by_id).await, 10).await,
            [],
            "the exception wins"
        );
    }
}

pub(crate) async fn sessions_that_begin_beside_a_walk_do_not_hide_others(
    namespace: Arc<dyn Namespace>,
) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owners = [user("alice"), user("bob"), user_in("north", "alice")];
    let mut there = Vec::new();
    for n in 0..12 {
        let mut session = session(store.as_ref(), &owners[n % 3], now(store.as_ref()).await);
        session.device_kind = DeviceKind::Tv;
        insert(store.as_ref(), &session).await;
        there.push(session);
    }
    let mut walk =
        end(store.as_ref(), Selection::within(TenantFilter::Any).on(DeviceKind::Tv)).await;
    let mut ended = Vec::new();
    for call in 0..1000 {
        assert!(call < 999, "the walk has no end");
        let batch = store.end_many(&walk, 2).await.unwrap();
        ended.extend(batch.ended);
        // The first walk's calls only: a walk need not come to an end of what begins beside it.
        if call < 12 {
            let mut begun = session(other.as_ref(), &owners[call % 3], now(store.as_ref()).await);
            begun.device_kind = [DeviceKind::Tv, DeviceKind::Web][call % 2].clone();
            insert(other.as_ref(), &begun).await;
        }
        match batch.next {
            Some(next) => walk.after = Some(next),
            None => break,
        }
    }
    let mut once = ended_ids(&ended);
    once.dedup();
    assert_eq!(once.len(), ended.len(), "a session ends once");
    for session in there {
        assert!(once.contains(&session.id), "what was selected during the whole walk has ended");
        assert_eq!(store.load(session.id).await.unwrap(), None);
    }
}

pub(crate) async fn each_end_is_told_once(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let mut sessions = Vec::new();
    for owner in [user("alice"), user_in("north", "alice"), user_in("south", "alice")] {
        sessions.extend(add_many(store.as_ref(), &owner, 4).await);
    }
    let mut cursor = log_end(other.as_ref()).await;
    end_all(store.as_ref(), end(store.as_ref(), Selection::within(TenantFilter::Any)).await, 5)
        .await;
    let told = read_log(other.as_ref(), &mut cursor, 3).await;
    let mut ids: Vec<_> = told.iter().filter_map(|event| event.session).collect();
    ids.sort();
    assert_eq!(ids, sorted(&sessions), "each end is told, once");
}
