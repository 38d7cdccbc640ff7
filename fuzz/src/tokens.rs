//! Tokens, and the headers that carry them.

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, Method, Uri};
use session_core::Token;
use session_engine::{Access, Verdict};
use session_http::{Flow, Head, RequestSession};

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
    let filled = node.filled(data);
    let (uri, headers) = (Uri::from_static("/"), headers::lines(name, &filled));
    let identity = node.identify(Head::new(&Method::GET, &uri, &headers));
    let has_token = data.windows(PLACE.len()).any(|window| window == PLACE);
    assert!(has_token || identity.session().is_none(), "a guess was right: {headers:?}");
}

const PLACE: &[u8] = b"{token}";

/// The cookie of a sign-in at another site: the state that came back, and cookies from the second line
/// on. `{now}` is the time at which the flow was begun.
pub fn flow(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let Ok(state) = str::from_utf8(parts.next().unwrap_or_default()) else { return };
    let cookies = parts.next().unwrap_or_default();
    node::with(|node| {
        let (uri, headers) =
            (Uri::from_static("/callback"), headers::lines(&COOKIE, &node.filled(cookies)));
        let head = Head::new(&Method::GET, &uri, &headers);
        let request = RequestSession::new(node.http().clone(), node.identify(head), None);
        if let Ok((flow, _)) = request.auth(head).finish_flow(state) {
            assert!(flow.state == state && flow.data.len() <= Flow::MAX_DATA_BYTES);
            assert!(request.auth(head).finish_flow(state).is_err(), "a flow comes back once");
        }
    });
}

/// A token alone.
pub fn token(data: &[u8]) {
    let verdict = node::with(|node| {
        node.wait(node.http().manager().validate(data, Access::default()))
            .expect("a store in memory is never away")
    });
    assert!(!matches!(verdict, Verdict::Active(_)), "a guess was right");
    let Some(token) = Token::parse(data) else { return };
    let text = token.expose();
    assert!(text.as_bytes().eq_ignore_ascii_case(data), "a token has one form");
    assert!(!format!("{token:?}").contains(&text[32..]), "the secret shows");
    let next = token.successor(&[0; 16]);
    assert_eq!(next.session_id(), token.session_id());
    assert_eq!(next.family_digest(), token.family_digest());
}
