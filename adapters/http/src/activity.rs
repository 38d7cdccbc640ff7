//! What counts as the user's doing.

use http::Method;

use crate::head::Head;

/// Whether a request is none of the user's doing: a preflight, a prefetch, an event stream or a
/// WebSocket, which pages open again by themselves, or what a page reads because of an event. It
/// authenticates and moves no idle timeout. Headers make only a `GET` or `HEAD` passive, and a new address
/// is recorded in any case.
pub(crate) fn is_passive(head: Head<'_>, prefix: &str) -> bool {
    match *head.method {
        Method::OPTIONS | Method::CONNECT => true,
        Method::GET | Method::HEAD => {
            let opens_stream = head.is_handshake() || head.opens_events();
            opens_stream || is_prefetch(head) || is_refresh(head, prefix)
        }
        _ => false,
    }
}

fn is_prefetch(head: Head<'_>) -> bool {
    let says = |name| {
        head.headers.get(name).is_some_and(|value| value.as_bytes().starts_with(b"prefetch"))
    };
    says("sec-purpose") || says("purpose")
}

/// The streams, and the lists with the parameter [`REFRESH`]. The path before the prefix is where the
/// routes are mounted.
fn is_refresh(head: Head<'_>, prefix: &str) -> bool {
    let path = head.uri.path();
    let below = |list: &str| path.strip_suffix(list).is_some_and(|path| path.ends_with(prefix));
    let refreshes = || {
        let parameters = head.uri.query().unwrap_or_default().split('&');
        parameters.into_iter().any(|parameter| parameter.split('=').next() == Some(REFRESH))
    };
    if path.ends_with("/events") {
        return below("/me/events") || below("/admin/events");
    }
    let lists = ["/me", "/me/history", "/admin/sessions", "/admin/history"];
    lists.into_iter().any(below) && refreshes()
}

/// The parameter that a page adds when it reads a list again because of an event.
pub(crate) const REFRESH: &str = "refresh";

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderName, HeaderValue, Uri};

    fn passive(method: &Method, uri: &'static str, header: Option<&'static str>) -> bool {
        let header = header.map(|name| {
            (HeaderName::from_static(name), HeaderValue::from_static("prefetch;prerender"))
        });
        let (headers, uri): (HeaderMap, _) = (header.into_iter().collect(), Uri::from_static(uri));
        is_passive(Head::new(method, &uri, &headers), "/sessions")
    }

    #[test]
    fn only_what_is_not_the_users_doing_is_passive() {
        let get = Method::GET;
        for uri in [
            "/sessions/me/events",
            "/app/sessions/admin/events",
            "/sessions/me?refresh=1",
            "/sessions/me?limit=5&refresh",
            "/sessions/admin/sessions?refresh=1",
        ] {
            assert!(passive(&get, uri, None), "{uri}");
        }
        for uri in ["/sessions/me", "/sessions/me?limit=5", "/x?refresh=1", "/events", "/sessions/"]
        {
            assert!(!passive(&get, uri, None), "{uri}");
        }
        assert!(passive(&get, "/", Some("purpose")) && passive(&get, "/", Some("sec-purpose")));
        assert!(!passive(&Method::POST, "/", Some("purpose")), "a header makes nothing passive");
        assert!(!passive(&Method::DELETE, "/sessions/me/events", None));
        assert!(passive(&Method::OPTIONS, "/", None));
    }

    /// A player asks for the next part of a film while its user watches.
    #[test]
    fn a_request_for_a_part_is_the_users_doing() {
        let uri = Uri::from_static("/films/7");
        let mut headers = HeaderMap::new();
        headers.insert("range", HeaderValue::from_static("bytes=1048576-"));
        headers.insert("if-range", HeaderValue::from_static("\"etag\""));
        for method in [Method::GET, Method::HEAD] {
            assert!(!is_passive(Head::new(&method, &uri, &headers), "/sessions"), "{method}");
        }
        headers.insert("sec-purpose", HeaderValue::from_static("prefetch"));
        for method in [Method::GET, Method::HEAD] {
            assert!(is_passive(Head::new(&method, &uri, &headers), "/sessions"), "{method}");
        }
    }

    #[test]
    fn opening_a_stream_or_a_websocket_is_passive() {
        let passive = |method: &Method, name, value| {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]);
            is_passive(Head::new(method, &Uri::from_static("/live"), &headers), "/sessions")
        };
        for (name, value) in [("accept", "text/event-stream"), ("upgrade", "WebSocket")] {
            assert!(passive(&Method::GET, name, value), "{name}: {value}");
            assert!(!passive(&Method::POST, name, value), "{name}: {value}");
        }
        for (name, value) in [("accept", "*/*, text/event-stream"), ("upgrade", "h2c")] {
            assert!(!passive(&Method::GET, name, value), "{name}: {value}");
        }
        assert!(passive(&Method::CONNECT, "sec-websocket-version", "13"));
    }
}
