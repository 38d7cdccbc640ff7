//! What was measured, as a table and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::Failure;

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was measured, on which store.
    pub name: String,
    /// The figure; none where it could not be measured.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: &'static str,
    /// The figure as a share of what it is compared with.
    pub ratio: Option<f64>,
    /// What the ratio has to reach where there is one; otherwise what the value must not exceed.
    pub target: Option<f64>,
    /// Whether the target is met; true where there is none.
    pub met: bool,
}

impl Row {
    /// A figure without a target.
    pub fn plain(name: impl Into<String>, value: Option<f64>, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, ratio: None, target: None, met: true }
    }

    /// A figure that must not exceed its target, if it has one.
    pub fn at_most(
        name: impl Into<String>,
        value: Option<f64>,
        unit: &'static str,
        target: impl Into<Option<f64>>,
    ) -> Self {
        let target = target.into();
        let met = target.is_none_or(|target| value.is_some_and(|value| value <= target));
        Self { target, met, ..Self::plain(name, value, unit) }
    }

    /// A rate that has to reach this share of another.
    pub fn share(
        name: impl Into<String>,
        (rate, of): (f64, f64),
        unit: &'static str,
        target: f64,
    ) -> Self {
        let ratio = rate / of;
        let met = ratio >= target;
        Self {
            ratio: Some(ratio),
            target: Some(target),
            met,
            ..Self::plain(name, Some(rate), unit)
        }
    }
}

/// The rows as one table in Markdown.
pub fn markdown(rows: &[Row]) -> String {
    let mut table = String::from("| name | value | unit | ratio | target | met |\n");
    table += "| --- | ---: | --- | ---: | ---: | --- |\n";
    for Row { name, value, unit, ratio, target, met } in rows {
        let met = match (target, met) {
            (None, true) => "",
            (Some(_), true) => "yes",
            (_, false) => "**no**",
        };
        let [value, ratio, target] = [value, ratio, target].map(|number| figure(*number));
        let _ = writeln!(table, "| {name} | {value} | {unit} | {ratio} | {target} | {met} |");
    }
    table
}

/// A number with about three digits that count; a dash for none.
pub fn figure(number: Option<f64>) -> String {
    match number {
        None => "–".to_owned(),
        Some(number) if number >= 100.0 => format!("{number:.0}"),
        Some(number) if number >= 10.0 => format!("{number:.1}"),
        Some(number) => format!("{number:.2}"),
    }
}

/// Writes the rows as a JSON array.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(path: &Path, rows: &[Row]) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(rows)?;
    std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_ratio_to_reach_or_a_value_to_keep() {
        assert!(Row::share("a", (80.0, 100.0), "per second", 0.8).met);
        assert!(!Row::share("a", (79.0, 100.0), "per second", 0.8).met);
        assert!(Row::at_most("a", Some(50.0), "ms", 50.0).met);
        assert!(!Row::at_most("a", Some(50.1), "ms", 50.0).met);
        assert!(!Row::at_most("a", None, "ms", 50.0).met, "what was not measured is not met");
        assert!(Row::at_most("a", Some(50.1), "ms", None).met);
    }

    #[test]
    fn rows_are_written_with_these_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.json");
        let rows = [
            Row::share("sqlite: sign-ins", (90.0, 100.0), "per second", 0.8),
            Row::plain("memory: sign-ins", Some(1.0), "per second"),
        ];
        write_json(&path, &rows).unwrap();
        let read: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let expected = serde_json::json!([
            { "name": "sqlite: sign-ins", "value": 90.0, "unit": "per second", "ratio": 0.9,
              "target": 0.8, "met": true },
            { "name": "memory: sign-ins", "value": 1.0, "unit": "per second", "ratio": null,
              "target": null, "met": true },
        ]);
        assert_eq!(read, expected);
    }

    #[test]
    fn the_table_says_what_is_not_met() {
        let rows = [Row::at_most("a", Some(1234.5), "ms", 50.0), Row::plain("b", None, "ms")];
        let table = markdown(&rows);
        assert!(table.contains("| a | 1234 | ms | – | 50.0 | **no** |"), "{table}");
        assert!(table.contains("| b | – | ms | – | – |  |"), "{table}");
    }
}
