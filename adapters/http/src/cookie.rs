//! The cookies that carry tokens, and how they are written.

use std::time::Duration;

use cookie::Cookie;
use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use session_core::usage::Timeouts;
use session_core::{InvalidField, Token};

use crate::flow::Flow;
use crate::presented::{Presented, Stored, named, pairs};

/// How the cookie is written. Always `HttpOnly` and `Path=/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CookieOptions {
    /// Its name. Default `__Host-session`: browsers take such a cookie only from this very host,
    /// over HTTPS, so no neighbour can plant one.
    pub name: String,
    /// Whether it is sent over HTTPS only. Default true.
    pub secure: bool,
    /// The default of [`NewSession::remember`](crate::NewSession::remember): true writes a persistent
    /// cookie (`Max-Age`), false one that ends with the browser. Default false. The session's own
    /// timeouts hold in any case.
    pub remember: bool,
    /// How long a browser keeps the cookie of a sign-in that is remembered, in seconds. Default 30
    /// days. A session with [timeouts of its own](crate::NewSession::timeouts) is kept for as long as
    /// these let it live, at most for the 400 days that browsers allow.
    #[serde(with = "session_core::time::seconds")]
    pub max_age: Duration,
    /// The domain whose hosts all get the cookie. Default none: this host alone. Every host of the
    /// domain can then read the token, and plant one of its own: name it only where all of them are
    /// trusted as much as this one.
    pub domain: Option<String>,
    /// For which requests of other sites' pages browsers send it. Default `lax`.
    pub same_site: SameSite,
    /// Writes `Partitioned` (CHIPS): each site that embeds the page gets a separate cookie. Needs
    /// `same_site` to be `none`. Default false.
    pub partitioned: bool,
}

/// For which requests of other sites' pages browsers send a cookie. A sister host of the same
/// registrable domain is no other site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SameSite {
    /// For none, not even when a link leads here.
    Strict,
    /// For links that lead here.
    #[default]
    Lax,
    /// For all of them: for pages that are embedded elsewhere. What changes something still needs a
    /// proof of its origin.
    None,
}

impl Default for CookieOptions {
    fn default() -> Self {
        Self {
            name: "__Host-session".to_owned(),
            secure: true,
            remember: false,
            max_age: Duration::from_secs(30 * 24 * 3600),
            domain: None,
            same_site: SameSite::Lax,
            partitioned: false,
        }
    }
}

