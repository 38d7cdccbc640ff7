//! Whether a request was made by a page of the same origin.

use http::header::{HOST, ORIGIN};

use crate::head::Head;

/// What a request's headers prove about the page that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameOrigin {
    /// A page of this origin, or the user's own doing.
    Proven,
    /// No word of it: not a browser of the last years.
    Unproven,
    /// A page of another origin.
    Refuted,
}

/// Reads `Sec-Fetch-Site` or, where a browser does not send it, compares `Origin` with the host: the
/// `Host` header or, for HTTP/2 requests without one, the authority of the URI.
pub fn same_origin(head: Head<'_>) -> SameOrigin {
    let headers = head.headers;
    if let Some(site) = headers.get("sec-fetch-site") {
        return match site.as_bytes() {
            b"same-origin" | b"none" => SameOrigin::Proven,
            _ => SameOrigin::Refuted,
        };
    }
    let Some(origin) = headers.get(ORIGIN) else { return SameOrigin::Unproven };
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .or(head.uri.authority().map(|authority| authority.as_str()));
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, host) {
        (Some((scheme, origin)), Some(host)) if same_host(scheme, origin, host) => {
            SameOrigin::Proven
        }
        _ => SameOrigin::Refuted,
    }
}

fn same_host(scheme: &str, origin: &str, host: &str) -> bool {
    let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let host = host.strip_suffix(default_port).unwrap_or(host);
    origin.eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue, Method, Uri};

    fn proof(pairs: &[(&'static str, &'static str)]) -> SameOrigin {
        let headers = pairs.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), HeaderValue::from_static(value))
        });
        let (headers, uri): (HeaderMap, _) = (headers.collect(), Uri::default());
        same_origin(Head::new(&Method::POST, &uri, &headers))
    }

    #[test]
    fn proofs_are_told_from_forgeries() {
        use SameOrigin::{Proven, Refuted, Unproven};
        let host = ("host", "app.example");
        assert_eq!(proof(&[("sec-fetch-site", "same-origin")]), Proven);
        assert_eq!(
            proof(&[("sec-fetch-site", "same-site"), ("origin", "https://app.example"), host]),
            Refuted
        );
        assert_eq!(proof(&[("sec-fetch-site", "cross-site")]), Refuted);
        assert_eq!(proof(&[("origin", "https://app.example"), host]), Proven);
        assert_eq!(
            proof(&[("origin", "https://app.example"), ("host", "app.example:443")]),
            Proven
        );
        assert_eq!(proof(&[("origin", "https://app.example:8443"), host]), Refuted);
        assert_eq!(proof(&[("origin", "https://evil.example"), host]), Refuted);
        assert_eq!(proof(&[("origin", "null"), host]), Refuted);
        assert_eq!(proof(&[host]), Unproven);
    }
}
