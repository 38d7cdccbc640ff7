//! Whether the workspace can be built with the compiler that it says: no dependency asks for a newer
//! one. That its own code does not is what Clippy's `incompatible_msrv` checks.

use crate::metadata::{self, Package};
use crate::run::Failure;

/// A compiler's version.
type Version = [u64; 3];

pub(crate) fn check() -> Result<(), Failure> {
    let packages = metadata::read()?.packages;
    let (ours, dependencies): (Vec<_>, Vec<_>) =
        packages.iter().partition(|package| package.source.is_none());
    let promised = ours.iter().map(|package| needed(package)).min().unwrap_or_default();
    let newer: Vec<_> = dependencies
        .into_iter()
        .filter(|package| needed(package) > promised)
        .map(|Package { name, version, rust_version, .. }| {
            format!("{name} {version} needs Rust {}", rust_version.as_deref().unwrap_or_default())
        })
        .collect();
    if newer.is_empty() { Ok(()) } else { Err(Failure::new(newer.join("\n"))) }
}

/// The oldest compiler that will do; nothing for a package that does not say.
fn needed(package: &Package) -> Version {
    parse(package.rust_version.as_deref().unwrap_or_default())
}

fn parse(text: &str) -> Version {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
    [(); 3].map(|()| numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(parse("1.100") > parse("1.94.1"));
        assert!(parse("1.94") == parse("1.94.0") && parse("") < parse("1.0"));
    }
}
