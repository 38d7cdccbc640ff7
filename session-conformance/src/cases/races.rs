//! Calls at the same moment, on several nodes.

use std::sync::Arc;
use std::time::Duration;

use session_core::session::note_ip_address;
use session_core::store::{Outcome, Selection, TenantFilter, Touch};
use session_core::{EndCause, EventKind, Session};
use tokio::task::JoinSet;

use crate::Namespace;
use crate::sample::{
    HOUR, SECOND, add, add_many, address, change_at, commit, end, end_all, ended_ids, ids, insert,
    insert_all, log_end, now, read_log, revoke, rotated, session, sorted, sweep_all, updates, used,
    user, user_in, version,
};

pub(crate) async fn a_rotation_races_a_revocation(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    for round in 0..50 {
        let session = add(store.as_ref(), &owner).await;
        let rotation = updates(&rotated(&session, session.signed_in));
        let rotate = async || commit(other.as_ref(), &owner, vec![rotation.clone()]).await;
        let revoking = revoke(store.as_ref(), session.id);
        // Either may come first.
        let revoked = if round % 2 == 0 {
            tokio::join!(rotate(), revoking).1
        } else {
            tokio::join!(revoking, rotate()).0
        };
        assert_eq!(revoked, 1);
        assert_eq!(rotate().await, Outcome::Conflict, "a late rotation finds nothing");
        for node in [&store, &other] {
            assert_eq!(node.load(session.id).await.unwrap(), None, "a rotation brought it back");
        }
    }
}

pub(crate) async fn a_touch_races_a_revocation(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    for round in 0..50 {
        let session = add(store.as_ref(), &user("alice")).await;
        assert!(other.load(session.id).await.unwrap().is_some());
        let batch = [used(session.id, session.signed_in.plus(SECOND))];
        let touching = other.touch(&batch);
        let revoking = revoke(store.as_ref(), session.id);
        // Either may come first.
        let revoked = if round % 2 == 0 {
            tokio::join!(touching, revoking).1
        } else {
            tokio::join!(revoking, touching).0
        };
        assert_eq!(revoked, 1);
        assert_eq!(other.touch(&batch).await.unwrap(), [session.id], "a late touch finds nothing");
        for node in [&store, &other] {
            assert_eq!(node.load(session.id).await.unwrap(), None, "a touch brought it back");
        }
    }
}

/// A write-back and a new record are of different fields, so both hold.
pub(crate) async fn a_touch_races_a_rotation(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let owner = user("alice");
    let begun = now(store.as_ref()).await;
    let mut session = session(store.as_ref(), &owner, begun);
    session.deadline = begun.plus(HOUR);
    insert(store.as_ref(), &session).await;
    for round in 1..=50 {
        let next = rotated(&session, begun);
        let expected = version(store.as_ref(), &owner).await;
        let rotation = change_at(&owner, expected, vec![updates(&next)], begun);
        let touch = Touch {
            deadline: begun.plus(HOUR + SECOND * round),
            claimed: true,
            ip_addresses: vec![address(u8::try_from(round).unwrap())],
            ..used(session.id, begun.plus(SECOND * round))
        };
        let batch = std::slice::from_ref(&touch);
        // Either may come first.
        let (outcome, gone) = if round % 2 == 0 {
            tokio::join!(store.commit(&rotation), other.touch(batch))
        } else {
            let (gone, outcome) = tokio::join!(other.touch(batch), store.commit(&rotation));
            (outcome, gone)
        };
        assert_eq!(outcome.unwrap(), Outcome::Done, "a touch stands in no rotation's way");
        assert_eq!(gone.unwrap(), [], "nor does a rotation in a touch's");
        let mut addresses = session.ip_addresses;
        touch.ip_addresses.iter().for_each(|ip| note_ip_address(&mut addresses, *ip));
        session = Session { ip_addresses: addresses, claimed: true, ..next };
        session.last_accessed = touch.last_accessed;
        session.deadline = touch.deadline;
        for node in [&store, &other] {
            let read = node.load(session.id).await.unwrap().unwrap().session;
            assert_eq!(read, session, "the new record with its use: neither undoes the other");
        }
    }
}

