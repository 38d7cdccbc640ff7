//! Tokens, and the headers that carry them.

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, Method, Uri};
use session_core::Token;
use session_engine::{Access, Verdict};
use session_http::Head;

use crate::headers;
use crate::node::{self, Node};

/// The cookie header: one for each line, `{token}` for a valid token.
pub fn cookie(data: &[u8]) {
    node::with(|node| whoever_is_known_sent_the_token(node, &COOKIE, data));
}

/// The same for `Authorization`.
pub fn bearer(data: &[u8]) {
    node::with(|node| whoever_is_known_sent_the_token(node, &AUTHORIZATION, data));
}

fn whoever_is_known_sent_the_token(node: &Node, name: &HeaderName, data: &[u8]) {
    let filled = node.with_token(data);
    let (uri, headers) = (Uri::from_static("/"), headers::lines(name, &filled));
    let identity = node.identify(Head::new(&Method::GET, &uri, &headers));
    if identity.session().is_some() {
        assert!(filled.len() > data.len(), "a guess was right: {headers:?}");
    }
}

/// A token alone.
pub fn token(data: &[u8]) {
    let verdict = node::with(|node| {
        node.wait(node.http().manager().validate(data, Access::passive()))
            .expect("a store in memory is never away")
    });
    assert!(!matches!(verdict, Verdict::Active(_)), "a guess was right");
    let Some(token) = Token::parse(data) else { return };
    let text = token.expose();
    assert!(text.as_bytes().eq_ignore_ascii_case(data), "a token has one form");
    assert!(!format!("{token:?}").contains(&text[32..]), "the secret shows");
    let next = token.rotated([0; Token::SECRET_BYTES]);
    assert_eq!(next.session_id(), token.session_id());
    assert_eq!(next.family_digest(), token.family_digest());
}