impl CookieOptions {
    /// For plain HTTP on a developer's machine, and for nothing else.
    pub fn development() -> Self {
        Self::default().with_name("session").with_secure(false)
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

    /// Whether sign-ins are remembered that do not say so themselves.
    #[must_use]
    pub const fn with_remember(mut self, remember: bool) -> Self {
        self.remember = remember;
        self
    }

    /// How long a browser keeps the cookie of a sign-in that is remembered.
    #[must_use]
    pub const fn with_max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// The domain whose hosts all get it.
    #[must_use]
    pub fn with_domain(mut self, domain: impl Into<Option<String>>) -> Self {
        self.domain = domain.into();
        self
    }

    /// For which requests of other sites' pages browsers send it.
    #[must_use]
    pub const fn with_same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Whether a page that is embedded in another site gets a cookie of its own.
    #[must_use]
    pub const fn with_partitioned(mut self, partitioned: bool) -> Self {
        self.partitioned = partitioned;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), InvalidField> {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let refuse = |field, expected| Err(InvalidField::malformed(field, expected));
        if self.name.is_empty() || !self.name.chars().all(token) {
            return refuse("cookie.name", "a cookie's name");
        }
        if !(1..=LONGEST.as_secs()).contains(&self.max_age.as_secs()) {
            return refuse("cookie.max_age", "from one second to the 400 days that browsers allow");
        }
        let of_host = self.name.starts_with("__Host-");
        if let Some(domain) = &self.domain {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            let fits = |label: &str| !label.is_empty() && label.chars().all(plain);
            if of_host {
                return refuse(
                    "cookie.domain",
                    "none, for a cookie whose name begins with __Host-",
                );
            }
            if !domain.split('.').all(fits) {
                return refuse("cookie.domain", "a host name such as example.com");
            }
        }
        if self.partitioned && self.same_site != SameSite::None {
            return refuse("cookie.same_site", "none, for a partitioned cookie");
        }
        let needs_https = of_host
            || self.name.starts_with("__Secure-")
            || self.same_site == SameSite::None
            || self.partitioned;
        if needs_https && !self.secure {
            let expected = "true, for a name with a prefix, for same_site none and for partitioned";
            return refuse("cookie.secure", expected);
        }
        Ok(())
    }

    /// The tokens that a request carries in cookies of our name, each once.
    pub(crate) fn presented<'h>(&self, headers: &'h HeaderMap) -> Presented<'h> {
        named(headers, self.name.as_bytes())
    }

    /// The cookie of a session that has these timeouts of its own.
    pub(crate) fn set(
        &self,
        token: &Token,
        remember: bool,
        timeouts: Option<Timeouts>,
    ) -> CookieHeaders {
        self.set_named(&self.name, &Stored { token: token.expose(), remember }, timeouts)
    }

    pub(crate) fn remove(&self) -> CookieHeaders {
        self.remove_named(&self.name)
    }

    /// The cookie of an account that is signed in beside the one in use.
    pub(crate) fn account_name(&self, number: u32) -> String {
        format!("{}-{number}", self.name)
    }

    pub(crate) fn set_named(
        &self,
        name: &str,
        stored: &Stored,
        timeouts: Option<Timeouts>,
    ) -> CookieHeaders {
        if stored.remember {
            self.keep(name, stored.value(), self.max_age_of(timeouts))
        } else {
            CookieHeaders::new(&self.cookie(name, stored.value()))
        }
    }

    fn max_age_of(&self, timeouts: Option<Timeouts>) -> Duration {
        let Some(own) = timeouts else { return self.max_age };
        // Zero would take the cookie back.
        own.absolute.unwrap_or(LONGEST).clamp(Duration::from_secs(1), LONGEST)
    }

    /// A cookie that the browser keeps when it is closed.
    fn keep(&self, name: &str, value: String, max_age: Duration) -> CookieHeaders {
        let mut cookie = self.cookie(name, value);
        cookie.set_max_age(cookie::time::Duration::try_from(max_age).ok());
        CookieHeaders::new(&cookie)
    }

    pub(crate) fn remove_named(&self, name: &str) -> CookieHeaders {
        let mut cookie = self.cookie(name, String::new());
        cookie.make_removal();
        CookieHeaders::new(&cookie)
    }

    fn cookie(&self, name: &str, value: String) -> Cookie<'static> {
        let mut cookie = Cookie::new(name.to_owned(), value);
        cookie.set_path("/");
        cookie.set_http_only(true);
        cookie.set_secure(self.secure);
        cookie.set_same_site(match self.same_site {
            SameSite::Strict => cookie::SameSite::Strict,
            SameSite::Lax => cookie::SameSite::Lax,
            SameSite::None => cookie::SameSite::None,
        });
        if let Some(domain) = &self.domain {
            cookie.set_domain(domain.clone());
        }
        cookie.set_partitioned(self.partitioned);
        cookie
    }

    /// The cookie of a flow through another site.
    pub(crate) fn flow(&self, state: &str, value: String) -> CookieHeaders {
        self.of_flows().keep(&self.flow_name(state), value, Flow::LIFETIME)
    }

    pub(crate) fn remove_flow(&self, state: &str) -> CookieHeaders {
        self.of_flows().remove_named(&self.flow_name(state))
    }

    /// A flow's cookie comes back with a form that another site posts, so it is `SameSite=None` where
    /// browsers take that. It is for this host only.
    fn of_flows(&self) -> Self {
        let same_site = if self.secure { SameSite::None } else { SameSite::Lax };
        let options = Self { domain: None, partitioned: false, ..self.clone() };
        options.with_same_site(same_site)
    }

    /// The values of all flow cookies of a request, in their order.
    pub(crate) fn flows<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = &'h [u8]> {
        let prefix = self.flow_name("");
        pairs(headers).filter_map(move |pair| {
            let rest = pair.strip_prefix(prefix.as_bytes())?;
            rest.iter().position(|byte| *byte == b'=').map(|at| &rest[at + 1..])
        })
    }

    /// A name for each flow, so that two of them in two tabs do not meet.
    pub(crate) fn flow_name(&self, state: &str) -> String {
        let name =
            ["__Host-", "__Secure-"].iter().find_map(|prefix| self.name.strip_prefix(prefix));
        let (prefix, name) = (if self.secure { "__Host-" } else { "" }, name.unwrap_or(&self.name));
        format!("{prefix}{name}-flow-{}", state.get(..8).unwrap_or_default())
    }
}

/// The longest that browsers keep a cookie.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);

