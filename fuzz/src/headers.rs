//! Headers out of bytes.

use http::{HeaderMap, HeaderName, HeaderValue};

/// One header for each line. What no server lets through is replaced, so that every input is of use.
pub(crate) fn lines(name: &HeaderName, data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        headers.append(name, value(line));
    }
    headers
}

/// A value that a server lets through.
pub(crate) fn value(bytes: &[u8]) -> HeaderValue {
    let is_allowed = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    let bytes: Vec<_> =
        bytes.iter().map(|byte| if is_allowed(*byte) { *byte } else { b'?' }).collect();
    HeaderValue::from_bytes(&bytes).expect("all bytes are allowed")
}
