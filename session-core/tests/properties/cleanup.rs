use std::time::Duration;

use proptest::prelude::*;
use session_core::cleanup::{Cleanup, UNCLAIMED_FOR};
use session_core::usage::{Timeouts, WriteBack};
use session_core::{FleetKey, Session, SessionId, Timestamp, Token, UserKey};

use crate::strategy::at;

fn session(signed_in: u64) -> Session {
    let key = FleetKey::from_bytes([0; 32]);
    let token = Token::new(&key, SessionId::from_bytes([0; 16]), [0; 12], [0; 16]);
    Session::new(UserKey::new("alice".parse().unwrap()), &token, at(signed_in))
}

const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a run at `now` ends a session with this deadline.
fn is_swept(deadline: Timestamp, now: u64) -> bool {
    deadline < at(now).minus(WriteBack::default().max_lag(STORE_TIMEOUT))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever a node has not written back yet, and however its clock differs, counts as use.
    #[test]
    fn cleanup_never_takes_an_active_session(
        used in 100_000..10_000_000_u64, distance in -50_i64..50,
        lag in 0..=40_u64, skew in 0..=5_u64,
        idle in prop::option::of(60..3_000_000_u64),
        own in prop::option::of(60..9_000_000_u64),
    ) {
        let timeouts = Timeouts::none().with_idle(idle.map(Duration::from_secs));
        let cleanup = Cleanup::default();
        let own_timeouts = own.map(|own| Timeouts::none().with_idle(Duration::from_secs(own)));
        let session = Session { timeouts: own_timeouts, ..session(0) };
        let deadline = |used| session.deadline_at(&timeouts, &cleanup, used, true);
        let inactive = cleanup.inactive_for.as_secs();
        let allowed = own.unwrap_or_else(|| idle.map_or(inactive, |idle| idle.min(inactive)));
        // Close to the line, where it matters.
        let age = allowed.saturating_add_signed(distance);
        if age < allowed {
            prop_assert!(!is_swept(deadline(at(used - lag - skew)), used + age));
        }
        let slack = WriteBack::default().max_lag(STORE_TIMEOUT).as_secs() + 1;
        if age > allowed + slack {
            prop_assert!(is_swept(deadline(at(used)), used + age));
        }
    }

    #[test]
    fn the_earliest_end_is_the_deadline(
        expiry in prop::option::of(0..3_000_000_u64), signed_in in 0..1000_u64, claimed in any::<bool>(),
    ) {
        let session = Session { absolute_expiry: expiry.map(at), ..session(signed_in) };
        let cleanup = Cleanup::default();
        let deadline = session.deadline_at(&Timeouts::none(), &cleanup, at(signed_in), claimed);
        let unused = at(signed_in).plus(cleanup.inactive_for);
        let unclaimed = at(signed_in).plus(UNCLAIMED_FOR);
        let ends = [expiry.map(at), Some(unused), (!claimed).then_some(unclaimed)];
        prop_assert_eq!(deadline, ends.into_iter().flatten().min().unwrap());
    }
}
