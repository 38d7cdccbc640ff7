//! Tests that documents name between backticks.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::run::{Failure, root};

/// Every function of the sources, by file.
pub(crate) struct Functions(Vec<(PathBuf, HashSet<String>)>);

/// Picks the names of tests out of what stands between backticks.
pub(crate) type Naming = fn(&str) -> bool;

/// A name alone: lower case with an underscore and no other sign.
pub(crate) fn alone(text: &str) -> bool {
    text.contains('_') && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// A name behind its place, `folder::name` or `folder/file::name`: the end of the path to a file
/// without its extension, or to a folder above it.
pub(crate) fn placed(text: &str) -> bool {
    let is = |text: &str, signs: &str| {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || signs.contains(c);
        !text.is_empty() && text.chars().all(known)
    };
    text.split_once("::").is_some_and(|(place, name)| is(place, "-/") && is(name, "_"))
}

/// The names of tests in a text.
pub(crate) fn named(text: &str, naming: Naming) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2).filter(move |text| naming(text))
}

/// Checks that every test that a document names is there, and counts them.
pub(crate) fn check(
    document: &str,
    naming: Naming,
    functions: &Functions,
) -> Result<usize, Failure> {
    let text = read(document)?;
    let names: HashSet<_> = named(&text, naming).collect();
    let mut missing: Vec<_> = names.iter().filter(|name| !functions.has(name)).copied().collect();
    missing.sort_unstable();
    match missing.as_slice() {
        [] => Ok(names.len()),
        missing => {
            let missing = missing.join(", ");
            Err(Failure::new(format!("{document} names what is no test: {missing}")))
        }
    }
}

/// A document of the repository.
pub(crate) fn read(document: &str) -> Result<String, Failure> {
    std::fs::read_to_string(root().join(document))
        .map_err(|error| Failure::new(format!("{document}: {error}")))
}

impl Functions {
    pub(crate) fn read() -> Result<Self, Failure> {
        let mut found = Vec::new();
        collect(&root(), &mut found)
            .map_err(|error| Failure::new(format!("cannot read the sources: {error}")))?;
        Ok(Self(found))
    }

    /// Whether there is such a function, in its place where the name has one.
    fn has(&self, test: &str) -> bool {
        let (place, name) = test.split_once("::").unwrap_or(("", test));
        self.0.iter().any(|(file, names)| names.contains(name) && is_in(file, Path::new(place)))
    }
}

fn is_in(file: &Path, place: &Path) -> bool {
    place == Path::new("")
        || file.with_extension("").ancestors().any(|above| above.ends_with(place))
}

/// The names of all functions below a folder.
fn collect(folder: &Path, found: &mut Vec<(PathBuf, HashSet<String>)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            let names = names.map(str::to_owned).collect();
            found.push((path, names));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_other_words() {
        let text = "`a_test`, `engine::a_test`, `adapters/http::x2`, `Type::new`, `my_crate::item`";
        assert_eq!(named(text, alone).collect::<Vec<_>>(), ["a_test"]);
        assert_eq!(
            named(text, placed).collect::<Vec<_>>(),
            ["engine::a_test", "adapters/http::x2"]
        );
    }

    #[test]
    fn a_test_is_found_in_its_place_only() {
        let file = PathBuf::from("/w/session-engine/tests/engine/rotate.rs");
        let functions = Functions(vec![(file, HashSet::from(["a_test".to_owned()]))]);
        for there in ["a_test", "session-engine::a_test", "engine::a_test", "engine/rotate::a_test"]
        {
            assert!(functions.has(there), "{there}");
        }
        for not in ["another_test", "session-core::a_test", "rotate/engine::a_test", "gine::a_test"]
        {
            assert!(!functions.has(not), "{not}");
        }
    }
}
