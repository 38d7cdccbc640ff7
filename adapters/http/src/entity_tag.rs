//! Entity tags (RFC 9110, 8.8.3): whether a client has the current version of something.

use http::{HeaderMap, HeaderName, HeaderValue};

/// A tag of some bytes. Other bytes have another tag.
pub(crate) struct EntityTag(String);

impl EntityTag {
    /// FNV-1a of the bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(format!("\"{:016x}\"", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)))
    }

    /// Whether a header such as `If-Match` lists it, or says `*`.
    ///
    /// A weak tag counts as the same: proxies that compress a response make its tag weak.
    pub(crate) fn is_in(&self, headers: &HeaderMap, name: HeaderName) -> bool {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.0
        })
    }

    /// The value of an `ETag` header.
    pub(crate) fn value(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(&self.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::IF_MATCH;

    #[test]
    fn a_tag_is_found_weak_or_strong_in_any_of_the_headers() {
        let is_in = |values: &[&'static str]| {
            let value = |value: &&'static str| (IF_MATCH, HeaderValue::from_static(value));
            EntityTag("\"a\"".to_owned()).is_in(&values.iter().map(value).collect(), IF_MATCH)
        };
        for values in [&["\"a\""][..], &["W/\"a\""], &["\"b\" , \"a\""], &["\"b\"", "*"]] {
            assert!(is_in(values), "{values:?}");
        }
        for values in [&[][..], &[""], &["\"b\""], &["a"], &["W/"]] {
            assert!(!is_in(values), "{values:?}");
        }
        assert_ne!(EntityTag::of(b"a").0, EntityTag::of(b"b").0);
    }
}
