//! A node as poem sees it.

use crate::extract::{Sessions, head, of};
use crate::middleware::SessionMiddleware;
use crate::response::into_poem;
use poem::endpoint::make;
use poem::{Middleware, Request, Response, Route};
use session_http::api::without_body;

impl Sessions {
    /// The middleware that finds out whose request it is.
    pub fn middleware(&self) -> SessionMiddleware {
        SessionMiddleware::new(self.0.clone())
    }

    /// Adds the JSON API and the pages to a [`Route`], below the prefix of the options:
    /// `Route::new().at("/", home).with(sessions.routes())`. The route may be nested with
    /// [`Route::nest`]; the middleware has to be around it.
    pub fn routes(&self) -> SessionRoutes {
        SessionRoutes { prefix: self.options().prefix.clone() }
    }
}

/// Adds the JSON API and the pages to a [`Route`]; see [`Sessions::routes`].
#[derive(Clone, Debug)]
pub struct SessionRoutes {
    prefix: String,
}

impl Middleware<Route> for SessionRoutes {
    type Output = Route;

    fn transform(&self, route: Route) -> Route {
        let prefix = &self.prefix;
        route.at(prefix, make(serve)).at(format!("{prefix}/*rest"), make(serve))
    }
}

async fn serve(mut request: Request) -> poem::Result<Response> {
    let body = request.take_body().into_bytes_stream();
    let session = of(&request)?;
    let path = session.http().below_prefix(request.uri().path()).unwrap_or_default();
    let response = session.serve(head(&request), path, body).await;
    Ok(into_poem(without_body(request.method(), response)))
}
