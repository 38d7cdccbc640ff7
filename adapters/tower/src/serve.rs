//! The JSON API and the pages.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyDataStream;
use session_http::{Body, Head, Problem, Rejection, RequestSession, api::without_body};

/// Answers a request below the prefix. The [`SessionLayer`](crate::SessionLayer) has to be around it.
pub async fn serve<B>(request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes>,
{
    let (parts, body) = request.into_parts();
    let session = match RequestSession::of(&parts.extensions) {
        Ok(session) => session,
        Err(rejection) => return rejection.into_response(),
    };
    let head = Head::new(&parts.method, &parts.uri, &parts.headers);
    match session.http().below_prefix(parts.uri.path()) {
        Some(path) => {
            let response = session.serve(head, path, BodyDataStream::new(body)).await;
            without_body(&parts.method, response)
        }
        None => Rejection::from(Problem::not_found()).into_response(),
    }
}
