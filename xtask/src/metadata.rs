//! What cargo knows of this workspace and its dependencies.

use serde::Deserialize;

use crate::run::{Failure, cargo, output};

#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
}

/// A crate, of this workspace or of a dependency.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    /// None for a crate of this workspace.
    pub(crate) source: Option<String>,
    /// The oldest compiler that it says it can be built with.
    pub(crate) rust_version: Option<String>,
    publish: Option<Vec<String>>,
}

impl Package {
    /// Whether it is a crate of this workspace that may go to a registry.
    pub(crate) fn is_published(&self) -> bool {
        self.source.is_none() && self.publish.is_none()
    }
}

/// With all features, without a network if the dependencies are there.
pub(crate) fn read() -> Result<Metadata, Failure> {
    let arguments = ["metadata", "--locked", "--format-version", "1", "--all-features"];
    serde_json::from_str(&output(&mut cargo(arguments))?)
        .map_err(|error| Failure::new(format!("cargo metadata: {error}")))
}
