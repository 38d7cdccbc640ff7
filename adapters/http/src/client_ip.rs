//! Where a request came from.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;
use http::header::FORWARDED;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use session_core::InvalidField;

use crate::head::Peer;

/// How the client's address is found: from the connection, or from what trusted proxies say.
///
/// A forwarding header is a list that anyone may begin; only what trusted proxies appended is
/// true. It is read from its end: the first address that is not a trusted proxy is the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ClientIpOptions {
    /// The proxies whose word is taken. Default none: the connection counts.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// The header that those proxies append to.
    pub header: ForwardingHeader,
}

/// Which header the proxies append to. Exactly one counts: a proxy that writes one passes the
/// other on as the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ForwardingHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// A proxy whose word is taken: a range of addresses, one address, or `unix` for any peer on a Unix
/// socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustedProxy {
    /// Addresses.
    Net(IpNet),
    /// Processes of this host, over a Unix socket.
    Unix,
}

impl TrustedProxy {
    fn is(&self, peer: Peer) -> bool {
        match (self, peer) {
            (Self::Net(net), Peer::Ip(address)) => net.contains(&address),
            (Self::Unix, Peer::Unix) => true,
            (Self::Net(_), Peer::Unix) | (Self::Unix, Peer::Ip(_)) => false,
        }
    }
}

impl FromStr for TrustedProxy {
    type Err = InvalidField;

    fn from_str(text: &str) -> Result<Self, InvalidField> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let expected = "an address, a range such as 10.0.0.0/8, or unix";
        net.map(Self::Net).map_err(|_| InvalidField::malformed("trusted_proxies", expected))
    }
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) => net.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl Serialize for TrustedProxy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TrustedProxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl ClientIpOptions {
    /// The proxies whose word is taken.
    #[must_use]
    pub fn with_trusted_proxies(mut self, proxies: impl Into<Vec<TrustedProxy>>) -> Self {
        self.trusted_proxies = proxies.into();
        self
    }

    /// The header that those proxies append to.
    #[must_use]
    pub const fn with_header(mut self, header: ForwardingHeader) -> Self {
        self.header = header;
        self
    }

    /// The client's address; none where the server does not say who connects, or where a proxy on a
    /// Unix socket sends no address.
    pub fn client_ip(&self, headers: &HeaderMap, peer: Option<Peer>) -> Option<IpAddr> {
        let peer = peer.map(|peer| match peer {
            Peer::Ip(address) => Peer::Ip(address.to_canonical()),
            Peer::Unix => Peer::Unix,
        });
        let mut client = peer?;
        if self.is_trusted(client) {
            for hop in self.hops(headers).into_iter().rev() {
                // What cannot be read ends the chain of those who can be believed.
                let Some(address) = hop else { break };
                client = Peer::Ip(address);
                if !self.is_trusted(client) {
                    break;
                }
            }
        }
        match client {
            Peer::Ip(address) => Some(address),
            Peer::Unix => None,
        }
    }

    fn is_trusted(&self, peer: Peer) -> bool {
        self.trusted_proxies.iter().any(|proxy| proxy.is(peer))
    }

    /// The addresses that the header names, the nearest last.
    fn hops(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        match self.header {
            ForwardingHeader::XForwardedFor => {
                elements(headers, "x-forwarded-for").map(parse_address).collect()
            }
            ForwardingHeader::Forwarded => {
                elements(headers, FORWARDED.as_str()).map(forwarded_for).collect()
            }
        }
    }
}

/// The elements of a list that may stand in several headers. A header that is not text counts as
/// one element that cannot be read.
fn elements<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    let texts = headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or("?"));
    texts.flat_map(|text| text.split(','))
}

fn forwarded_for(element: &str) -> Option<IpAddr> {
    let parameter = element.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value)
    })?;
    parse_address(parameter.trim().trim_matches('"'))
}

