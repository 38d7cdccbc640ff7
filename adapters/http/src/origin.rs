//! Whether a request was made by a page of the same origin.

use std::fmt;
use std::str::FromStr;

use http::header::{HOST, ORIGIN};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use session_core::InvalidField;

use crate::head::Head;

/// An origin as browsers write it: scheme, host, and port where it is not the scheme's own. Compared
/// as a whole.
///
/// ```
/// use session_http::Origin;
///
/// let origin: Origin = "https://App.example.com:443".parse()?;
/// assert_eq!(origin.to_string(), "https://app.example.com");
/// assert!("https://app.example.com/path".parse::<Origin>().is_err());
/// # Ok::<_, session_core::InvalidField>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl FromStr for Origin {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        let expected = "an origin such as https://app.example.com";
        let malformed = || InvalidField::malformed("allowed_origins", expected);
        let (scheme, host) = text.split_once("://").ok_or_else(malformed)?;
        let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let of_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if scheme.is_empty() || host.is_empty() {
            return Err(malformed());
        }
        if !scheme.chars().all(of_scheme) || !host.chars().all(of_host) {
            return Err(malformed());
        }
        let host = without_default_port(scheme, host);
        Ok(Self(format!("{scheme}://{host}").to_ascii_lowercase()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

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

impl SameOrigin {
    /// In words, for the log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "a page of this origin",
            Self::Unproven => "no proof of its origin",
            Self::Refuted => "a page of another origin",
        }
    }
}

/// An `Origin` that is allowed counts as our own. Otherwise reads `Sec-Fetch-Site` or, where a browser
/// does not send it, compares `Origin` with the host: the authority of the URI, which HTTP/2 requests
/// have, or else the `Host` header.
pub(crate) fn same_origin(head: Head<'_>, allowed: &[Origin]) -> SameOrigin {
    let headers = head.headers;
    let origin = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or("null"));
    let is_one = headers.get_all(ORIGIN).into_iter().nth(1).is_none();
    if let Some(origin) = origin.filter(|_| is_one && !allowed.is_empty())
        && origin.parse::<Origin>().is_ok_and(|origin| allowed.contains(&origin))
    {
        return SameOrigin::Proven;
    }
    if let Some(site) = headers.get("sec-fetch-site") {
        return match site.as_bytes() {
            b"same-origin" | b"none" => SameOrigin::Proven,
            _ => SameOrigin::Refuted,
        };
    }
    let Some(origin) = origin else { return SameOrigin::Unproven };
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let host = authority.or_else(|| headers.get(HOST)?.to_str().ok());
    match (origin.split_once("://"), host) {
        (Some((scheme, origin)), Some(host))
            if is_one && origin.eq_ignore_ascii_case(without_default_port(scheme, host)) =>
        {
            SameOrigin::Proven
        }
        _ => SameOrigin::Refuted,
    }
}

fn without_default_port<'h>(scheme: &str, host: &'h str) -> &'h str {
    let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    host.strip_suffix(port).unwrap_or(host)
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
        same_origin(Head::new(&Method::POST, &uri, &headers), &[])
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

    #[test]
    fn allowed_origins_are_compared_as_a_whole() {
        let allowed: Vec<Origin> = ["https://shop.example.com", "capacitor://localhost"]
            .iter()
            .map(|origin| origin.parse().unwrap())
            .collect();
        let of = |site: &'static str, origins: &[&'static str], host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            headers.insert(HOST, HeaderValue::from_static(host));
            for origin in origins {
                headers.append(ORIGIN, HeaderValue::from_static(origin));
            }
            same_origin(Head::new(&Method::POST, &Uri::from_static("/"), &headers), &allowed)
        };
        for (site, origin) in [
            ("same-site", "https://shop.example.com"),
            ("cross-site", "capacitor://localhost"),
            ("cross-site", "https://SHOP.example.com:443"),
        ] {
            assert_eq!(of(site, &[origin], "inner:8080"), SameOrigin::Proven, "{origin}");
        }
        for origin in [
            "http://shop.example.com",
            "https://shop.example.com:8443",
            "https://shop.example.com.evil.example",
            "https://evil.example",
            "null",
            "",
        ] {
            assert_eq!(of("cross-site", &[origin], "inner"), SameOrigin::Refuted, "{origin}");
        }
        let two = ["https://shop.example.com", "https://evil.example"];
        assert_eq!(of("cross-site", &two, "inner"), SameOrigin::Refuted);
    }

    #[test]
    fn the_authority_of_the_uri_comes_before_the_host() {
        let headers = HeaderMap::from_iter([
            (ORIGIN, HeaderValue::from_static("https://app.example")),
            (HOST, HeaderValue::from_static("inner:8080")),
        ]);
        let uri = Uri::from_static("https://app.example/sessions/me");
        let head = Head::new(&Method::POST, &uri, &headers);
        assert_eq!(same_origin(head, &[]), SameOrigin::Proven);
    }

    #[test]
    fn what_is_no_origin_is_named() {
        for text in ["", "app.example", "https://", "https://a/b", "https://a?b", "null", "://a"] {
            let error = text.parse::<Origin>().unwrap_err();
            assert_eq!(error.field, "allowed_origins", "{text}");
        }
    }
}