pub(crate) async fn of_two_rotations_one_wins(namespace: Arc<dyn Namespace>) {
    let nodes = [namespace.connect().await, namespace.connect().await, namespace.connect().await];
    let owner = user("alice");
    let mut session = add(nodes[0].as_ref(), &owner).await;
    for round in 0..20 {
        let expected = version(nodes[0].as_ref(), &owner).await;
        let mut racing = JoinSet::new();
        for n in 0..3 {
            let node = Arc::clone(&nodes[(n + round) % 3]);
            let next = rotated(&session, session.signed_in);
            let commit = change_at(&owner, expected, vec![updates(&next)], session.signed_in);
            racing.spawn(async move { (node.commit(&commit).await.unwrap(), next) });
        }
        let outcomes = racing.join_all().await;
        let done: Vec<_> = outcomes.iter().filter(|(o, _)| *o == Outcome::Done).collect();
        let [(_, winner)] = done.as_slice() else {
            panic!("of three rotations one wins: {done:?}")
        };
        for node in &nodes {
            let read = node.load(session.id).await.unwrap().unwrap().session;
            assert_eq!(read, *winner, "every node reads the winner's token");
        }
        session = winner.clone();
    }
}

pub(crate) async fn a_sweep_races_touches(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    for round in 0..15 {
        let begun = now(store.as_ref()).await;
        let owner = user(&format!("user {}", round % 4));
        let mut sessions = Vec::new();
        for _ in 0..4 {
            let deadline = begun.minus(SECOND);
            sessions.push(Session { deadline, ..session(store.as_ref(), &owner, begun) });
        }
        insert_all(store.as_ref(), &sessions).await;
        let touch = |s: &Session| used(s.id, begun.plus(HOUR));
        let touches: Vec<_> = sessions.iter().map(touch).collect();
        let touching = async { other.touch(&touches).await.unwrap() };
        let sweeping = sweep_all(store.as_ref(), Duration::ZERO, 3);
        // Either may come first.
        let (gone, swept) = if round % 2 == 0 {
            tokio::join!(touching, sweeping)
        } else {
            let (swept, gone) = tokio::join!(sweeping, touching);
            (gone, swept)
        };
        let swept = ended_ids(&swept);
        for session in &sessions {
            let ended = swept.contains(&session.id);
            let alive = other.load(session.id).await.unwrap().is_some();
            assert_ne!(ended, alive, "a session was swept or is there");
            let found = !gone.contains(&session.id);
            assert_eq!(found, alive, "a session that was touched in time is not swept");
        }
        end_all(store.as_ref(), end(store.as_ref(), Selection::user(owner)).await, 10).await;
    }
}

pub(crate) async fn an_end_of_what_is_unused_races_touches(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    for round in 0..20 {
        let begun = now(store.as_ref()).await;
        let owner = user(&format!("user {}", round % 4));
        let mut sessions = Vec::new();
        for _ in 0..4 {
            sessions.push(session(store.as_ref(), &owner, begun));
        }
        insert_all(store.as_ref(), &sessions).await;
        let touches: Vec<_> = sessions.iter().map(|s| used(s.id, begun.plus(HOUR))).collect();
        let touching = async { other.touch(&touches).await.unwrap() };
        let unused = Selection::user(owner.clone()).last_accessed_before(begun.plus(SECOND));
        let ids: Vec<_> = sessions.iter().map(|session| session.id).collect();
        let unused = if round % 4 < 2 { unused } else { unused.among(ids) };
        let walk = end(store.as_ref(), unused).await;
        let ending = end_all(store.as_ref(), walk, 3);
        // Either may come first.
        let (gone, ended) = if round % 2 == 0 {
            tokio::join!(touching, ending)
        } else {
            let (ended, gone) = tokio::join!(ending, touching);
            (gone, ended)
        };
        let ended = ended_ids(&ended);
        for session in &sessions {
            let has_ended = ended.contains(&session.id);
            let alive = other.load(session.id).await.unwrap().is_some();
            assert_ne!(has_ended, alive, "a session has ended or is there");
            let found = !gone.contains(&session.id);
            assert_eq!(found, alive, "a session that was touched in time does not end");
        }
        end_all(store.as_ref(), end(store.as_ref(), Selection::user(owner)).await, 10).await;
    }
}

