//! What handlers answer.

use poem::error::ResponseError;
use poem::http::StatusCode;
use poem::{Body, IntoResponse, Response, ResponseParts};
use session_http::Content;

/// The cookie of a response: put it [`on`](SessionCookie::on) one, or return it alone.
#[derive(Clone, Debug)]
#[must_use = "the browser learns of it only through a response"]
pub struct SessionCookie(pub session_http::SessionCookie);

impl SessionCookie {
    /// The response with the cookie, as in `cookie.on(Redirect::see_other("/"))`.
    pub fn on(self, response: impl IntoResponse) -> Response {
        let mut response = response.into_response();
        self.0.apply(response.headers_mut());
        response
    }
}

impl IntoResponse for SessionCookie {
    fn into_response(self) -> Response {
        self.on(())
    }
}

/// A refusal, answered as `application/problem+json` or, for a browser that asks for a page, with the
/// way to sign in. Never with a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection(pub session_http::Rejection);

impl<E: Into<session_http::Rejection>> From<E> for Rejection {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Rejection {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl ResponseError for Rejection {
    fn status(&self) -> StatusCode {
        self.as_response().status()
    }

    fn as_response(&self) -> Response {
        into_poem(self.0.clone().into_response())
    }
}

/// poem's own conversion would lose the length of the body.
pub(crate) fn into_poem(response: http::Response<session_http::Body>) -> Response {
    let (parts, body) = response.into_parts();
    let body = match body.into_content() {
        Content::Bytes(bytes) => Body::from_bytes(bytes),
        Content::Stream(stream) => Body::from_bytes_stream(stream),
    };
    let http::response::Parts { status, version, headers, extensions, .. } = parts;
    Response::from_parts(ResponseParts { status, version, headers, extensions }, body)
}
