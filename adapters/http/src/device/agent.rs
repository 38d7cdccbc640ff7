//! A `User-Agent` in its parts (RFC 9110, 10.1.5).

/// Products outside parentheses, comments inside.
pub(super) struct Agent<'a> {
    text: &'a str,
    products: Vec<Product<'a>>,
    comments: Vec<&'a str>,
}

/// A name and, after a slash, a version; empty where there is none.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
}

impl<'a> Agent<'a> {
    /// Any text can be read; what was meant is another question.
    pub(super) fn parse(text: &'a str) -> Self {
        let (mut products, mut comments) = (Vec::new(), Vec::new());
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let after = if let Some(comment) = rest.strip_prefix('(') {
                let (comment, after) = comment.split_at(end_of_comment(comment));
                comments.push(comment);
                after.strip_prefix(')').unwrap_or(after)
            } else {
                let end = rest.find(|c: char| c.is_whitespace() || c == '(');
                let (product, after) = rest.split_at(end.unwrap_or(rest.len()));
                let (name, version) = product.split_once('/').unwrap_or((product, ""));
                if !name.is_empty() {
                    products.push(Product { name, version });
                }
                after
            };
            rest = after.trim_start();
        }
        Self { text, products, comments }
    }

    /// Whether these words stand in it.
    pub(super) fn has_all(&self, words: &[&str]) -> bool {
        words.iter().all(|word| self.text.contains(word))
    }

    /// Whether a comment has this word.
    pub(super) fn comments_have(&self, word: &str) -> bool {
        self.comments.iter().any(|comment| comment.contains(word))
    }

    pub(super) fn first(&self) -> Option<Product<'a>> {
        self.products.first().copied()
    }

    pub(super) fn product(&self, name: &str) -> Option<Product<'a>> {
        self.products.iter().copied().find(|product| product.name == name)
    }

    /// The first product that is none of these.
    pub(super) fn other_than(&self, names: &[&str]) -> Option<Product<'a>> {
        self.products.iter().copied().find(|product| !names.contains(&product.name))
    }

    /// Whether it begins as a browser does. Applications that show web pages begin like that, too.
    pub(super) fn is_browser(&self) -> bool {
        self.first().is_some_and(|product| ["Mozilla", "Opera"].contains(&product.name))
    }
}

fn end_of_comment(text: &str) -> usize {
    let mut depth = 1_usize;
    let end = text.char_indices().find(|(_, c)| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    end.map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (Vec<(&str, &str)>, Vec<&str>) {
        let agent = Agent::parse(text);
        let products = agent.products.iter().map(|product| (product.name, product.version));
        (products.collect(), agent.comments)
    }

    #[test]
    fn products_and_comments_are_told_apart() {
        assert_eq!(
            parts("A/1.0 (x; (y) z) B (KHTML, like Gecko)C/2/3"),
            (vec![("A", "1.0"), ("B", ""), ("C", "2/3")], vec!["x; (y) z", "KHTML, like Gecko"])
        );
        assert_eq!(parts(") (a (b"), (vec![(")", "")], vec!["a (b"]));
        assert_eq!(parts(" \u{3000}"), (vec![], vec![]));
    }
}
