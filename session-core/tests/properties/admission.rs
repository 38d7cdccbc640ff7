use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use session_core::admission::{Admission, Bounds, Newcomer, Standing, decide};
use session_core::policy::{Limit, OnExceed, Policy, PreventConcurrentLogin, Scope};
use session_core::{DeviceKind, EndCause, SessionId, Timestamp};

use crate::strategy::{
    at, client, device, evicting_policy, id, limit, policy, standing, standings,
};

fn newcomer(standing: &Standing) -> Newcomer<'_> {
    Newcomer {
        device_kind: &standing.device_kind,
        client_id: standing.client_id.as_ref(),
        replaces: None,
        ends: None,
    }
}

/// So that nothing but the policy decides.
const BOUNDS: Bounds =
    Bounds { claim_within: Duration::from_secs(120), max_lag: Duration::ZERO, max_sessions: None };

fn in_scope(limit: &Limit, new: &Standing, old: &Standing) -> bool {
    match limit.scope {
        Scope::User => true,
        Scope::DeviceKind => old.device_kind == new.device_kind,
        Scope::Client => old.client_id == new.client_id,
    }
}

fn holds(limit: &Limit, new: &Standing, others: &[&Standing]) -> bool {
    others.iter().filter(|old| in_scope(limit, new, old)).count() < limit.max as usize
}

