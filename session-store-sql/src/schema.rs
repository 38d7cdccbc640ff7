//! What the stores' migrations have in common: numbered scripts, and a table that notes them.
//!
//! The table has a row for each version whose builds may use the schema. A script adds the row of its
//! version. One that takes away what builds of some older versions need deletes their rows.

use session_core::StoreError;

/// The scripts that a schema lacks which has the rows of these versions, with their numbers. A newer
/// schema lacks none.
pub(crate) fn missing<'s>(
    versions: &[i64],
    scripts: &'s [&'static str],
) -> Result<impl Iterator<Item = (i64, &'static str)> + use<'s>, StoreError> {
    let newest = versions.iter().copied().max().unwrap_or(0);
    let known = scripts.len();
    let is_named = versions.iter().any(|version| usize::try_from(*version) == Ok(known));
    let done = if is_named { Some(known) } else { usize::try_from(newest).ok() };
    match done.and_then(|done| scripts.get(done..)) {
        Some(missing) => Ok((newest + 1..).zip(missing.iter().copied())),
        None => {
            let text = format!(
                "the schema has version {newest}, which builds of version {known} may not use"
            );
            Err(StoreError::internal(text))
        }
    }
}

/// What a report says of the indexes.
pub(crate) fn indexes_there(needed: usize, missing: usize) -> (String, String) {
    ("indexes".to_owned(), format!("{} of {needed}", needed.saturating_sub(missing)))
}

/// FNV-1a of a script. The standard library's hasher may change between releases.
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) fn digest(text: &str) -> String {
    let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, mix))
}

/// Every script as text with the statements that note its version, so that a store which opens
/// the database afterwards finds it up to date: for those who run their own.
pub(crate) fn printed(
    create_version: &str,
    scripts: &[&str],
    add_version: &str,
    placeholder: &str,
) -> Vec<String> {
    let print = |(number, script): (usize, &&str)| {
        let note = add_version.replace(placeholder, &number.to_string());
        format!("{create_version};\n\n{script}\n\n{note};\n")
    };
    (1..).zip(scripts).map(print).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_schema_may_be_used_by_the_versions_that_it_names() {
        let scripts = ["one", "two"];
        let missing = |versions: &[i64]| {
            let missing = missing(versions, &scripts);
            missing.map(Iterator::collect::<Vec<_>>).map_err(|error| error.to_string())
        };
        assert_eq!(missing(&[]).unwrap(), [(1, "one"), (2, "two")]);
        assert_eq!(missing(&[1]).unwrap(), [(2, "two")]);
        assert_eq!(missing(&[2]).unwrap(), []);
        assert_eq!(missing(&[3, 1, 2]).unwrap(), []);
        assert_eq!(missing(&[2, 3]).unwrap(), []);
        assert!(missing(&[3]).unwrap_err().contains("version 3"));
        assert!(missing(&[3, 4]).unwrap_err().contains("version 4"));
    }
}
