//! Who asks, by their own words and by those of proxies.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{FORWARDED, USER_AGENT};
use http::{HeaderMap, HeaderName};
use session_core::{DeviceInfo, DeviceKind};
use session_http::{ClientIpOptions, ForwardingHeader, Peer, device};

use crate::headers;

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

/// `Forwarded`.
pub fn forwarded(data: &[u8]) {
    appended_last(ForwardingHeader::Forwarded, &FORWARDED, data, "for=203.0.113.9");
}

/// `X-Forwarded-For`.
pub fn x_forwarded_for(data: &[u8]) {
    let name = HeaderName::from_static("x-forwarded-for");
    appended_last(ForwardingHeader::XForwardedFor, &name, data, "203.0.113.9");
}

/// Only what a trusted proxy appended counts, for any header of a client.
fn appended_last(header: ForwardingHeader, name: &HeaderName, data: &[u8], hop: &str) {
    let proxy = "10.0.0.1".parse().expect("an address");
    let options = ClientIpOptions::default().with_trusted_proxies([proxy]).with_header(header);
    let sent = headers::lines(name, data);
    let seen = |headers: &HeaderMap, peer| options.client_ip(headers, Some(Peer::Ip(peer)));
    assert_eq!(seen(&sent, STRANGER), Some(STRANGER), "nobody trusts a stranger");
    let mut on_a_new_line = sent.clone();
    on_a_new_line.append(name, headers::value(hop.as_bytes()));
    let on_the_last_line = headers::lines(name, &[data, b", ", hop.as_bytes()].concat());
    for headers in [&on_a_new_line, &on_the_last_line] {
        let client = seen(headers, PROXY);
        assert!([Some(STRANGER), Some(PROXY)].contains(&client), "{headers:?}: {client:?}");
    }
}

/// `User-Agent`.
pub fn user_agent(data: &[u8]) {
    let headers = headers::lines(&USER_AGENT, data);
    let (kind, info) = device(&headers);
    let length = info.as_ref().map_or(0, |info| info.as_str().len());
    assert!(length <= DeviceInfo::MAX_BYTES && !kind.to_string().is_empty());
    assert_eq!(kind.to_string().parse::<DeviceKind>().as_ref(), Ok(&kind));
    assert_eq!(device(&headers), (kind, info), "the same agent, another device");
}
