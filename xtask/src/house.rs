//! Which crate may depend on which: the arrows of `ARCHITECTURE.md`, checked.

use crate::run::{Failure, cargo, output};

/// A crate, and what must never be below it.
const WALLS: [(&str, &[&str]); 8] = [
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
    ("session-http", &["axum", "tower", "hyper", "sqlx", "session-store-memory"]),
    ("session-axum", &["sqlx", "session-store-sql", "session-store-memory"]),
];

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
    Ok(())
}
