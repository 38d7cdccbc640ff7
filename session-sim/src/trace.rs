//! What happened, for people: nodes as columns.

use std::fmt::Write;

use crate::plan::Ms;

#[derive(Default)]
pub(crate) struct Trace {
    keep: bool,
    nodes: usize,
    lines: Vec<(Ms, Option<usize>, String)>,
}

impl Trace {
    pub(crate) fn new(keep: bool, nodes: usize) -> Self {
        Self { keep, nodes, lines: Vec::new() }
    }

    pub(crate) fn note(&mut self, node: Option<usize>, at: Ms, text: String) {
        if self.keep {
            self.lines.push((at, node, text));
        }
    }

    /// The history, without what is of no use to a reader: reads of the log that found nothing.
    pub(crate) fn show(&self, last: usize) -> String {
        let dull = |text: &str| {
            text.contains("log_since") && !text.contains("gap") && !text.contains("failed")
                || text.contains(" ended []")
        };
        let lines: Vec<_> = self.lines.iter().filter(|(.., text)| !dull(text)).collect();
        let from = lines.len().saturating_sub(last);
        let mut shown = String::new();
        let _ = write!(shown, "{:>9}  {:<34}", "s", "store and faults");
        for node in 0..self.nodes {
            let _ = write!(shown, "  {:<34}", format!("node {node}"));
        }
        shown.push('\n');
        if from > 0 {
            let _ = writeln!(shown, "{from} lines before these are left out (--lines)");
        }
        for (at, node, text) in &lines[from..] {
            let column = node.map_or(0, |node| node + 1);
            let _ = write!(shown, "{:>9.3}  ", *at as f64 / 1_000.0);
            let _ = writeln!(shown, "{:width$}{}", "", shorten(text), width = column * 36);
        }
        shown
    }
}

/// Ids by their first digits.
fn shorten(text: &str) -> String {
    let is_id = |word: &str| word.len() >= 36 && word.as_bytes().get(8) == Some(&b'-');
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(from) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        short.push_str(&rest[..from]);
        rest = &rest[from..];
        if rest.get(..36).is_some_and(is_id) {
            short.push_str(&rest[..8]);
            rest = &rest[36..];
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len()).max(1);
            short.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    short.push_str(rest);
    short
}
