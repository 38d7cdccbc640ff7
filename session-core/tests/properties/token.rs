use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use session_core::rotation::{self, Recognition};
use session_core::usage::Timeouts;
use session_core::{FleetKey, Session, SessionId, Token, UserKey};

use crate::strategy::at;

fn begun() -> (Session, Token) {
    let key = FleetKey::from_bytes([0; 32]);
    let token = Token::new(&key, SessionId::from_random([1; 16]), [1; 12], [0; 16]);
    (Session::new(UserKey::new("alice".parse().unwrap()), &token, at(0)), token)
}

/// What happens to a rotation's answer.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Lost,
    Used,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_bytes_parse_or_do_not_but_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Some(token) = Token::parse(&bytes) {
            prop_assert_eq!(token.expose().into_bytes(), bytes.to_ascii_lowercase());
        }
    }

    /// However many rotations and lost answers there are: what the owner holds is good at any time;
    /// the token before it is accepted within the grace; every older one is refused, and proves theft
    /// once the grace is over.
    #[test]
    fn the_owner_stays_in_and_a_copy_is_found(
        steps in vec((0..30_u64, prop::sample::select(vec![Answer::Lost, Answer::Used])), 1..12),
        grace in 0..20_u64, wait in 0..40_u64,
    ) {
        let grace = Duration::from_secs(grace);
        let (mut session, first) = begun();
        let mut held = vec![first];
        let mut now = 0;
        for (salt, (gap, answer)) in (1..).zip(steps) {
            now += gap;
            let owner = held.last().unwrap();
            let (stored, next) = rotation::begin(&session, owner, [salt; 16], None, at(now));
            session = stored.unwrap_or(session);
            let repeated = rotation::begin(&session, owner, [99; 16], None, at(now)).1;
            prop_assert_eq!(repeated.digest(), next.digest());
            prop_assert_eq!(session.token.recognise(owner, grace, at(now + wait)), Recognition::Current);
            if let Answer::Used = answer {
                prop_assert_eq!(session.token.recognise(&next, grace, at(now)), Recognition::Successor);
                session = rotation::confirm(&session, &next, &Timeouts::default(), at(now));
                held.push(next);
            }
        }
        let used = session.token.retired.as_ref().map_or(at(0), |retired| retired.at);
        let in_grace = at(now + wait) < used.plus(grace);
        let last = held.len() - 1;
        for (n, token) in held.iter().enumerate() {
            let expected = match (last - n, in_grace) {
                (0, _) => Recognition::Current,
                (1, true) => Recognition::InGrace,
                (_, true) => Recognition::Superseded,
                (_, false) => Recognition::Reused,
            };
            prop_assert_eq!(session.token.recognise(token, grace, at(now + wait)), expected);
        }
    }
}
