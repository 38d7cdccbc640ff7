//! What handlers answer.

use poem::error::ResponseError;
use poem::http::StatusCode;
use poem::{Body, IntoResponse, Response, ResponseParts};
use session_http::Content;

use crate::extract::{Rejection, SessionCookie};

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

impl ResponseError for Rejection {
    fn status(&self) -> StatusCode {
        self.0.status()
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
