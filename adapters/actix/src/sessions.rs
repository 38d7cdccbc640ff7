//! A node as actix-web sees it.

use std::ops::Deref;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, Scope, web};
use session_core::Store;
use session_engine::Error;
use session_http::{Config, Hooks, HttpSessions};

use crate::convert::{full_head, head_response, response};
use crate::extract::{Rejection, found};
use crate::middleware::SessionMiddleware;

/// A node with its middleware and its routes; cheap to clone, one for each worker.
#[derive(Clone, Debug)]
pub struct Sessions(pub HttpSessions);

impl Sessions {
    /// Starts a node on a store; see [`HttpSessions::start`].
    ///
    /// # Errors
    /// As there.
    pub async fn start(store: impl Store, config: Config) -> Result<Self, Error> {
        HttpSessions::start(store, config).await.map(Self)
    }

    /// Starts a node with a guard, claims or a clock of the application.
    ///
    /// # Errors
    /// As [`HttpSessions::start`].
    pub async fn start_with(
        store: Arc<dyn Store>,
        config: Config,
        hooks: Hooks,
    ) -> Result<Self, Error> {
        HttpSessions::start_with(store, config, hooks).await.map(Self)
    }

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

impl Deref for Sessions {
    type Target = HttpSessions;

    fn deref(&self) -> &HttpSessions {
        &self.0
    }
}

async fn serve(request: HttpRequest, body: web::Payload) -> Result<HttpResponse, Rejection> {
    let session = found(&request, |session, _| Ok(session.clone()))?;
    let head = full_head(request.head())?;
    let answer = session.serve(head.head(), below_scope(&request), body).await;
    Ok(match *request.method() {
        Method::HEAD => head_response(answer),
        _ => response(answer),
    })
}

/// The path below the scope as the client sent it. The router has decoded it, except for encoded
/// slashes: counted from its end, both have the same slashes.
fn below_scope(request: &HttpRequest) -> &str {
    let path = request.uri().path();
    let slashes = request.match_info().unprocessed().matches('/').count();
    match slashes.checked_sub(1).and_then(|last| path.rmatch_indices('/').nth(last)) {
        Some((start, _)) => &path[start..],
        None => "",
    }
}
