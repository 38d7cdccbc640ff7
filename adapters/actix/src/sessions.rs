//! A node as actix-web sees it.

use actix_web::{HttpRequest, HttpResponse, Scope, web};

use crate::convert::{read_head, response};
use crate::extract::{Rejection, Sessions, found};
use crate::middleware::SessionMiddleware;

impl Sessions {
    /// The middleware that finds out whose request it is, for [`App::wrap`](actix_web::App::wrap).
    pub fn middleware(&self) -> SessionMiddleware {
        SessionMiddleware(self.0.clone())
    }

    /// The JSON API and the pages, below the prefix of the options. They may be part of another scope;
    /// the middleware has to be around them.
    pub fn routes(&self) -> Scope {
        web::scope(&self.options().prefix).default_service(web::to(serve))
    }
}

async fn serve(request: HttpRequest, mut body: web::Payload) -> Result<HttpResponse, Rejection> {
    let session = found(&request, |session, _| Ok(session.clone()))?;
    let head = read_head(request.head(), true)?;
    let answer = session.serve(head.head(), below_scope(&request), &mut body).await;
    Ok(response(answer, body))
}

/// The path below the scope as the client sent it. The router has decoded it, except for encoded
/// slashes: counted from its end, both have the same slashes.
fn below_scope(request: &HttpRequest) -> &str {
    let path = request.uri().path();
    let slashes = request.match_info().unprocessed().matches('/').count();
    let start = slashes.checked_sub(1).and_then(|last| path.rmatch_indices('/').nth(last));
    start.map_or("", |(start, _)| &path[start..])
}
