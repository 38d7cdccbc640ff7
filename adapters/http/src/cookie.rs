//! The cookie that carries the token.

use std::time::Duration;

use cookie::{Cookie, SameSite};
use http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use session_core::{InvalidField, Token};

/// How the cookie is written. Always `HttpOnly`, `SameSite=Lax` and `Path=/`, never with a
/// domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CookieOptions {
    /// Its name. Default `__Host-session`: browsers take such a cookie only from this very host,
    /// over HTTPS, so no neighbour can plant one.
    pub name: String,
    /// Whether it is sent over HTTPS only. Default true.
    pub secure: bool,
    /// How long a browser keeps it, in seconds; none until the browser is closed. Default none.
    /// The session's own timeouts hold in any case.
    #[serde(with = "session_core::time::optional_seconds")]
    pub max_age: Option<Duration>,
}

impl Default for CookieOptions {
    fn default() -> Self {
        Self { name: "__Host-session".to_owned(), secure: true, max_age: None }
    }
}

impl CookieOptions {
    /// For plain HTTP on a developer's machine, and for nothing else.
    pub fn development() -> Self {
        Self { name: "session".to_owned(), secure: false, max_age: None }
    }

    /// Its name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Whether it is sent over HTTPS only.
    #[must_use]
    pub const fn with_secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// How long a browser keeps it.
    #[must_use]
    pub fn with_max_age(mut self, max_age: impl Into<Option<Duration>>) -> Self {
        self.max_age = max_age.into();
        self
    }

    pub(crate) fn validate(&self) -> Result<(), InvalidField> {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if self.name.is_empty() || !self.name.chars().all(token) {
            return Err(InvalidField::malformed("cookie.name", "a cookie's name"));
        }
        let seconds = self.max_age.map(|age| i64::try_from(age.as_secs()).unwrap_or(0));
        if seconds == Some(0) {
            return Err(InvalidField::malformed("cookie.max_age", "at least one second"));
        }
        let prefixed = self.name.starts_with("__Host-") || self.name.starts_with("__Secure-");
        if prefixed && !self.secure {
            let expected = "true, which a cookie of this name needs";
            return Err(InvalidField::malformed("cookie.secure", expected));
        }
        Ok(())
    }

    /// The token that a request carries. Two different cookies of our name are none: which of
    /// them a stranger planted cannot be told.
    pub(crate) fn token<'h>(&self, headers: &'h HeaderMap) -> Option<&'h [u8]> {
        let mut found = None;
        for header in headers.get_all(COOKIE) {
            for value in values(header.as_bytes(), self.name.as_bytes()) {
                if found.is_some_and(|other| other != value) {
                    return None;
                }
                found = Some(value);
            }
        }
        found
    }

    /// Whether a request carries a cookie of our name, valid or not.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        let name = self.name.as_bytes();
        headers
            .get_all(COOKIE)
            .iter()
            .any(|header| values(header.as_bytes(), name).next().is_some())
    }

    pub(crate) fn set(&self, token: &Token) -> SessionCookie {
        SessionCookie::new(&self.cookie(token.expose()))
    }

    pub(crate) fn remove(&self) -> SessionCookie {
        let mut cookie = self.cookie(String::new());
        cookie.make_removal();
        SessionCookie::new(&cookie)
    }

    fn cookie(&self, value: String) -> Cookie<'static> {
        let mut cookie = Cookie::new(self.name.clone(), value);
        cookie.set_path("/");
        cookie.set_http_only(true);
        cookie.set_secure(self.secure);
        cookie.set_same_site(SameSite::Lax);
        let max_age = self.max_age.and_then(|age| cookie::time::Duration::try_from(age).ok());
        cookie.set_max_age(max_age);
        cookie
    }
}

/// Headers that a response needs to hand a token to a browser, or to take it back.
#[derive(Clone)]
#[must_use = "the browser learns of it only through a response"]
pub struct SessionCookie(Option<HeaderValue>);

impl SessionCookie {
    fn new(cookie: &Cookie<'static>) -> Self {
        let value = HeaderValue::try_from(cookie.encoded().to_string()).ok();
        Self(value.map(|mut value| {
            value.set_sensitive(true);
            value
        }))
    }

    /// No cookie: the browser keeps what it has.
    pub(crate) const fn keep() -> Self {
        Self(None)
    }

    /// The header to append to those of a response.
    pub fn append(&self) -> Option<(HeaderName, HeaderValue)> {
        self.0.clone().map(|cookie| (SET_COOKIE, cookie))
    }

    /// The header that replaces what a response has of its name: no proxy may store a response that
    /// carries a cookie.
    pub fn replace(&self) -> Option<(HeaderName, HeaderValue)> {
        self.0.as_ref().map(|_| (CACHE_CONTROL, HeaderValue::from_static("no-store")))
    }

    /// Puts both into the headers of a response.
    pub fn apply(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = self.replace() {
            headers.insert(name, value);
        }
        if let Some((name, value)) = self.append() {
            headers.append(name, value);
        }
    }
}

impl std::fmt::Debug for SessionCookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionCookie(redacted)")
    }
}

/// The values of all cookies of one name in a header.
fn values<'h>(header: &'h [u8], name: &[u8]) -> impl Iterator<Item = &'h [u8]> {
    header.split(|byte| *byte == b';').filter_map(move |pair| {
        let value = pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"=")?;
        let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        Some(quoted.unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::SessionId;

    fn found(headers: &[&str]) -> Option<String> {
        let mut map = HeaderMap::new();
        for header in headers {
            map.append(COOKIE, HeaderValue::from_str(header).unwrap());
        }
        let token = CookieOptions::development().token(&map);
        token.map(|token| String::from_utf8(token.to_vec()).unwrap())
    }

    #[test]
    fn one_cookie_is_found_and_two_different_ones_are_not() {
        assert_eq!(found(&["a=b; session=xyz;c=d"]).as_deref(), Some("xyz"));
        assert_eq!(found(&["a=b", "session=\"xyz\""]).as_deref(), Some("xyz"));
        assert_eq!(found(&["session=xyz; session=xyz"]).as_deref(), Some("xyz"));
        assert_eq!(found(&["session=evil; session=xyz"]), None);
        assert_eq!(found(&["session=evil", "session=xyz"]), None);
        assert_eq!(found(&["xsession=xyz; session2=1; sessio=1; session"]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn the_default_cookie_is_bound_to_its_host() {
        let token = Token::new(SessionId::from_random([1; 16]), [2; 12], [3; 16]);
        let set = CookieOptions::default().set(&token);
        assert!(!format!("{set:?}").contains(&token.expose()));
        let mut headers = HeaderMap::new();
        headers.insert(SET_COOKIE, HeaderValue::from_static("other=1"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        set.apply(&mut headers);
        let cookies: Vec<_> = headers.get_all(SET_COOKIE).into_iter().collect();
        assert_eq!(
            cookies[1].to_str().unwrap(),
            format!("__Host-session={}; HttpOnly; SameSite=Lax; Secure; Path=/", token.expose())
        );
        assert_eq!((cookies.len(), &headers[CACHE_CONTROL]), (2, &"no-store".parse().unwrap()));
        let (_, removed) = CookieOptions::development().remove().append().unwrap();
        let value = removed.to_str().unwrap();
        assert!(value.starts_with("session=; ") && value.contains("Max-Age=0"), "{value}");
        assert!(!value.contains("Secure"));
    }
}
