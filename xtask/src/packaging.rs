//! Whether the crates can be packaged for a registry.

use crate::metadata;
use crate::run::{Failure, cargo, show};

/// Packages every crate that may be published. They are not built again from what was packaged.
pub(crate) fn check() -> Result<(), Failure> {
    let mut package = cargo(["package", "--locked", "--quiet", "--no-verify", "--allow-dirty"]);
    let packages = metadata::read()?.packages;
    let published = packages.iter().filter(|package| package.is_published());
    package.args(published.map(|package| format!("--package={}", package.name)));
    show(package)
}