/// Headers that a response needs to hand a token to a client, or to take it back.
#[derive(Clone, Default)]
#[must_use = "the browser learns of it only through a response"]
pub struct CookieHeaders {
    cookies: Vec<HeaderValue>,
    private: bool,
}

impl CookieHeaders {
    fn new(cookie: &Cookie<'static>) -> Self {
        let value = HeaderValue::try_from(cookie.encoded().to_string()).ok().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Self { cookies: value.into_iter().collect(), private: true }
    }

    /// No cookie: the browser keeps what it has.
    pub(crate) fn keep() -> Self {
        Self::default()
    }

    /// No cookie, for a response that has the token in its body.
    pub(crate) const fn in_the_body() -> Self {
        Self { cookies: Vec::new(), private: true }
    }

    /// Whether the client has no cookie of it, and the response has to carry the token in its body.
    pub fn is_in_the_body(&self) -> bool {
        self.private && self.cookies.is_empty()
    }

    /// Both.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.cookies.extend(other.cookies);
        self.private |= other.private;
        self
    }

    /// The headers to append to those of a response.
    pub fn append(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.cookies.iter().map(|cookie| (SET_COOKIE, cookie.clone()))
    }

    /// The header that replaces what a response has of its name: no proxy may store a response that
    /// carries a token.
    pub fn replace(&self) -> Option<(HeaderName, HeaderValue)> {
        self.private.then(|| (CACHE_CONTROL, HeaderValue::from_static("no-store")))
    }

    /// Puts them into the headers of a response.
    pub fn apply(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = self.replace() {
            headers.insert(name, value);
        }
        for (name, value) in self.append() {
            headers.append(name, value);
        }
    }
}

impl std::fmt::Debug for CookieHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieHeaders(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;
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

    fn written(cookie: &CookieHeaders) -> String {
        cookie.append().next().unwrap().1.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_default_cookie_is_bound_to_its_host() {
        let token = token();
        let set = CookieOptions::default().set(&token, false, None);
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
        let value = written(&CookieOptions::development().remove());
        assert!(value.starts_with("session=; ") && value.contains("Max-Age=0"), "{value}");
        assert!(!value.contains("Secure"));
    }

    #[test]
    fn a_remembered_cookie_says_so_itself() {
        let options = CookieOptions::development();
        let set = written(&options.set(&token(), true, None));
        assert!(set.ends_with("; Max-Age=2592000"), "{set}");
        let pair = set.split(';').next().unwrap().parse().unwrap();
        let headers = HeaderMap::from_iter([(COOKIE, pair)]);
        let presented = options.presented(&headers);
        assert_eq!(presented.tokens().next().unwrap(), token().expose().as_bytes());
        assert_eq!(presented.by_session(), [[token().expose().as_bytes()]]);
    }

    #[test]
    fn a_remembered_cookie_lasts_as_long_as_its_session_may() {
        let options = CookieOptions::default();
        let day = Duration::from_secs(24 * 3600);
        for (absolute, seconds) in [
            (Some(90 * day), 90 * 24 * 3600),
            (Some(Duration::from_secs(600)), 600),
            (Some(Duration::from_millis(1)), 1),
            (Some(1000 * day), 400 * 24 * 3600),
            (None, 400 * 24 * 3600),
        ] {
            let own = Timeouts::none().with_absolute(absolute);
            let set = written(&options.set(&token(), true, Some(own)));
            assert!(set.ends_with(&format!("; Max-Age={seconds}")), "{absolute:?}: {set}");
            let forgotten = written(&options.set(&token(), false, Some(own)));
            assert!(!forgotten.contains("Max-Age"), "{forgotten}");
        }
    }

    #[test]
    fn a_cookie_for_sister_hosts_or_for_embedding_says_so() {
        let options = CookieOptions::default()
            .with_name("__Secure-session")
            .with_domain("example.com".to_owned())
            .with_same_site(SameSite::None)
            .with_partitioned(true);
        options.validate().unwrap();
        let set = written(&options.set(&token(), false, None));
        for part in ["SameSite=None", "Domain=example.com", "Partitioned", "Secure"] {
            assert!(set.contains(part), "{part} is not in {set}");
        }
    }

    #[test]
    fn the_cookie_of_a_flow_is_this_hosts_alone_and_comes_back_from_other_sites() {
        let options = CookieOptions::default();
        let set = written(&options.flow("0123456789", "value".to_owned()));
        assert!(set.starts_with("__Host-session-flow-01234567=value; "), "{set}");
        assert!(set.contains("SameSite=None") && set.contains("Max-Age=600"), "{set}");
    }
}
