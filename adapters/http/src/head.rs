//! What the rules read of a request.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, IF_MATCH, IF_NONE_MATCH,
    ORIGIN, UPGRADE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

/// The headers that the rules read. A framework with header types of its own copies these, and all of
/// them where the application's own code reads the head: for a request below the prefix, which an
/// [`AdminGuard`](crate::AdminGuard) judges, and where
/// [`HttpSessions::has_voucher`](crate::HttpSessions::has_voucher).
pub static READ_HEADERS: [HeaderName; 21] = [
    COOKIE,
    AUTHORIZATION,
    ACCEPT,
    HOST,
    ORIGIN,
    USER_AGENT,
    FORWARDED,
    CONTENT_LENGTH,
    IF_MATCH,
    IF_NONE_MATCH,
    UPGRADE,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("sec-fetch-mode"),
    HeaderName::from_static("sec-fetch-dest"),
    HeaderName::from_static("sec-purpose"),
    HeaderName::from_static("purpose"),
    HeaderName::from_static("sec-ch-ua"),
    HeaderName::from_static("sec-ch-ua-mobile"),
    HeaderName::from_static("sec-ch-ua-platform"),
    HeaderName::from_static("sec-ch-ua-form-factors"),
];

/// Those of them that can carry a token.
pub static TOKEN_HEADERS: [HeaderName; 2] = [COOKIE, AUTHORIZATION];

/// Marks the headers that can carry a token, so that nobody's `Debug` shows them.
pub fn mark_sensitive(headers: &mut HeaderMap) {
    for name in &TOKEN_HEADERS {
        if let http::header::Entry::Occupied(mut values) = headers.entry(name) {
            values.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// An address of the internet protocol.
    Ip(IpAddr),
    /// A Unix socket: a process of this host, usually a proxy.
    Unix,
}

impl Peer {
    /// An IPv4 address that came as an IPv6 one, as such.
    pub(crate) fn to_canonical(self) -> Self {
        match self {
            Self::Ip(address) => Self::Ip(address.to_canonical()),
            Self::Unix => Self::Unix,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address.ip())
    }
}

/// Method, URI and headers of a request. `Debug` shows no header.
#[derive(Clone, Copy)]
pub struct Head<'r> {
    /// The method.
    pub method: &'r Method,
    /// The URI that the client asked for, before any router took a prefix off.
    pub uri: &'r Uri,
    /// The headers, at least [`READ_HEADERS`].
    pub headers: &'r HeaderMap,
}

impl<'r> Head<'r> {
    /// The head of a request.
    pub const fn new(method: &'r Method, uri: &'r Uri, headers: &'r HeaderMap) -> Self {
        Self { method, uri, headers }
    }

    /// A copy of what the rules read.
    pub fn to_owned(self) -> OwnedHead {
        let mut headers = HeaderMap::with_capacity(READ_HEADERS.len());
        for name in &READ_HEADERS {
            for value in self.headers.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        OwnedHead { method: self.method.clone(), uri: self.uri.clone(), headers }
    }

    /// Whether the method changes nothing (RFC 9110, 9.2.1).
    pub(crate) fn is_safe(self) -> bool {
        matches!(*self.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
    }

    /// Whether the request opens a WebSocket: by `Upgrade`, or by `CONNECT` over HTTP/2 (RFC 8441).
    pub(crate) fn is_handshake(self) -> bool {
        let websocket = b"websocket";
        let names = |value: &HeaderValue| {
            value.as_bytes().windows(websocket.len()).any(|w| w.eq_ignore_ascii_case(websocket))
        };
        *self.method == Method::CONNECT || self.headers.get_all(UPGRADE).iter().any(names)
    }

    /// Whether the request opens an event stream, as a browser's `EventSource` does.
    pub(crate) fn opens_events(self) -> bool {
        self.headers.get(ACCEPT).is_some_and(|accept| accept == "text/event-stream")
    }

    /// Whether the client asks for HTML, as a browser does for a page.
    pub(crate) fn wants_html(self) -> bool {
        let texts =
            self.headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        texts.flat_map(|text| text.split(',')).any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let html = ["text/html", "application/xhtml+xml"];
            html.iter().any(|html| media.eq_ignore_ascii_case(html))
                && !parts
                    .any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
    }
}

impl fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.uri.path();
        f.debug_struct("Head")
            .field("method", self.method)
            .field("path", &path)
            .finish_non_exhaustive()
    }
}

/// A [`Head`] that outlives its request. `Debug` shows no header.
#[derive(Clone)]
pub struct OwnedHead {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl OwnedHead {
    /// The head of a request whose parts had to be converted.
    pub const fn new(method: Method, uri: Uri, headers: HeaderMap) -> Self {
        Self { method, uri, headers }
    }

    /// The head.
    pub const fn head(&self) -> Head<'_> {
        Head::new(&self.method, &self.uri, &self.headers)
    }
}

impl fmt::Debug for OwnedHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants_html(accept: &'static str) -> bool {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        Head::new(&Method::GET, &Uri::default(), &headers).wants_html()
    }

    #[test]
    fn a_browser_that_asks_for_a_page_is_told_from_a_script() {
        assert!(wants_html("text/html,application/xhtml+xml,*/*;q=0.8"));
        assert!(wants_html("application/json, Text/HTML;q=0.1"));
        for accept in ["*/*", "application/json", "", "text/html;q=0, */*", "text/htmlx"] {
            assert!(!wants_html(accept), "{accept}");
        }
    }

    #[test]
    fn debug_shows_no_header() {
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("session=secret"))]);
        let uri = Uri::from_static("/path?code=secret");
        let head = Head::new(&Method::GET, &uri, &headers);
        assert!(!format!("{head:?} {:?}", head.to_owned()).contains("secret"));
    }
}
