//! Migrations as text, for those who run their own.

/// Every script with the statements that note its version, so that a store which opens the
/// database afterwards finds it up to date.
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
