//! The alert rules for Prometheus, by its own program.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::packages;
use crate::run::{Failure, has, output, root, show, target};

/// Checks that each rule has its cases, and runs them.
pub(crate) fn check() -> Result<(), Failure> {
    let promtool = promtool()?;
    let (rules, cases) = (named("alerts.yml", "alert: ")?, named(CASES, "alertname: ")?);
    let without: Vec<_> = rules.difference(&cases).map(String::as_str).collect();
    if !without.is_empty() {
        return Err(Failure::new(format!("docs/{CASES} has no case of {}", without.join(", "))));
    }
    let mut test = Command::new(promtool);
    test.args(["test", "rules", CASES]).current_dir(root().join("docs"));
    show(test)
}

/// The names that follow `key` in a file of `docs`.
fn named(file: &str, key: &str) -> Result<BTreeSet<String>, Failure> {
    let text = std::fs::read_to_string(root().join("docs").join(file))
        .map_err(|error| Failure::new(format!("docs/{file}: {error}")))?;
    let name = |line: &str| {
        let (_, name) = line.split_once(key)?;
        Some(name.split(',').next()?.trim().to_owned())
    };
    Ok(text.lines().filter_map(name).collect())
}

/// Finds the program. Where there is none, Debian's package is unpacked but not installed, because that would
/// start a server.
fn promtool() -> Result<PathBuf, Failure> {
    if has("promtool") {
        return Ok("promtool".into());
    }
    let folder = target().join("promtool");
    let program = folder.join("usr/bin/promtool");
    if !program.is_file() {
        packages::unpack("prometheus", &folder).map_err(|failure| {
            Failure::new(format!("{failure}; or leave its check out with --no-browser"))
        })?;
    }
    output(Command::new(&program).arg("--version"))?;
    Ok(program)
}

const CASES: &str = "alerts-test.yml";
