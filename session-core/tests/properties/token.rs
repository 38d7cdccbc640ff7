use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use session_core::rotation::{Recognition, TokenState};
use session_core::{SessionId, Token};

use crate::strategy::at;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_bytes_parse_or_do_not_but_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Some(token) = Token::parse(&bytes) {
            prop_assert_eq!(token.expose().into_bytes(), bytes.to_ascii_lowercase());
        }
    }

    /// At any time exactly one token rotates; one older is accepted within the grace; every
    /// other is refused, and proves theft once the grace is over.
    #[test]
    fn rotation_is_single_use_outside_the_grace(
        gaps in vec(0..30_u64, 1..12), grace in 0..20_u64, wait in 0..40_u64,
    ) {
        let grace = Duration::from_secs(grace);
        let first = Token::new(SessionId::from_random([1; 16]), [1; 12], [0; 16]);
        let mut tokens = vec![first.clone()];
        let mut state = TokenState::new(&first);
        let mut now = 0;
        for (n, gap) in (1..).zip(gaps) {
            now += gap;
            let next = first.rotated([n; 16]);
            state = state.rotated(&next, at(now));
            tokens.push(next);
        }
        let last = tokens.len() - 1;
        let in_grace = Duration::from_secs(wait) < grace;
        for (n, token) in tokens.iter().enumerate() {
            let expected = match (last - n, in_grace) {
                (0, _) => Recognition::Current,
                (1, true) => Recognition::InGrace,
                (_, true) => Recognition::Superseded,
                (_, false) => Recognition::Reused,
            };
            prop_assert_eq!(state.recognise(token, grace, at(now + wait)), expected);
        }
    }
}
