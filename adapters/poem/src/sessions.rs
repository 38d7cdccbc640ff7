//! A node as poem sees it.

use std::ops::Deref;
use std::sync::Arc;

use poem::endpoint::make;
use poem::{Middleware, Request, Response, Route};
use session_core::Store;
use session_engine::Error;
use session_http::{Config, Hooks, HttpSessions};

use crate::extract::{head, of};
use crate::middleware::SessionMiddleware;
use crate::response::into_poem;

/// A node with its middleware and its routes; cheap to clone.
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

impl Deref for Sessions {
    type Target = HttpSessions;

    fn deref(&self) -> &HttpSessions {
        &self.0
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
    Ok(into_poem(session.serve(head(&request), path, body).await))
}
