//! What the documents say of the house, checked: the arrows of `ARCHITECTURE.md`, the tests of
//! `docs/guarantees.md` and of `docs/security.md`, the clocks of the stores, and the oldest compiler.

use std::path::Path;

use crate::named_tests::{self, Functions};
use crate::run::{Failure, cargo, output, root};
use crate::{asvs, host_clock, rust_version};

/// A crate, and what must never be below it.
const WALLS: [(&str, &[&str]); 11] = [
    (
        "session-core",
        &[
            "tokio",
            "sqlx",
            "hyper",
            "axum",
            "http",
            "getrandom",
            "redis",
            "mongodb",
            "session-engine",
        ],
    ),
    ("session-engine", &["sqlx", "hyper", "axum", "http", "session-http", "session-store-memory"]),
    ("session-store-memory", &["session-engine", "sqlx", "http"]),
    ("session-store-sql", &["session-engine", "session-http", "http", "axum"]),
    ("session-store-redis", &["session-engine", "session-http", "http", "axum", "sqlx", "mongodb"]),
    ("session-store-mongo", &["session-engine", "session-http", "http", "axum", "sqlx", "redis"]),
    (
        "session-http",
        &["axum", "tower", "hyper", "actix-web", "poem", "sqlx", "session-store-memory"],
    ),
    ("session-tower", &["axum", "hyper", "actix-web", "poem", "sqlx", "session-store-memory"]),
    ("session-axum", &["actix-web", "poem", "sqlx", "session-store-sql", "session-store-memory"]),
    (
        "session-actix",
        &["axum", "poem", "hyper", "sqlx", "session-store-sql", "session-store-memory"],
    ),
    ("session-poem", &["axum", "actix-web", "sqlx", "session-store-sql", "session-store-memory"]),
];
/// The adapters of frameworks, and the most lines of code that one may have: they translate.
const ADAPTERS: [&str; 3] = ["axum", "actix", "poem"];
const MOST_LINES: usize = 340;

pub(crate) fn check() -> Result<(), Failure> {
    for (name, forbidden) in WALLS {
        let below = output(&mut cargo([
            "tree",
            "--locked",
            "--package",
            name,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{lib}",
        ]))?;
        let below: Vec<_> = below.lines().skip(1).map(|line| line.replace('_', "-")).collect();
        if let Some(found) = forbidden.iter().find(|name| below.iter().any(|line| line == *name)) {
            return Err(Failure::new(format!("{name} must not depend on {found}")));
        }
    }
    println!("{} crates keep to their side of the walls", WALLS.len());
    for adapter in ADAPTERS {
        let lines = lines_of_code(&root().join("adapters").join(adapter).join("src"))
            .map_err(|error| Failure::new(format!("cannot read the sources: {error}")))?;
        println!("adapters/{adapter} has {lines} lines of code");
        if lines > MOST_LINES {
            let most = format!("adapters/{adapter} has more than {MOST_LINES} lines of code");
            return Err(Failure::new(most));
        }
    }
    let functions = Functions::read()?;
    let named = named_tests::check("docs/guarantees.md", named_tests::alone, &functions)?;
    println!("{named} tests that guarantees name are there");
    asvs::check_with(&functions)?;
    let sources = host_clock::check()?;
    println!("{sources} sources of stores read no clock of their host");
    rust_version::check()?;
    println!("no dependency needs a newer compiler than this workspace");
    Ok(())
}

/// The lines that are neither empty nor comments.
fn lines_of_code(folder: &Path) -> std::io::Result<usize> {
    let mut lines = 0;
    for entry in std::fs::read_dir(folder)? {
        let text = std::fs::read_to_string(entry?.path())?;
        let code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
        lines += text.lines().filter(code).count();
    }
    Ok(lines)
}
