//! The JSON API: paths, parameters, cursors, bodies, and who may ask.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT, HOST, ORIGIN};
use http::{HeaderName, Method, Uri};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use session_core::store::PageCursor;
use session_http::local_path;

use crate::headers;
use crate::node;

/// A method, chosen by the first byte, and a path with its query.
pub fn path(data: &[u8]) {
    let methods = [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::PUT];
    let methods = [&methods[..], &[Method::DELETE, Method::PATCH]].concat();
    let Some((method, path)) = chosen(&methods, data) else { return };
    node::with(|node| node.ask_as_admin(method, &format!("/sessions{path}")));
}

/// Parameters of a call that the first byte chooses.
pub fn query(data: &[u8]) {
    let calls = [
        (Method::GET, "/sessions/me"),
        (Method::GET, "/sessions/admin/sessions"),
        (Method::GET, "/sessions/me/history"),
        (Method::GET, "/sessions/admin/history"),
        (Method::GET, "/sessions/admin/policy"),
        (Method::DELETE, "/sessions/admin/policy"),
        (Method::GET, "/sessions/admin/block"),
        (Method::DELETE, "/sessions/admin/block"),
        (Method::DELETE, "/sessions/admin/users/nobody/sessions"),
        (Method::POST, "/sessions/me/revoke-others"),
        (Method::GET, "/sessions/me/history"),
        (Method::GET, "/sessions/admin/history"),
        (Method::GET, "/sessions/admin/block"),
        (Method::DELETE, "/sessions/admin/sessions"),
        (Method::GET, "/sessions/admin/users/nobody/export"),
    ];
    let Some(((method, path), query)) = chosen(&calls, data) else { return };
    node::with(|node| node.ask_as_admin(method, &format!("{path}?{query}")));
}

fn chosen<'c, 'd, T>(choices: &'c [T], data: &'d [u8]) -> Option<(&'c T, &'d str)> {
    let (first, rest) = data.split_first()?;
    let choice = usize::from(*first) % choices.len();
    Some((&choices[choice], str::from_utf8(rest).ok()?))
}

/// The cursor of a page.
pub fn cursor(data: &[u8]) {
    let encoded = percent_encode(data, NON_ALPHANUMERIC);
    let uri = format!("/sessions/admin/sessions?cursor={encoded}");
    let Some(answer) = node::with(|node| node.ask_as_admin(&Method::GET, &uri)) else { return };
    assert!([200, 400].contains(&answer.status), "{}", answer.status);
    let text = String::from_utf8_lossy(data);
    if let Ok(cursor) = text.parse::<PageCursor>() {
        assert_eq!(answer.status, 200, "a good cursor was refused");
        assert!(cursor.to_string().eq_ignore_ascii_case(&text), "a cursor has one form");
    }
}

/// The body of calls, in two parts.
pub fn json_body(data: &[u8]) {
    let uri = Uri::from_static("/sessions/admin/policy");
    let (first, second) = data.split_at(data.len() / 2);
    let parts = [first, second].map(|part| Ok::<_, Infallible>(Bytes::copy_from_slice(part)));
    let body = || stream::iter(parts.clone());
    node::with(|node| {
        for (method, uri, statuses) in [
            (Method::POST, "/sessions/ticket", [400, 410, 413]),
            (Method::PATCH, "/sessions/me/00000000-0000-0000-0000-000000000000", [400, 404, 413]),
        ] {
            let answer = node.ask(&method, &Uri::from_static(uri), &node.admins(), body());
            let status = answer.map(|answer| answer.status);
            assert!(status.is_some_and(|status| statuses.contains(&status)), "{status:?}");
        }
        let set = node.ask(&Method::PUT, &uri, &node.admins(), body());
        let set = set.expect("the path is the API's");
        assert!([200, 400, 413].contains(&set.status), "{}", set.status);
        if set.status == 200 {
            let shown = node.ask(&Method::GET, &uri, &node.admins(), stream::empty());
            assert_eq!(shown.map(|shown| shown.json()), Some(set.json()), "set is not shown");
        }
    });
}

/// What a page of another origin may send along: it changes nothing.
pub fn origin(data: &[u8]) {
    let names = [
        ORIGIN,
        HOST,
        ACCEPT,
        HeaderName::from_static("sec-purpose"),
        HeaderName::from_static("x"),
    ];
    node::with(|node| {
        let mut headers = node.admins();
        headers.insert("sec-fetch-site", headers::value(b"cross-site"));
        for (name, line) in names.into_iter().zip(data.split(|byte| *byte == b'\n')) {
            headers.append(name, headers::value(line));
        }
        let uri = Uri::from_static("/sessions/me/revoke-others");
        let answer = node.ask(&Method::POST, &uri, &headers, stream::empty());
        assert_eq!(answer.map(|answer| answer.status), Some(403), "{headers:?}");
    });
}

/// The way back after a sign-in.
pub fn next(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Some(path) = local_path(text) else { return };
    assert!(path.starts_with('/') && !path.starts_with("//"), "{path:?}");
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'), "{path:?}");
    if let Ok(uri) = Uri::try_from(path) {
        assert!(uri.authority().is_none(), "{path:?} leads to another host");
    }
}
