//! Lists and parameters in headers, where quoted strings may hold separators (RFC 9110, 5.6).

use std::borrow::Cow;

/// Splits at a separator outside quoted strings. None where a quoted string has no end.
pub(crate) fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut begin) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[begin..at]);
                begin = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    (!quoted).then_some(parts)
}

/// A name and its value, a token or a quoted string. None for anything else.
pub(crate) fn pair(text: &str) -> Option<(&str, Cow<'_, str>)> {
    let (name, value) = text.trim().split_once('=')?;
    let is_token = !name.is_empty() && name.bytes().all(is_token_byte);
    is_token.then_some(())?;
    Some((name, unquoted(value)?))
}

/// A token as it is, a quoted string without its quotes and escapes. None for anything else.
///
/// Addresses and hosts count as tokens: many proxies leave the quotes of `host=example.com:8080` out.
pub(crate) fn unquoted(text: &str) -> Option<Cow<'_, str>> {
    let Some(quoted) = text.strip_prefix('"') else {
        let is_plain = |byte| is_token_byte(byte) || b":[]/".contains(&byte);
        return (!text.is_empty() && text.bytes().all(is_plain)).then_some(Cow::Borrowed(text));
    };
    let (mut plain, mut rest) = (String::with_capacity(quoted.len()), quoted.chars());
    loop {
        match rest.next()? {
            '"' => return rest.as_str().is_empty().then_some(Cow::Owned(plain)),
            '\\' => plain.push(rest.next()?),
            c => plain.push(c),
        }
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn separators_in_quoted_strings_separate_nothing() {
        let text = r#"a="x,y";b=c, d="\",", "#;
        assert_eq!(split(text, ','), Some(vec![r#"a="x,y";b=c"#, r#" d="\",""#, " "]));
        assert_eq!(split(r#"a="x,y"#, ','), None);
        assert_eq!(split(r#"a="x\","#, ','), None);
        assert_eq!(split("", ','), Some(vec![""]));
    }

    #[test]
    fn quotes_and_escapes_are_taken_off() {
        let is = |text, expected: &str| assert_eq!(unquoted(text).as_deref(), Some(expected));
        is("token", "token");
        is("[::1]:80", "[::1]:80");
        is(r#""a b""#, "a b");
        is(r#""\"\\\a""#, r#""\a"#);
        is(r#""""#, "");
        for text in ["", "a b", r#"a"b""#, r#""a"b"#, r#""a"#, r#""\"#, "é"] {
            assert_eq!(unquoted(text), None, "{text}");
        }
        assert_eq!(pair(" a=b "), Some(("a", "b".into())));
        for text in ["a", "=b", "a =b", "a= b", "a=b=c", r#""a"=b"#] {
            assert_eq!(pair(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_quoted_string_comes_back(text in ".{0,40}", others in "[a-z\", \\\\]{0,20}") {
            let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let plain = unquoted(&quoted);
            prop_assert_eq!(plain.as_deref(), Some(text.as_str()));
            prop_assert_eq!(split(&quoted, ','), Some(vec![quoted.as_str()]));
            // Splitting loses nothing.
            if let Some(parts) = split(&others, ',') {
                prop_assert_eq!(parts.join(","), others);
            }
        }
    }
}