pub(crate) async fn a_sweep_races_rotations(namespace: Arc<dyn Namespace>) {
    let (store, other) = (namespace.connect().await, namespace.connect().await);
    let mut cursor = log_end(store.as_ref()).await;
    for round in 0..20 {
        let begun = now(store.as_ref()).await;
        let owner = user(&format!("user {}", round % 3));
        let mut session = session(store.as_ref(), &owner, begun);
        session.deadline = begun.minus(SECOND);
        insert(store.as_ref(), &session).await;
        let expected = version(other.as_ref(), &owner).await;
        let rotation = updates(&rotated(&session, begun));
        let rotation = change_at(&owner, expected, vec![rotation], begun);
        let rotating = async { other.commit(&rotation).await.unwrap() };
        let sweeping = sweep_all(store.as_ref(), Duration::ZERO, 3);
        let (outcome, swept) = if round % 2 == 0 {
            tokio::join!(rotating, sweeping)
        } else {
            let (swept, outcome) = tokio::join!(sweeping, rotating);
            (outcome, swept)
        };
        assert_eq!(ended_ids(&swept), [session.id], "a rotation is no use: it is swept");
        assert_eq!(other.load(session.id).await.unwrap(), None, "no rotation brings it back");
        let told = read_log(store.as_ref(), &mut cursor, 10).await;
        let kinds: Vec<_> = told.iter().map(|event| event.kind).collect();
        let ended = EventKind::Ended(EndCause::Expired);
        match outcome {
            Outcome::Done => assert_eq!(kinds, [EventKind::Created, EventKind::Rotated, ended]),
            Outcome::Conflict => assert_eq!(kinds, [EventKind::Created, ended]),
        }
    }
}

pub(crate) async fn end_many_races_sign_ins(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owners: Vec<_> = (0..3).map(|n| user_in("north", &format!("user {n}"))).collect();
    let mut cursor = log_end(store.as_ref()).await;
    let mut there = Vec::new();
    for owner in &owners {
        there.extend(add_many(store.as_ref(), owner, 5).await);
    }
    let mut signing_in = JoinSet::new();
    for owner in owners.clone() {
        let node = namespace.connect().await;
        signing_in.spawn(async move {
            let mut begun = Vec::new();
            for _ in 0..8 {
                begun.push(add(node.as_ref(), &owner).await);
            }
            begun
        });
    }
    let tenant = TenantFilter::Is(owners[0].tenant.clone());
    let mut ended =
        end_all(store.as_ref(), end(store.as_ref(), Selection::within(tenant.clone())).await, 2)
            .await;
    for session in &there {
        let during = ended.iter().filter(|ended| ended.id == session.id).count();
        assert_eq!(during, 1, "what was there before the walk ends in it, once");
    }
    let begun: Vec<_> = signing_in.join_all().await.into_iter().flatten().collect();
    for owner in &owners {
        let of_owner = begun.iter().filter(|session| session.owner == *owner);
        let alive = of_owner.filter(|s| ended.iter().all(|ended| ended.id != s.id));
        let alive = sorted(alive);
        assert_eq!(ids(store.as_ref(), owner).await, alive, "a sign-in has ended or is there");
    }
    ended.extend(
        end_all(store.as_ref(), end(store.as_ref(), Selection::within(tenant)).await, 2).await,
    );
    there.extend(begun);
    assert_eq!(ended_ids(&ended), sorted(&there), "each session ends once, in either walk");
    let told = read_log(store.as_ref(), &mut cursor, 100).await;
    for session in there {
        let of_session = told.iter().filter(|event| event.session == Some(session.id));
        let kinds: Vec<_> = of_session.map(|event| event.kind).collect();
        let expected = [EventKind::Created, EventKind::Ended(EndCause::Revoked)];
        assert_eq!(kinds, expected, "a session begins and ends once");
    }
}

pub(crate) async fn two_walks_end_each_session_once(namespace: Arc<dyn Namespace>) {
    let store = namespace.connect().await;
    let owner = user("alice");
    let sessions = add_many(store.as_ref(), &owner, 24).await;
    let mut cursor = log_end(store.as_ref()).await;
    let mut walks = JoinSet::new();
    for _ in 0..3 {
        let node = namespace.connect().await;
        let walk = end(node.as_ref(), Selection::user(owner.clone())).await;
        walks.spawn(async move { end_all(node.as_ref(), walk, 3).await });
    }
    let ended: Vec<_> = walks.join_all().await.into_iter().flatten().collect();
    assert_eq!(ended_ids(&ended), sorted(&sessions), "a call returns what it ended itself");
    let told = read_log(store.as_ref(), &mut cursor, 50).await;
    assert_eq!(told.len(), sessions.len(), "each end is told once");
}
