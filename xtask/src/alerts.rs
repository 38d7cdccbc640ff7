//! The alert rules for Prometheus, by its own program.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::packages;
use crate::run::{Failure, has, output, root, show, target};

/// Checks that each rule fires in a case, and runs the cases. Each of them names all that fires: what is left out is quiet.
pub(crate) fn check() -> Result<(), Failure> {
    let promtool = promtool()?;
    let (rules, cases) = (read("alerts.yml")?, read(CASES)?);
    let firing = firing(&cases);
    let mut names = rules.lines().filter_map(|line| Some(line.split_once("alert: ")?.1.trim()));
    if let Some(silent) = names.find(|name| !firing.contains(name)) {
        return Err(Failure::new(format!("docs/{CASES} has no case in which {silent} fires")));
    }
    let mut test = Command::new(promtool);
    test.args(["test", "rules", CASES]).current_dir(root().join("docs"));
    show(test)
}

fn read(file: &str) -> Result<String, Failure> {
    std::fs::read_to_string(root().join("docs").join(file))
        .map_err(|error| Failure::new(format!("docs/{file}: {error}")))
}

/// The rules that fire in a case.
fn firing(cases: &str) -> BTreeSet<&str> {
    let cases = cases.split("alertname: ").skip(1);
    let fires = |case: &&str| !case.contains("exp_alerts: []");
    cases.filter(fires).filter_map(|case| Some(case.split([',', '\n']).next()?.trim())).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_that_expects_nothing_is_quiet() {
        let cases = "- { alertname: A, exp_alerts: [] }\n- alertname: B\n  exp_alerts:\n  - b\n- alertname: A\n  exp_alerts: []\n";
        assert_eq!(firing(cases), BTreeSet::from(["B"]));
    }
}