/// An address with or without a port, brackets or a zone.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let without_zone = |text: &str| match text.split_once('%') {
        Some((address, _)) => address.parse().ok(),
        None => text.parse().ok(),
    };
    let bracketed = || {
        let (address, port) = text.strip_prefix('[')?.split_once(']')?;
        let port_fits = port.is_empty() || port.strip_prefix(':')?.parse::<u16>().is_ok();
        port_fits.then(|| without_zone(address))?
    };
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    without_zone(text)
        .or_else(with_port)
        .or_else(bracketed)
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn client(header: ForwardingHeader, values: &[&str], peer: &str) -> IpAddr {
        let options = ClientIpOptions {
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            header,
        };
        let name = match header {
            ForwardingHeader::XForwardedFor => "x-forwarded-for",
            ForwardingHeader::Forwarded => "forwarded",
        };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        options.client_ip(&headers, Some(Peer::Ip(ip(peer)))).unwrap()
    }

    #[test]
    fn a_stranger_may_say_what_he_likes() {
        let xff = ForwardingHeader::XForwardedFor;
        assert_eq!(client(xff, &["1.1.1.1"], "203.0.113.9"), ip("203.0.113.9"));
        assert_eq!(client(xff, &["6.6.6.6, 203.0.113.9"], "10.0.0.1"), ip("203.0.113.9"));
        assert_eq!(
            client(xff, &["6.6.6.6", "203.0.113.9, 10.0.0.2"], "10.0.0.1"),
            ip("203.0.113.9")
        );
    }

    #[test]
    fn unreadable_hops_end_the_chain() {
        let xff = ForwardingHeader::XForwardedFor;
        assert_eq!(client(xff, &["6.6.6.6, unknown"], "10.0.0.1"), ip("10.0.0.1"));
        assert_eq!(client(xff, &["6.6.6.6, , 10.0.0.3"], "10.0.0.1"), ip("10.0.0.3"));
        assert_eq!(client(xff, &[], "10.0.0.1"), ip("10.0.0.1"));
        assert_eq!(client(xff, &["10.0.0.7"], "10.0.0.1"), ip("10.0.0.7"));
    }

    #[test]
    fn ports_brackets_and_zones_are_read() {
        for (text, expected) in [
            ("192.0.2.1:4711", "192.0.2.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:80", "fe80::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(parse_address(text), Some(ip(expected)), "{text}");
        }
        for text in ["", "[", "[::1", "[::1]x", "[::1]:99999", "1.2.3", "_hidden", "::1]"] {
            assert_eq!(parse_address(text), None, "{text}");
        }
    }

    #[test]
    fn forwarded_is_read_by_its_rfc() {
        let forwarded = ForwardingHeader::Forwarded;
        let value = "for=6.6.6.6;proto=http, For=\"[2001:db8::1]:4711\";by=10.0.0.1";
        assert_eq!(client(forwarded, &[value], "fd00::1"), ip("2001:db8::1"));
        assert_eq!(client(forwarded, &["for=_secret"], "10.0.0.1"), ip("10.0.0.1"));
    }

    #[test]
    fn a_proxy_on_a_unix_socket_is_believed_where_it_is_trusted() {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-forwarded-for"),
            HeaderValue::from_static("203.0.113.9"),
        )]);
        let trusting = |proxies: &[&str]| {
            let proxies: Vec<_> = proxies.iter().map(|proxy| proxy.parse().unwrap()).collect();
            ClientIpOptions::default().with_trusted_proxies(proxies)
        };
        let seen = |proxies: &[&str]| trusting(proxies).client_ip(&headers, Some(Peer::Unix));
        assert_eq!(seen(&["unix"]), Some(ip("203.0.113.9")));
        assert_eq!(seen(&["10.0.0.0/8"]), None);
        let empty = HeaderMap::new();
        assert_eq!(trusting(&["unix"]).client_ip(&empty, Some(Peer::Unix)), None);
        let of_ip =
            |peer| trusting(&["unix", "10.0.0.1"]).client_ip(&headers, Some(Peer::Ip(ip(peer))));
        assert_eq!(of_ip("10.0.0.1"), Some(ip("203.0.113.9")), "one address is a range, too");
        assert_eq!(of_ip("10.0.0.2"), Some(ip("10.0.0.2")));
        let error = "10.0.0.0/33".parse::<TrustedProxy>().unwrap_err();
        assert!(error.to_string().contains("10.0.0.0/8"), "{error}");
    }
}
