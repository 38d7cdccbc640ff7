//! What the stores' migrations have in common: numbered scripts, and a table that notes them.

use session_core::StoreError;

/// The scripts that a schema of this version lacks, with their numbers.
pub(crate) fn missing<'s>(
    version: i64,
    scripts: &'s [&'static str],
) -> Result<impl Iterator<Item = (i64, &'static str)> + use<'s>, StoreError> {
    let known = scripts.len();
    let missing = usize::try_from(version).ok().and_then(|done| scripts.get(done..));
    match missing {
        Some(missing) => Ok((version + 1..).zip(missing.iter().copied())),
        None => {
            let text = format!("the schema has version {version}, this build knows {known}");
            Err(StoreError::internal(text))
        }
    }
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
