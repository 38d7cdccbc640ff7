//! The way to the sign-in page and back.

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::head::Head;

/// The path, if it leads to this origin and nowhere else: where to go after a sign-in that was
/// asked for with `next`.
///
/// It begins with one slash, has visible ASCII characters only and no backslash, so no browser takes
/// it for another host's.
///
/// ```
/// use session_http::local_path;
///
/// assert_eq!(local_path("/vault?item=1"), Some("/vault?item=1"));
/// assert_eq!(local_path("//evil.example/"), None);
/// assert_eq!(local_path("https://evil.example/"), None);
/// ```
pub fn local_path(next: &str) -> Option<&str> {
    let rest = next.strip_prefix('/')?;
    let plain = |byte: u8| (0x21..=0x7e).contains(&byte) && byte != b'\\';
    (!rest.starts_with('/') && rest.bytes().all(plain)).then_some(next)
}

/// The way to sign in and, for a page, back to it.
pub(crate) fn sign_in_location(sign_in_path: &str, head: Head<'_>) -> Option<HeaderValue> {
    let page = head.uri.path_and_query().map(|path| path.as_str()).and_then(local_path);
    let page = page.filter(|page| page.len() <= MAX_NEXT_BYTES);
    let location = match page.filter(|_| head.is_safe()) {
        Some(page) => {
            let separator = if sign_in_path.contains('?') { '&' } else { '?' };
            format!("{sign_in_path}{separator}next={}", utf8_percent_encode(page, QUERY_VALUE))
        }
        None => sign_in_path.to_owned(),
    };
    HeaderValue::try_from(location).ok()
}

/// A longer path is not led back to: it has to pass through forms and flows.
const MAX_NEXT_BYTES: usize = 1024;

/// What may stand in the value of a query's parameter without harm stays readable.
const QUERY_VALUE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method, Uri};

    #[test]
    fn only_paths_of_this_origin_lead_back() {
        for path in ["/", "/a/b?c=d&e=%2F#f", "/.//evil.example"] {
            assert_eq!(local_path(path), Some(path));
        }
        for path in [
            "",
            "a",
            "//evil",
            "/\\evil",
            "/a\\b",
            "/\t/evil",
            "/a b",
            "/é",
            "http://evil",
            "\n/a",
            "/%00\0",
        ] {
            assert_eq!(local_path(path), None, "{path:?}");
        }
    }

    #[test]
    fn a_page_is_named_and_a_form_is_not() {
        let way = |method: &Method, sign_in: &str| {
            let uri = Uri::from_static("/vault?a=1&b=2");
            let headers = HeaderMap::new();
            let head = Head::new(method, &uri, &headers);
            sign_in_location(sign_in, head).unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(way(&Method::GET, "/login"), "/login?next=/vault%3Fa%3D1%26b%3D2");
        assert_eq!(way(&Method::GET, "/login?x=1"), "/login?x=1&next=/vault%3Fa%3D1%26b%3D2");
        assert_eq!(way(&Method::POST, "/login"), "/login");
    }
}
