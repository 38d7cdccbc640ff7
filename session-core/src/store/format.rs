//! The version of what a store keeps.

use super::StoreError;

/// Refuses what a store keeps where builds of version `known` may not use it: of an older version, and
/// of a newer one unless it says, by `oldest`, that they may. `what` begins the error's text.
///
/// # Errors
/// [`Internal`](crate::StoreErrorKind::Internal), with both versions.
pub fn check_version(
    what: &str,
    version: i64,
    oldest: Option<i64>,
    known: i64,
) -> Result<(), StoreError> {
    if version >= known && oldest.unwrap_or(version) <= known {
        return Ok(());
    }
    let text = format!("{what} version {version}, which builds of version {known} may not use");
    Err(StoreError::internal(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_says_which_older_ones_may_use_what_it_keeps() {
        for (version, oldest, may_use) in [
            (2, None, true),
            (3, None, false),
            (3, Some(3), false),
            (3, Some(2), true),
            (9, Some(1), true),
            (1, Some(1), false),
        ] {
            let checked = check_version("the keys have", version, oldest, 2);
            assert_eq!(checked.is_ok(), may_use, "{version}, {oldest:?}");
        }
        let refused = check_version("the keys have", 3, None, 2).unwrap_err().to_string();
        assert!(
            refused.contains("the keys have version 3, which builds of version 2"),
            "{refused}"
        );
    }
}
