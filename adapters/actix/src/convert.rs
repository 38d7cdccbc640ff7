//! Between the types of `http` 0.2, which actix-web has, and those of `http` 1.

use std::io;

use actix_web::HttpResponse;
use actix_web::body::{BodyStream, BoxBody, SizedStream};
use actix_web::dev::RequestHead;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use futures_util::{StreamExt, stream};
use session_http::{Body, Content, OwnedHead, Problem, READ_HEADERS, TOKEN_HEADERS};

/// The head, with all headers or only with those that the rules read.
pub(crate) fn read_head(head: &RequestHead, all: bool) -> Result<OwnedHead, Problem> {
    let read = http::Request::builder().method(head.method.as_str()).uri(head.uri.to_string());
    let unreadable = |_| Problem::malformed("the method or the URI cannot be read");
    let (mut parts, ()) = read.body(()).map_err(unreadable)?.into_parts();
    for (name, value) in head.headers() {
        let read = READ_HEADERS.iter().find(|read| read.as_str() == name.as_str()).cloned();
        let other = || http::HeaderName::from_bytes(name.as_str().as_bytes()).ok();
        let Some(name) = read.or_else(|| other().filter(|_| all)) else { continue };
        if let Ok(value) = http::HeaderValue::from_bytes(value.as_bytes()) {
            parts.headers.append(name, value);
        }
    }
    Ok(OwnedHead::new(parts.method, parts.uri, parts.headers))
}

/// Marks the headers that can carry a token, so that nobody's `Debug` shows them.
pub(crate) fn mark_sensitive(headers: &mut HeaderMap) {
    for name in TOKEN_HEADERS.iter().map(|name| HeaderName::from_static(name.as_str())) {
        for mut value in headers.remove(&name).collect::<Vec<_>>() {
            value.set_sensitive(true);
            headers.append(name.clone(), value);
        }
    }
}

/// The response, with the length of its body where that is known. A request's body that nobody holds is
/// read to its end by actix-web, which may never come; one that is held until the response is sent
/// closes the connection.
pub(crate) fn response(response: http::Response<Body>, held: impl Sized + 'static) -> HttpResponse {
    let (parts, body) = response.into_parts();
    let mut response = HttpResponse::new(status(parts.status));
    for (name, value) in parts.headers.iter().filter_map(header) {
        response.headers_mut().append(name, value);
    }
    let holding = move |part: io::Result<Bytes>| (part, &held).0;
    response.set_body(match body.into_content() {
        Content::Bytes(bytes) => BoxBody::new(SizedStream::new(
            bytes.len() as u64,
            stream::iter([Ok(bytes)]).map(holding),
        )),
        Content::Stream(stream) => BoxBody::new(BodyStream::new(stream.map(holding))),
    })
}

/// A status. Both versions of `http` take the same ones.
pub(crate) fn status(status: http::StatusCode) -> StatusCode {
    StatusCode::from_u16(status.as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A header of a response. Both versions of `http` take the same names and values.
pub(crate) fn header(
    (name, value): (&http::HeaderName, &http::HeaderValue),
) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
    let mut converted = HeaderValue::from_bytes(value.as_bytes()).ok()?;
    converted.set_sensitive(value.is_sensitive());
    Some((name, converted))
}
