//! Where a request came from.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Once;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use session_core::InvalidField;

use crate::head::Peer;
use crate::list;

/// How the client's address is found: from the connection, or from what trusted proxies say.
///
/// A forwarding header is a list that anyone may begin; only what trusted proxies appended is
/// true. It is read from its end: the first address that is not a trusted proxy is the client. What
/// cannot be read ends the list there, and of `Forwarded` a whole header that breaks its grammar: then
/// the last proxy that was believed counts as the client.
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
        net.map(Self::Net)
            .map_err(|_| InvalidField::malformed("client_ip.trusted_proxies", expected))
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
        let mut client = peer?.to_canonical();
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

    /// Says in the log, once per process, why addresses are not what they could be: a server that does
    /// not say who connects, or a proxy that is not trusted.
    pub(crate) fn warn_of_what_is_missing(&self, headers: &HeaderMap, peer: Option<Peer>) {
        static NO_PEER: Once = Once::new();
        static NOT_TRUSTED: Once = Once::new();
        let Some(peer) = peer.map(Peer::to_canonical) else {
            return NO_PEER.call_once(|| {
                tracing::warn!(
                    "no session gets an address, because the server does not say who connects; \
                     axum needs `into_make_service_with_connect_info::<SocketAddr>()`, a tower \
                     service a `Peer` or a `SocketAddr` in the request's extensions"
                );
            });
        };
        if !NOT_TRUSTED.is_completed()
            && !self.is_trusted(peer)
            && headers.contains_key(self.header.name())
        {
            NOT_TRUSTED.call_once(|| {
                tracing::warn!(
                    %peer,
                    "{} is ignored, because it came from a peer that is not among \
                     `client_ip.trusted_proxies`; if that is your proxy, name it there",
                    self.header.name()
                );
            });
        }
    }

    fn is_trusted(&self, peer: Peer) -> bool {
        self.trusted_proxies.iter().any(|proxy| proxy.is(peer))
    }

    /// The addresses that the header names, the nearest last.
    fn hops(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let values = headers.get_all(self.header.name()).into_iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let hops_of = |value: &str| match self.header {
            ForwardingHeader::XForwardedFor => value.split(',').map(parse_address).collect(),
            ForwardingHeader::Forwarded => forwarded(value).unwrap_or_else(|| vec![None]),
        };
        values.flat_map(|value| hops_of(&value)).collect()
    }
}

impl ForwardingHeader {
    const fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            Self::Forwarded => FORWARDED,
        }
    }
}

/// The address in each element (RFC 7239, 4). None where the value breaks the grammar: who wrote which
/// part of it cannot be said.
fn forwarded(value: &str) -> Option<Vec<Option<IpAddr>>> {
    let elements = list::split(value, ',')?.into_iter().map(nodes);
    let address = |nodes: Vec<Cow<'_, str>>| match nodes.as_slice() {
        [node] => parse_address(node),
        _ => None,
    };
    elements.map(|nodes| nodes.map(address)).collect()
}

/// The values of `for` in an element; one, if it means anything. None where it breaks the grammar.
fn nodes(element: &str) -> Option<Vec<Cow<'_, str>>> {
    let pairs = list::split(element, ';')?.into_iter().filter(|pair| !pair.trim().is_empty());
    let mut pairs: Vec<_> = pairs.map(list::pair).collect::<Option<_>>()?;
    pairs.retain(|(name, _)| name.eq_ignore_ascii_case("for"));
    Some(pairs.into_iter().map(|(_, node)| node).collect())
}

/// An address with or without a port, brackets or a zone. A port may be hidden (RFC 7239, 6.3).
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        (port.is_empty() || is_port(port.strip_prefix(':')?)).then_some(address)?
    } else {
        match text.split_once(':') {
            Some((address, port)) if is_port(port) && address.contains('.') => address,
            _ => text,
        }
    };
    let without_zone = address.split_once('%').map_or(address, |(address, _)| address);
    without_zone.parse().ok().map(|address: IpAddr| address.to_canonical())
}

