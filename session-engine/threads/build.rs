//! Copies the engine's modules, with every planted fault behind a switch.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use faults::{FAULTS, Fault};

#[path = "src/faults.rs"]
mod faults;

const MODULES: [&str; 7] = ["cache", "ending", "entry", "options", "queue", "reads", "watchers"];

fn main() -> io::Result<()> {
    let target = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed=src/faults.rs");
    // The models are compiled without the engine's metrics.
    println!("cargo::rustc-check-cfg=cfg(feature, values(\"metrics\"))");
    for module in MODULES {
        let source = Path::new("../src").join(module).with_extension("rs");
        println!("cargo::rerun-if-changed={}", source.display());
        let faults = FAULTS.iter().filter(|fault| fault.module == module);
        let text =
            faults.fold(code(&fs::read_to_string(source)?), |text, fault| plant(&text, fault));
        fs::write(target.join(module).with_extension("rs"), text)?;
    }
    Ok(())
}

/// A module as `include!` takes it, without its head and its tests.
fn code(text: &str) -> String {
    let (code, _tests) = text.split_once("#[cfg(test)]").unwrap_or((text, ""));
    code.lines().filter(|line| !line.starts_with("//!")).map(|line| format!("{line}\n")).collect()
}

/// # Panics
/// Where the engine no longer has the text that the fault changes.
fn plant(text: &str, fault: &Fault) -> String {
    let Fault { name, correct, wrong, .. } = fault;
    assert_eq!(text.matches(correct).count(), 1, "{name}: the place is not there, or not once");
    text.replace(correct, &wrong.replace("FAULT", &format!("crate::is_planted({name:?})")))
}
