//! The browser that the browser test needs.

use std::process::Command;

use crate::run::{Failure, has, output, show};

/// Makes sure that Chromium and its driver are there.
pub(crate) fn install() -> Result<(), Failure> {
    if has("chromium") && has("chromedriver") {
        return Ok(());
    }
    if !has("apt-get") || output(Command::new("id").arg("-u"))?.trim() != "0" {
        let text = "the browser test needs chromium and chromedriver: install the packages \
            chromium and chromium-driver, or leave the test out with --no-browser";
        return Err(Failure::new(text));
    }
    apt(["update"].as_slice())?;
    apt(["install", "--yes", "--no-install-recommends", "chromium", "chromium-driver"].as_slice())
}

fn apt(arguments: &[&str]) -> Result<(), Failure> {
    let mut apt = Command::new("apt-get");
    apt.arg("--quiet").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    show(apt)
}
