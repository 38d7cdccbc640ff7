//! Programs of Python's package index, each in a virtual environment of its own below `target`.

use std::path::PathBuf;
use std::process::Command;

use crate::packages;
use crate::run::{Failure, has, show_aside, target};

/// A program and where it is from.
pub(crate) struct Tool {
    /// The folder of its environment.
    pub(crate) folder: &'static str,
    /// The package, with its version.
    pub(crate) package: &'static str,
    /// The program.
    pub(crate) program: &'static str,
}

impl Tool {
    /// The folder with its programs.
    pub(crate) fn programs(&self) -> PathBuf {
        self.environment().join("bin")
    }

    /// Whether this version is installed.
    pub(crate) fn is_there(&self) -> bool {
        let installed = std::fs::read_to_string(self.note()).unwrap_or_default();
        installed == self.package && self.programs().join(self.program).is_file()
    }

    /// Installs it.
    pub(crate) fn install(&self) -> Result<(), Failure> {
        let make = || {
            let mut venv = Command::new("python3");
            venv.args(["-m", "venv"]).arg(self.environment());
            show_aside(venv)
        };
        // Debian's Python comes without what makes environments.
        if !has("python3") || make().is_err() {
            packages::install(&["python3", "python3-venv"])?;
            make()?;
        }
        let mut install = Command::new(self.programs().join("pip"));
        install.args(["--quiet", "--disable-pip-version-check", "install", self.package]);
        show_aside(install)?;
        std::fs::write(self.note(), self.package)
            .map_err(|error| Failure::new(format!("{}: {error}", self.note().display())))
    }

    fn environment(&self) -> PathBuf {
        target().join(self.folder)
    }

    /// What was installed last.
    fn note(&self) -> PathBuf {
        self.environment().join("installed")
    }
}
