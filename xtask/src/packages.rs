//! Debian's packages, where this runs as root on a system that has them.

use std::path::Path;
use std::process::Command;

use crate::run::{Failure, has, is_root, show_aside};

/// Installs packages, or says what is missing.
pub(crate) fn install(packages: &[&str]) -> Result<(), Failure> {
    update_for(packages)?;
    let install = ["install", "--yes", "--no-install-recommends"];
    show_aside(apt(&[&install, packages].concat()))
}

/// Unpacks a package into a folder, without those that it depends on, or says what is missing.
pub(crate) fn unpack(package: &str, folder: &Path) -> Result<(), Failure> {
    update_for(&[package])?;
    let bad = |error| Failure::new(format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(bad)?;
    let mut download = apt(&["download", package]);
    download.current_dir(folder);
    show_aside(download)?;
    for file in std::fs::read_dir(folder).map_err(bad)? {
        let file = file.map_err(bad)?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            let mut unpack = Command::new("dpkg");
            unpack.arg("-x").args([file.as_path(), folder]);
            show_aside(unpack)?;
            std::fs::remove_file(file).map_err(bad)?;
        }
    }
    Ok(())
}

/// Learns which packages there are now, where this one may install some.
fn update_for(packages: &[&str]) -> Result<(), Failure> {
    if !has("apt-get") || !is_root() {
        let names = packages.join(", ");
        return Err(Failure::new(format!(
            "this needs the packages {names}: install them, or run as root on Debian"
        )));
    }
    show_aside(apt(&["update"]))
}

fn apt(arguments: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.arg("--quiet").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    apt
}
