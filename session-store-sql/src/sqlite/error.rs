//! What SQLite's codes mean. An extended code has its primary one in the lowest byte.

use session_core::StoreError;

pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    crate::error::store_error(error, |database| is_passing(database.code().as_deref()))
}

/// Whether another process is at work on the file, so that the call may be made again.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    primary(code.as_deref()) == Some(5)
}

/// Busy, locked, out of memory or disk, I/O error, cannot open, the locks of a log that others recover.
fn is_passing(code: Option<&str>) -> bool {
    matches!(primary(code), Some(5 | 6 | 7 | 10 | 13..=15))
}

fn primary(code: Option<&str>) -> Option<u32> {
    code.and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extended_code_means_what_its_primary_one_does() {
        // Busy, and so with a snapshot; an I/O error, and so of a read; cannot open; the
        // locks of a log that others recover.
        for passing in ["5", "517", "10", "266", "14", "15"] {
            assert!(is_passing(Some(passing)), "{passing}");
        }
        // Busy, also while a log is recovered, and with a snapshot.
        for busy in ["5", "261", "517"] {
            assert_eq!(primary(Some(busy)), Some(5), "{busy}");
        }
        // An error of a statement; a constraint, and so of a primary key; no code of SQLite.
        for lasting in [Some("1"), Some("19"), Some("1555"), Some("HY000"), None] {
            assert!(!is_passing(lasting), "{lasting:?}");
        }
    }
}
