//! Licences and sources of all dependencies, against `deny.toml`, without a network.

use serde::Deserialize;
use spdx::{Expression, LicenseReq};

use crate::metadata::{self, Package};
use crate::run::{Failure, cargo, has, root, show};

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    name: String,
}

pub(crate) fn check() -> Result<(), Failure> {
    let text = std::fs::read_to_string(root().join("deny.toml"));
    let deny: Deny = text
        .map_err(|error| error.to_string())
        .and_then(|text| toml::from_str(&text).map_err(|error| error.to_string()))
        .map_err(|error| Failure::new(format!("deny.toml: {error}")))?;
    let packages = metadata::read()?.packages;
    let problems: Vec<_> = packages.iter().filter_map(|package| problem(package, &deny)).collect();
    if !problems.is_empty() {
        return Err(Failure::new(problems.join("\n")));
    }
    println!("{} packages keep to deny.toml", packages.len());
    if has("cargo-deny") {
        show(cargo(["deny", "--offline", "check", "licenses", "bans", "sources"]))?;
    }
    Ok(())
}

fn problem(package: &Package, deny: &Deny) -> Option<String> {
    let Package { name, license, source, .. } = package;
    if deny.bans.deny.iter().any(|banned| banned.name == *name) {
        return Some(format!("{name} is banned"));
    }
    let registry = source.as_deref().is_none_or(|source| source.starts_with("registry+"));
    if !registry {
        return Some(format!("{name} does not come from a registry"));
    }
    let license = license.as_deref().unwrap_or_default();
    let allowed = |required: &LicenseReq| deny.licenses.allow.contains(&required.to_string());
    match Expression::parse_mode(license, spdx::ParseMode::LAX) {
        Ok(expression) if expression.evaluate(allowed) => None,
        _ => Some(format!("{name} has the licence {license:?}")),
    }
}
