//! Whether a store reads a clock of its host: what it stamps and what it deletes by age goes by its
//! server's (G16).

use std::path::{Path, PathBuf};

use crate::run::{Failure, root};

const STORES: [&str; 4] =
    ["session-store-memory", "session-store-mongo", "session-store-redis", "session-store-sql"];

/// How the host's time of day is read. A monotonic clock measures waiting only and is no matter.
const HOST_CLOCKS: [&str; 4] = ["SystemTime", "Timestamp::now", "DateTime::now", "Utc::now"];

/// The files that may, and why.
const ALLOWED: [(&str, &str); 4] = [
    ("session-store-memory/src/lib.rs", "the store is in this process"),
    ("session-store-mongo/src/plans.rs", "a test, whose plans are the same at any time"),
    ("session-store-redis/src/active.rs", "its age of a read also counts while the host sleeps"),
    ("session-store-sql/src/sqlite/clock.rs", "the store is a file of this host"),
];

/// Checks the sources of the stores, and counts their files.
pub(crate) fn check() -> Result<usize, Failure> {
    let mut files = Vec::new();
    for store in STORES {
        collect(&root().join(store).join("src"), &mut files)
            .map_err(|error| Failure::new(format!("cannot read the sources: {error}")))?;
    }
    for (file, text) in &files {
        let allowed = ALLOWED.iter().find(|(allowed, _)| file == Path::new(allowed));
        let file = file.display();
        match (read_by(text), allowed) {
            (Some(clock), None) => {
                return Err(Failure::new(format!("{file} reads a clock of its host: {clock}")));
            }
            (None, Some((_, reason))) => {
                let stale = format!("{file} reads no clock of its host any more ({reason})");
                return Err(Failure::new(stale));
            }
            _ => {}
        }
    }
    Ok(files.len())
}

/// The clock of the host that this source reads.
fn read_by(text: &str) -> Option<&'static str> {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let reads = |clock: &&str| text.lines().filter(is_code).any(|line| line.contains(clock));
    HOST_CLOCKS.iter().copied().find(reads)
}

/// All sources below a folder, by their path in the repository.
fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            found.push((path.strip_prefix(root()).unwrap_or(&path).to_owned(), text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_the_host_is_found_in_code_only() {
        for (text, clock) in [
            ("let at = DateTime::now();", Some("DateTime::now")),
            ("use std::time::{Duration, SystemTime};", Some("SystemTime")),
            ("let at = chrono::Utc::now();", Some("Utc::now")),
            ("    /// Unlike `SystemTime`.\n    // Timestamp::now", None),
            ("let begun = Instant::now(); let now = self.clock().await?;", None),
        ] {
            assert_eq!(read_by(text), clock, "{text}");
        }
    }

    #[test]
    fn the_stores_go_by_their_servers_clocks() {
        assert!(check().unwrap() > 40);
    }
}
