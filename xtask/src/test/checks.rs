//! Checks by the compiler, without running anything.

use crate::run::{Failure, cargo, show};

/// Crates that have to build alone, with these features: none leans on what another one happens to
/// bring.
const ALONE: [(&str, &str); 16] = [
    ("session-core", ""),
    ("session-engine", ""),
    ("session-engine", "metrics"),
    ("session-store-memory", ""),
    ("session-store-sql", "sqlite"),
    ("session-store-sql", "postgres"),
    ("session-store-sql", "mysql"),
    ("session-store-redis", ""),
    ("session-store-mongo", ""),
    ("session-http", ""),
    ("session-http", "jwt"),
    ("session-http", "metrics"),
    ("session-tower", ""),
    ("session-axum", ""),
    ("session-actix", ""),
    ("session-poem", ""),
];
/// The facade's features, alone and together.
const FACADE: [&str; 15] = [
    "",
    "memory",
    "sqlite",
    "postgres",
    "mysql",
    "redis",
    "mongodb",
    "http",
    "tower",
    "axum",
    "actix",
    "poem",
    "metrics",
    "memory,sqlite,axum",
    "axum,actix,poem,testing",
];
/// Beside these the facade's dependencies have all features anyway, so they are built once.
const BESIDE: [&str; 9] = [
    "--package=session-store-memory",
    "--package=session-store-sql",
    "--package=session-store-redis",
    "--package=session-store-mongo",
    "--package=session-tower",
    "--package=session-axum",
    "--package=session-actix",
    "--package=session-poem",
    "--features=session-store-sql/sqlite,session-store-sql/postgres,session-store-sql/mysql",
];

pub(crate) fn format() -> Result<(), Failure> {
    show(cargo(["fmt", "--all", "--check"]))?;
    show(cargo(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))
}

pub(crate) fn lints() -> Result<(), Failure> {
    let arguments = ["clippy", "--locked", "--workspace", "--all-targets", "--all-features"];
    show(cargo(arguments.into_iter().chain(["--", "-D", "warnings"])))
}

pub(crate) fn documentation() -> Result<(), Failure> {
    let mut document = cargo(["doc", "--locked", "--workspace", "--all-features", "--no-deps"]);
    document.env("RUSTDOCFLAGS", "-D warnings");
    show(document)
}

pub(crate) fn features() -> Result<(), Failure> {
    for (package, features) in ALONE {
        let arguments = ["check", "--locked", "--package", package, "--no-default-features"];
        show(cargo(arguments.into_iter().chain(["--features", features])))?;
    }
    for features in FACADE {
        let mut check = cargo(["check", "--locked", "--package", "session-kit"]);
        check.args(BESIDE);
        let features = features.split(',').filter(|feature| !feature.is_empty());
        check.args(features.map(|feature| format!("--features=session-kit/{feature}")));
        show(check)?;
    }
    Ok(())
}
