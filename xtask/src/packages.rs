//! Debian's packages, where this runs as root on a system that has them.

use std::process::Command;

use crate::run::{Failure, has, is_root, show_aside};

/// Installs packages, or says what is missing.
pub(crate) fn install(packages: &[&str]) -> Result<(), Failure> {
    if !has("apt-get") || !is_root() {
        let names = packages.join(", ");
        return Err(Failure::new(format!(
            "this needs the packages {names}: install them, or run as root on Debian"
        )));
    }
    apt(&["update"])?;
    let install = ["install", "--yes", "--no-install-recommends"];
    apt(&[&install, packages].concat())
}

fn apt(arguments: &[&str]) -> Result<(), Failure> {
    let mut apt = Command::new("apt-get");
    apt.arg("--quiet").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    show_aside(apt)
}
