//! What a request shows of tokens: the values of cookies, and a bearer token.

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use session_core::Token;
use session_engine::ActiveSession;

/// What a cookie of ours holds: a token, and whether the browser keeps it when it is closed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) token: String,
    pub(crate) remember: bool,
}

impl Stored {
    /// The cookie's value.
    pub(crate) fn value(&self) -> String {
        let mark = if self.remember { REMEMBERED } else { "" };
        format!("{}{mark}", self.token)
    }
}

/// Written behind the token where the browser keeps the cookie, so that a rotation keeps it, too.
const REMEMBERED: &str = ".r";

/// The different values of the cookies of one name, the first few.
#[derive(Clone, Copy)]
pub(crate) struct Presented<'h> {
    values: [&'h [u8]; MAX_VALUES],
    count: usize,
}

impl<'h> Presented<'h> {
    /// The tokens.
    pub(crate) fn tokens(&self) -> impl ExactSizeIterator<Item = &'h [u8]> {
        self.values[..self.count].iter().map(|value| token_of(value).0)
    }

    /// The tokens, those of one session together.
    pub(crate) fn by_session(&self) -> Vec<Vec<&'h [u8]>> {
        let id = |token: &[u8]| Token::parse(token).map(|token| token.session_id());
        let mut groups: Vec<Vec<&[u8]>> = Vec::new();
        for token in self.tokens() {
            match groups.iter_mut().find(|group| id(group[0]) == id(token)) {
                Some(group) => group.push(token),
                None => groups.push(vec![token]),
            }
        }
        groups
    }

    /// The values as they came.
    pub(crate) fn raw(&self) -> impl Iterator<Item = &'h [u8]> + Clone {
        self.values[..self.count].iter().copied()
    }

    /// The token of this session, and whether the browser keeps it. An id alone makes no token.
    pub(crate) fn of_session(&self, session: &ActiveSession) -> Option<Stored> {
        let tokens = self.raw().filter_map(|value| {
            let (token, remember) = token_of(value);
            Some((Token::parse(token)?, remember))
        });
        let mut own = tokens.filter(|(token, _)| session.has_token(token));
        let current = own.clone().find(|(token, _)| session.has_current_token(token));
        let (token, remember) = current.or_else(|| own.next())?;
        Some(Stored { token: token.expose(), remember })
    }
}

fn token_of(value: &[u8]) -> (&[u8], bool) {
    match value.strip_suffix(REMEMBERED.as_bytes()) {
        Some(token) => (token, true),
        None => (value, false),
    }
}

/// The different values of the cookies of this name.
pub(crate) fn named<'h>(headers: &'h HeaderMap, name: &[u8]) -> Presented<'h> {
    let mut found = Presented { values: [&[]; MAX_VALUES], count: 0 };
    for value in pairs(headers).filter_map(|pair| value(pair, name)) {
        if found.count < MAX_VALUES && !found.values[..found.count].contains(&value) {
            found.values[found.count] = value;
            found.count += 1;
        }
    }
    found
}

/// The cookies of a request, each as `name=value`.
pub(crate) fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let headers = headers.get_all(COOKIE).into_iter();
    headers.flat_map(|header| header.as_bytes().split(|byte| *byte == b';')).map(<[u8]>::trim_ascii)
}

/// The value of a cookie, if it has this name.
fn value<'h>(pair: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    let value = pair.strip_prefix(name)?.strip_prefix(b"=")?;
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(quoted.unwrap_or(value))
}

/// The token of `Authorization: Bearer`, if there is exactly one such header and it has a token's form.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<Token> {
    let mut values = headers.get_all(AUTHORIZATION).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked(BEARER.len())?;
    Token::parse(token.trim_ascii()).filter(|_| scheme.eq_ignore_ascii_case(BEARER))
}

const BEARER: &[u8] = b"bearer ";
/// Bounds the work for a request in which many cookies were planted.
const MAX_VALUES: usize = 4;

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use session_core::{FleetKey, SessionId};

    use super::*;

    fn token() -> Token {
        Token::new(
            &FleetKey::from_bytes([7; 32]),
            SessionId::from_random([1; 16]),
            [2; 12],
            [3; 16],
        )
    }

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn found(cookies: &[&str]) -> Vec<String> {
        let headers = headers(&COOKIE, cookies);
        let presented = named(&headers, b"session");
        presented.tokens().map(|token| String::from_utf8(token.to_vec()).unwrap()).collect()
    }

    #[test]
    fn each_value_of_our_name_is_found_once_and_the_first_four_count() {
        assert_eq!(found(&["a=b; session=xyz;c=d"]), ["xyz"]);
        assert_eq!(found(&["a=b", "session=\"xyz\""]), ["xyz"]);
        assert_eq!(found(&["session=xyz; session=xyz.r", "session=xyz"]), ["xyz", "xyz"]);
        assert_eq!(found(&["session=evil; session=xyz"]), ["evil", "xyz"]);
        assert_eq!(found(&["xsession=xyz; session2=1; sessio=1; session"]), [""; 0]);
        assert_eq!(found(&["session=1; session=2; session=3", "session=4; session=5"]).len(), 4);
        assert_eq!(found(&[]), [""; 0]);
    }

    #[test]
    fn a_bearer_is_a_token_of_ours_or_none() {
        let text = token().expose();
        let of = |values: &[&str]| {
            let headers = headers(&AUTHORIZATION, values);
            bearer(&headers).map(|token| token.expose())
        };
        for value in [format!("Bearer {text}"), format!("bearer   {text} ")] {
            assert_eq!(of(&[&value]).as_deref(), Some(text.as_str()), "{value}");
        }
        let ours = format!("Bearer {text}");
        for values in [
            &["Bearer eyJhbGciOiJFZERTQSJ9.e30.c2ln"][..],
            &["Basic YWxpY2U6YWxpY2U="],
            &[&ours, &ours],
            &["Bearer"],
            &[],
        ] {
            assert_eq!(of(values), None, "{values:?}");
        }
    }
}
