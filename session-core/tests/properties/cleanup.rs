use std::time::Duration;

use proptest::prelude::*;
use session_core::checker::{Timeouts, WriteBack};
use session_core::cleanup::{Cleanup, MAX_CLOCK_SKEW};

use crate::strategy::at;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever a node has not written back yet, and however its clock differs, counts as use.
    #[test]
    fn cleanup_never_takes_an_active_session(
        used in 100_000..10_000_000_u64, distance in -50_i64..50,
        lag in 0..=30_u64, skew in 0..=5_u64,
        idle in prop::option::of(60..3_000_000_u64),
    ) {
        let timeouts = Timeouts::none().with_idle(idle.map(Duration::from_secs));
        let (cleanup, write_back) = (Cleanup::default(), WriteBack::default());
        let stored = at(used - lag - skew);
        let allowed = idle.map_or(cleanup.inactive_for.as_secs(), |idle| idle.min(cleanup.inactive_for.as_secs()));
        // Close to the line, where it matters.
        let age = allowed.saturating_add_signed(distance);
        let rule = cleanup.rule(&timeouts, &write_back, at(used + age));
        if age < allowed {
            prop_assert!(!rule.covers(stored, None));
        }
        let slack = write_back.max_lag().as_secs() + MAX_CLOCK_SKEW.as_secs() + 1;
        if age > allowed + slack {
            prop_assert!(rule.covers(at(used), None));
        }
    }

    #[test]
    fn absolute_expiry_is_swept_once_it_is_past_on_every_clock(expiry in 0..1000_u64, now in 0..2000_u64) {
        let rule = Cleanup::default().rule(&Timeouts::none(), &WriteBack::default(), at(now));
        prop_assert_eq!(rule.covers(at(now), Some(at(expiry))), expiry + MAX_CLOCK_SKEW.as_secs() <= now);
    }
}