fn is_port(text: &str) -> bool {
    let hidden = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match text.strip_prefix('_') {
        Some(name) => hidden(name),
        None => number(text) && text.parse::<u16>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::collection::vec;
    use proptest::prelude::*;

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
            ("192.0.2.1:_hidden", "192.0.2.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:80", "fe80::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(parse_address(text), Some(ip(expected)), "{text}");
        }
        for text in ["", "[", "[::1", "[::1]x", "[::1]:99999", "1.2.3", "_hidden", "::1]", ":80"] {
            assert_eq!(parse_address(text), None, "{text}");
        }
    }

    #[test]
    fn forwarded_is_read_by_its_rfc() {
        let forwarded = ForwardingHeader::Forwarded;
        let value = "for=6.6.6.6;proto=http, For=\"[2001:db8::1]:4711\";by=10.0.0.1";
        assert_eq!(client(forwarded, &[value], "fd00::1"), ip("2001:db8::1"));
        assert_eq!(client(forwarded, &["for=_secret"], "10.0.0.1"), ip("10.0.0.1"));
        // A separator inside quotes separates nothing.
        for value in [
            r#"for=203.0.113.9;host="x,for=6.6.6.6""#,
            r#"for=203.0.113.9;host="x;for=6.6.6.6""#,
            r#"for=203.0.113.9;host="x\",for=6.6.6.6""#,
            r#"for=6.6.6.6, FOR="203.0.113.9:4711" ; proto=https;host=example.com:8080"#,
            r#"for="6.6.6.6", for="203.\0.113.9";by="[fd00::1]:_x""#,
            "for=6.6.6.6, for=203.0.113.9, for=10.0.0.7;by=_proxy",
            "for=203.0.113.9;;",
        ] {
            assert_eq!(client(forwarded, &[value], "10.0.0.1"), ip("203.0.113.9"), "{value}");
        }
        let two = [r#"for="6.6.6.6"#, r#"for=203.0.113.9;host="a""#];
        assert_eq!(client(forwarded, &two, "10.0.0.1"), ip("203.0.113.9"), "two headers");
    }

    #[test]
    fn what_breaks_the_grammar_ends_the_chain() {
        let forwarded = ForwardingHeader::Forwarded;
        for value in [
            // The client's part opens a quoted string, which the proxy's part closes.
            r#"for="x, for=203.0.113.9"#,
            r#"for="x, for=203.0.113.9;host="a,for=6.6.6.6""#,
            r#"for="x, for=203.0.113.9;host=",for=6.6.6.6,\"""#,
            r#"a"b, for=6.6.6.6"#,
            "for=6.6.6.6;for=6.6.6.7",
            "proto=https",
            "for=6.6.6.6 for=6.6.6.7",
            "for =6.6.6.6",
            "for=6.6.6.6;host=a b",
            "for=6.6.6.6;host",
            "for=unknown",
            "for=",
            "for=6.6.6.6,",
            "",
        ] {
            assert_eq!(client(forwarded, &[value], "10.0.0.1"), ip("10.0.0.1"), "{value}");
        }
        let value = "for=6.6.6.6, for=_hidden, for=10.0.0.7";
        assert_eq!(client(forwarded, &[value], "10.0.0.1"), ip("10.0.0.7"), "as far as it goes");
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
        let expected = "an address, a range such as 10.0.0.0/8, or unix";
        assert_eq!(error.to_string(), format!("client_ip.trusted_proxies is not {expected}"));
    }

    /// Parts of headers, so that what is nearly right is common.
    fn header() -> impl Strategy<Value = HeaderValue> {
        let word = prop_oneof![
            3 => prop::sample::select(vec![
                "for=", "host=", "6.6.6.6", ",for=6.6.6.6", "10.0.0.2", "[::1]", "\"", "\\", ",", ";",
                " ", "=", ":80",
            ]).prop_map(|word| word.as_bytes().to_vec()),
            1 => vec(prop_oneof![Just(b'\t'), 32..=126_u8, 128..=255_u8], 0..9),
        ];
        vec(word, 0..14).prop_map(|words| HeaderValue::from_bytes(&words.concat()).unwrap())
    }

    fn named() -> impl Strategy<Value = ForwardingHeader> {
        prop_oneof![Just(ForwardingHeader::XForwardedFor), Just(ForwardingHeader::Forwarded)]
    }

    proptest! {
        #[test]
        fn no_header_of_an_untrusted_peer_counts(
            name in named(), values in vec(header(), 0..4), peer in any::<u32>(),
        ) {
            let peer = IpAddr::from(peer.to_be_bytes());
            prop_assume!(!"10.0.0.0/8".parse::<IpNet>().unwrap().contains(&peer));
            let options = ClientIpOptions::default()
                .with_trusted_proxies(["10.0.0.0/8".parse().unwrap()])
                .with_header(name);
            let headers = values.into_iter().map(|value| (name.name(), value));
            let headers: HeaderMap = headers.collect();
            prop_assert_eq!(options.client_ip(&headers, Some(Peer::Ip(peer))), Some(peer));
            prop_assert_eq!(options.client_ip(&headers, Some(Peer::Unix)), None);
            prop_assert_eq!(options.client_ip(&headers, None), None);
        }

        /// A client begins the header, with quotes and escapes, and asks for any host: the address that
        /// the proxy appends counts, or the proxy's own.
        #[test]
        fn what_a_client_began_never_wins(
            name in named(), begun in vec(header(), 1..3), host in header(),
        ) {
            let options = ClientIpOptions::default()
                .with_trusted_proxies(["10.0.0.0/8".parse().unwrap()])
                .with_header(name);
            let host = String::from_utf8_lossy(host.as_bytes());
            let host = host.replace('\\', "\\\\").replace('"', "\\\"");
            let appended = match name {
                ForwardingHeader::XForwardedFor => ", 203.0.113.9".to_owned(),
                ForwardingHeader::Forwarded => format!(", for=203.0.113.9;host=\"{host}\""),
            };
            let mut headers = HeaderMap::new();
            let (last, first) = begun.split_last().unwrap();
            first.iter().for_each(|value| { headers.append(name.name(), value.clone()); });
            let whole = [last.as_bytes(), appended.as_bytes()].concat();
            headers.append(name.name(), HeaderValue::from_bytes(&whole).unwrap());
            let seen = options.client_ip(&headers, Some(Peer::Ip(ip("10.0.0.1")))).unwrap();
            prop_assert!([ip("203.0.113.9"), ip("10.0.0.1")].contains(&seen), "{}", seen);
        }

        #[test]
        fn any_text_is_an_address_or_not_but_never_a_panic(text in ".{0,60}") {
            let _ = parse_address(&text);
            let _ = text.parse::<TrustedProxy>();
        }
    }
}
