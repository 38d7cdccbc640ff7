//! The tables of `docs/security.md`: every cell has a text, and what is done has a test.

use crate::named_tests::{self, Functions, named, placed};
use crate::run::Failure;

/// Checks the tables and prints what they count.
pub(crate) fn check() -> Result<(), Failure> {
    check_with(&Functions::read()?)
}

/// The same where the sources have been read already.
pub(crate) fn check_with(functions: &Functions) -> Result<(), Failure> {
    let text = named_tests::read(PAGE)?;
    for table in tables(&text) {
        println!("{}", table.counts()?);
    }
    let tests = named_tests::check(PAGE, placed, functions)?;
    println!("{tests} tests that {PAGE} names are there");
    Ok(())
}

/// A table below its heading.
struct Table<'t> {
    heading: &'t str,
    columns: Vec<&'t str>,
    rows: Vec<Vec<&'t str>>,
}

fn tables(text: &str) -> Vec<Table<'_>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    let (mut heading, mut inside) = ("", false);
    for line in text.lines() {
        heading = line.strip_prefix("## ").unwrap_or(heading);
        let Some(cells) = cells(line) else {
            inside = false;
            continue;
        };
        match tables.last_mut().filter(|_| inside) {
            Some(table) => table.rows.push(cells),
            None => tables.push(Table { heading, columns: cells, rows: Vec::new() }),
        }
        inside = true;
    }
    for table in &mut tables {
        // The line below the names of the columns.
        table.rows.drain(..1.min(table.rows.len()));
    }
    tables
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let line = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(line.split('|').map(str::trim).collect())
}

impl Table<'_> {
    /// How many rows there are, and of which state where the table has states.
    fn counts(&self) -> Result<String, Failure> {
        self.rows.iter().try_for_each(|row| self.check(row))?;
        let (heading, rows) = (self.heading, self.rows.len());
        let Some(state) = self.state() else { return Ok(format!("{heading}: {rows} rows")) };
        let done = self.rows.iter().filter(|row| row[state] == DONE).count();
        let left = rows - done;
        Ok(format!("{heading}: {rows} rows, {done} {DONE}, {left} {APPLICATION}"))
    }

    fn check(&self, row: &[&str]) -> Result<(), Failure> {
        let failed = |what: &str| {
            Err(Failure::new(format!("{PAGE}, {}, row {:?}: {what}", self.heading, row[0])))
        };
        if row.len() != self.columns.len() || row.iter().any(|cell| cell.is_empty()) {
            return failed("a cell is empty, or one too many");
        }
        let state = self.state().map(|state| row[state]);
        let has_test = row.iter().any(|cell| named(cell, placed).next().is_some());
        match state {
            Some(DONE) if !has_test => failed("done without a test"),
            Some(DONE | APPLICATION) | None => Ok(()),
            Some(_) => failed("neither done nor the application's part"),
        }
    }

    fn state(&self) -> Option<usize> {
        self.columns.iter().position(|column| *column == "state")
    }
}

const PAGE: &str = "docs/security.md";
const DONE: &str = "done";
const APPLICATION: &str = "the application's part";

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(row: &str) -> Result<String, String> {
        let text = format!("## V0\ntext\n| # | state | how |\n| --- | --- | --- |\n{row}\n\nmore");
        let tables = tables(&text);
        assert_eq!(tables.len(), 1);
        tables[0].counts().map_err(|failure| failure.to_string())
    }

    #[test]
    fn rows_are_counted_by_state() {
        let rows = "| 1 | done | `core::a_test` |\n| 2 | the application's part | call it |";
        assert_eq!(counts(rows).unwrap(), "V0: 2 rows, 1 done, 1 the application's part");
    }

    #[test]
    fn rows_without_an_answer_are_named() {
        for (row, problem) in [
            ("| 7.1 | done | |", "empty"),
            ("| 7.1 | done |", "empty"),
            ("| 7.1 | done | trust us |", "without a test"),
            ("| 7.1 | later | `core::a_test` |", "neither"),
        ] {
            let failure = counts(row).unwrap_err();
            assert!(failure.contains("\"7.1\"") && failure.contains(problem), "{failure}");
        }
    }
}