fn survivors<'a>(sessions: &'a [Standing], ended: &[SessionId]) -> Vec<&'a Standing> {
    sessions.iter().filter(|session| !ended.contains(&session.id)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_limit_is_exceeded_after_any_sign_in(
        policy in policy(), sessions in standings(), new in standing(),
    ) {
        if let Admission::Admit { end } = decide(&policy, &newcomer(&new), &sessions, &BOUNDS, Timestamp::EPOCH) {
            let ended: Vec<_> = end.iter().map(|(id, _)| *id).collect();
            let left = survivors(&sessions, &ended);
            for limit in policy.effective_limits() {
                prop_assert!(holds(&limit, &new, &left), "{limit:?}");
            }
        }
    }

    /// Users of two tenants sign in at random; the policy of each changes in between.
    #[test]
    fn no_limit_is_exceeded_after_any_sequence_and_nobody_else_is_touched(
        steps in vec((0..4_usize, device(), client(), policy()), 1..60),
    ) {
        let mut users: BTreeMap<usize, Vec<Standing>> = BTreeMap::new();
        for (n, (user, device_kind, client_id, policy)) in (1..).zip(steps) {
            let before = users.clone();
            let time = at(n);
            let new = Standing {
                id: id(n), device_kind, client_id,
                signed_in: time, last_accessed: time, deadline: Timestamp::MAX, claimed: true,
            };
            let sessions = users.entry(user).or_default();
            match decide(&policy, &newcomer(&new), sessions, &BOUNDS, Timestamp::EPOCH) {
                Admission::Admit { end } => {
                    sessions.retain(|s| !end.iter().any(|(id, _)| *id == s.id));
                    let left: Vec<_> = sessions.iter().collect();
                    for limit in policy.effective_limits() {
                        prop_assert!(holds(&limit, &new, &left));
                    }
                    sessions.push(new);
                }
                Admission::Reject { .. } => prop_assert_eq!(before.get(&user).cloned().unwrap_or_default(), sessions.clone()),
            }
            for (other, sessions) in before.iter().filter(|(other, _)| **other != user) {
                prop_assert_eq!(&users[other], sessions);
            }
        }
    }

    #[test]
    fn nobody_leaves_who_need_not(
        policy in evicting_policy(), sessions in standings(), new in standing(),
    ) {
        let ended = decide(&policy, &newcomer(&new), &sessions, &BOUNDS, Timestamp::EPOCH).ended_ids();
        for spared in &ended {
            let fewer: Vec<_> = ended.iter().copied().filter(|id| id != spared).collect();
            let left = survivors(&sessions, &fewer);
            prop_assert!(policy.effective_limits().iter().any(|limit| !holds(limit, &new, &left)));
        }
    }

    #[test]
    fn only_sessions_in_a_scope_of_the_policy_leave(
        policy in evicting_policy(), sessions in standings(), new in standing(),
    ) {
        let ended = decide(&policy, &newcomer(&new), &sessions, &BOUNDS, Timestamp::EPOCH).ended_ids();
        let limits = policy.effective_limits();
        for session in sessions.iter().filter(|session| ended.contains(&session.id)) {
            prop_assert!(limits.iter().any(|limit| in_scope(limit, &new, session)));
        }
    }

    #[test]
    fn disabled_ends_nothing(sessions in standings(), new in standing()) {
        let decision = decide(&Policy::default(), &newcomer(&new), &sessions, &BOUNDS, Timestamp::EPOCH);
        prop_assert_eq!(decision, Admission::Admit { end: Vec::new() });
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(
        policy in policy(),
        (sessions, shuffled) in standings().prop_flat_map(|s| (Just(s.clone()), Just(s).prop_shuffle())),
        new in standing(),
    ) {
        let decide = |sessions: &[Standing]| decide(&policy, &newcomer(&new), sessions, &BOUNDS, Timestamp::EPOCH);
        prop_assert_eq!(decide(&sessions), decide(&shuffled));
    }

    #[test]
    fn within_one_limit_the_first_in_order_leave(
        limit in limit(vec![OnExceed::EvictOldest, OnExceed::EvictLeastRecentlyUsed]),
        sessions in standings(), new in standing(),
    ) {
        let ended = decide(&Policy::limit(limit), &newcomer(&new), &sessions, &BOUNDS, Timestamp::EPOCH).ended_ids();
        let mut scope: Vec<_> = sessions.iter().filter(|s| in_scope(&limit, &new, s)).collect();
        scope.sort_by_key(|s| match limit.on_exceed {
            OnExceed::EvictLeastRecentlyUsed => (s.last_accessed, s.id),
            OnExceed::EvictOldest | OnExceed::Reject => (s.signed_in, s.id),
        });
        let surplus = (scope.len() + 1).saturating_sub(limit.max as usize);
        let mut expected: Vec<_> = scope[..surplus].iter().map(|s| s.id).collect();
        expected.sort();
        prop_assert_eq!(ended, expected);
    }

    #[test]
    fn reject_refuses_exactly_at_the_limit(
        limit in limit(vec![OnExceed::Reject]), sessions in standings(), new in standing(),
    ) {
        let full = !holds(&limit, &new, &sessions.iter().collect::<Vec<_>>());
        let decision = decide(&Policy::limit(limit), &newcomer(&new), &sessions, &BOUNDS, Timestamp::EPOCH);
        match decision {
            Admission::Reject { limit: reached, by } => {
                prop_assert!(full && reached == limit);
                let mut counted: Vec<_> = sessions.iter().filter(|s| in_scope(&limit, &new, s)).collect();
                counted.sort_by_key(|s| std::cmp::Reverse((s.signed_in, s.id)));
                let counted: Vec<_> = counted.iter().map(|s| s.id).collect();
                prop_assert_eq!(&by[..], &counted[..counted.len().min(Admission::MAX_COUNTED)]);
            }
            Admission::Admit { end } => prop_assert!(!full && end.is_empty()),
        }
    }

    #[test]
    fn an_expired_session_takes_up_no_place(
        policy in policy(), mut sessions in standings(), new in standing(), line in 0..40_u64,
    ) {
        sessions.iter_mut().for_each(|session| session.deadline = session.last_accessed);
        let live: Vec<_> = sessions.iter().filter(|s| s.deadline > at(line)).cloned().collect();
        let with = decide(&policy, &newcomer(&new), &sessions, &BOUNDS, at(line));
        match (with, decide(&policy, &newcomer(&new), &live, &BOUNDS, at(line))) {
            (Admission::Admit { end }, Admission::Admit { end: without }) => {
                let (gone, left): (Vec<_>, Vec<_>) =
                    end.into_iter().partition(|(_, cause)| *cause == EndCause::Expired);
                prop_assert_eq!(left, without);
                prop_assert_eq!(gone.len(), sessions.len() - live.len());
            }
            (with, without) => prop_assert_eq!(with, without),
        }
    }

    /// Of those past their deadline, some may be in use on a node that has not written back yet. One
    /// leaves only for its place, before any session that is not past its deadline, and refuses nobody.
    #[test]
    fn a_session_whose_use_may_be_on_its_way_leaves_for_its_place_only(
        limit in limit(vec![OnExceed::EvictOldest, OnExceed::EvictLeastRecentlyUsed, OnExceed::Reject]),
        mut sessions in standings(), new in standing(), line in 0..40_u64,
    ) {
        sessions.iter_mut().for_each(|session| session.deadline = session.last_accessed);
        let bounds = Bounds { max_lag: Duration::from_secs(50), ..BOUNDS };
        let decide = |policy| decide(&policy, &newcomer(&new), &sessions, &bounds, at(line));
        prop_assert_eq!(decide(Policy::default()), Admission::Admit { end: Vec::new() });
        let counted: Vec<_> = sessions.iter().filter(|old| in_scope(&limit, &new, old)).collect();
        let past = counted.iter().filter(|session| session.deadline <= at(line)).count();
        match decide(Policy::limit(limit)) {
            Admission::Reject { .. } => prop_assert!(counted.len() - past >= limit.max as usize),
            Admission::Admit { end } => {
                let surplus = (counted.len() + 1).saturating_sub(limit.max as usize);
                prop_assert_eq!(end.len(), surplus, "as many as there must be");
                let expired = end.iter().filter(|(_, cause)| *cause == EndCause::Expired);
                prop_assert_eq!(expired.count(), surplus.min(past), "they first");
            }
        }
    }

    #[test]
    fn signing_in_again_replaces_ones_own_session(
        sessions in standings().prop_filter("needs one", |s| !s.is_empty()), new in standing(),
        lowered in 0..24_usize,
    ) {
        // The limit may have been lowered since.
        let max = u32::try_from(sessions.len().saturating_sub(lowered).max(1)).unwrap();
        let policy = Policy::limit(Limit { max, scope: Scope::User, on_exceed: OnExceed::Reject });
        let own = Some(sessions[0].id);
        let decide = |newcomer: &Newcomer<'_>| decide(&policy, newcomer, &sessions, &BOUNDS, Timestamp::EPOCH);
        let decision = decide(&Newcomer { replaces: own, ..newcomer(&new) });
        prop_assert_eq!(decision, Admission::Admit { end: vec![(sessions[0].id, EndCause::Replaced)] });
        let decision = decide(&Newcomer { ends: own, ..newcomer(&new) });
        prop_assert_eq!(decision, Admission::Admit { end: vec![(sessions[0].id, EndCause::Revoked)] });
        let foreign = Some(SessionId::from_bytes([0xff; 16]));
        let decision = decide(&Newcomer { ends: foreign, ..newcomer(&new) });
        prop_assert!(matches!(decision, Admission::Reject { .. }), "it takes no session's place");
    }

    /// Whatever the limits: a session that was claimed leaves only if every unclaimed one of the scope
    /// has left, and a refusal counts claimed sessions only.
    #[test]
    fn an_abandoned_session_leaves_first_and_refuses_nobody(
        limit in limit(vec![OnExceed::EvictOldest, OnExceed::EvictLeastRecentlyUsed, OnExceed::Reject]),
        mut sessions in standings(), new in standing(), unclaimed in vec(any::<bool>(), 24),
    ) {
        for (session, unclaimed) in sessions.iter_mut().zip(unclaimed) {
            session.claimed = !unclaimed;
        }
        let now = at(20 + BOUNDS.claim_within.as_secs());
        let counted: Vec<_> = sessions.iter().filter(|old| in_scope(&limit, &new, old)).collect();
        let claimed = counted.iter().filter(|old| old.claimed).count();
        match decide(&Policy::limit(limit), &newcomer(&new), &sessions, &BOUNDS, now) {
            Admission::Reject { .. } => prop_assert!(claimed >= limit.max as usize),
            Admission::Admit { end } => {
                prop_assert!(counted.len() - end.len() < limit.max as usize);
                let left = |old: &&&Standing| end.iter().any(|(id, _)| *id == old.id);
                let claimed_left = counted.iter().filter(left).any(|old| old.claimed);
                let abandoned_stay = counted.iter().filter(|old| !old.claimed).any(|old| !left(&old));
                prop_assert!(!(claimed_left && abandoned_stay));
            }
        }
        // A moment earlier they count as any other.
        let early = at(BOUNDS.claim_within.as_secs()).minus(Duration::from_micros(1));
        let as_claimed: Vec<_> =
            sessions.iter().cloned().map(|session| Standing { claimed: true, ..session }).collect();
        let decide = |sessions: &[Standing]| decide(&Policy::limit(limit), &newcomer(&new), sessions, &BOUNDS, early);
        prop_assert_eq!(decide(&sessions), decide(&as_claimed));
    }

    #[test]
    fn one_user_never_has_more_sessions_than_the_ceiling(
        policy in policy(), sessions in standings(), new in standing(), max in 1..9_u32,
    ) {
        let bounds = Bounds { max_sessions: Some(max), ..BOUNDS };
        if let Admission::Admit { end } = decide(&policy, &newcomer(&new), &sessions, &bounds, Timestamp::EPOCH) {
            prop_assert!(sessions.len() - end.len() < max as usize);
        }
    }
}

#[test]
fn the_narrow_limit_decides_first_and_counts_for_the_wide_one() {
    let session = |n, device_kind| Standing {
        id: id(n),
        device_kind,
        client_id: None,
        signed_in: at(n),
        last_accessed: at(n),
        deadline: Timestamp::MAX,
        claimed: true,
    };
    let sessions = [session(1, DeviceKind::Mobile), session(2, DeviceKind::Web)];
    let policy = Policy {
        prevent_concurrent_login: PreventConcurrentLogin::LogoutFromSameTypeDevices,
        limits: vec![Limit { max: 2, scope: Scope::User, on_exceed: OnExceed::EvictOldest }],
        newer: false,
    };
    let new =
        Newcomer { device_kind: &DeviceKind::Web, client_id: None, replaces: None, ends: None };
    assert_eq!(decide(&policy, &new, &sessions, &BOUNDS, Timestamp::EPOCH).ended_ids(), [id(2)]);
}

#[test]
fn ending_ten_thousand_sessions_is_quick() {
    let sessions: Vec<_> = (0..10_000)
        .map(|n| Standing {
            id: id(n),
            device_kind: DeviceKind::Web,
            client_id: None,
            signed_in: at(n),
            last_accessed: at(n),
            deadline: Timestamp::MAX,
            claimed: true,
        })
        .collect();
    let policy = Policy::from(PreventConcurrentLogin::LogoutFromAllDevices);
    let new =
        Newcomer { device_kind: &DeviceKind::Web, client_id: None, replaces: None, ends: None };
    let begun = std::time::Instant::now();
    assert_eq!(
        decide(&policy, &new, &sessions, &BOUNDS, Timestamp::EPOCH).ended_ids().len(),
        10_000
    );
    assert!(begun.elapsed().as_millis() < 500, "{:?}", begun.elapsed());
}

/// Neither one past its deadline nor one that nobody claimed makes room for more than there is, and a
/// refusal names none of them.
#[test]
fn a_place_that_was_free_already_is_no_room_for_a_newcomer() {
    let now = at(1_000);
    let session = |n, deadline, claimed| Standing {
        id: id(n),
        device_kind: DeviceKind::Web,
        client_id: None,
        signed_in: at(0),
        last_accessed: at(0),
        deadline,
        claimed,
    };
    let live = [session(1, Timestamp::MAX, true), session(2, Timestamp::MAX, true)];
    let gone = [session(3, now, true), session(4, Timestamp::MAX, false)];
    let limit = Limit { max: 1, scope: Scope::User, on_exceed: OnExceed::Reject };
    let sessions = [live.clone(), gone.clone()].concat();
    let chosen = Newcomer { ends: Some(gone[0].id), ..newcomer(&live[0]) };
    let bounds = Bounds { max_lag: Duration::from_secs(45), ..BOUNDS };
    let decision = decide(&Policy::limit(limit), &chosen, &sessions, &bounds, now);
    let by = vec![live[1].id, live[0].id];
    assert_eq!(decision, Admission::Reject { limit, by });
}
