//! The JSON API and its pages, as a function from a request to a response.

mod admin;
mod block;
mod events;
mod fields;
mod health;
mod history;
mod me;
mod openapi;
mod privacy;
mod query;
mod ticket;
mod view;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use session_core::{Actor, SessionId};
use session_engine::ActiveSession;

pub use self::openapi::openapi;
use self::query::Query;
pub(crate) use self::view::SessionView;
use crate::body::{self, Body, Content};
use crate::guard::{AdminAccess, Caller};
use crate::head::Head;
use crate::next::local_path;
use crate::pages;
use crate::problem::Problem;
use crate::rejection::Rejection;
use crate::request::RequestSession;
use crate::seal::sealed;
use crate::security;
use crate::sessions::HttpSessions;

type Answer = Result<Response<Body>, Rejection>;

impl HttpSessions {
    /// The part of a path below the prefix: empty for the prefix itself, and otherwise it begins with
    /// a slash. None for a path that is the application's.
    pub fn below_prefix<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.options().prefix.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

impl RequestSession {
    /// Answers a request for the API or its pages. `path` is what is left of it below the prefix,
    /// percent-encoded as it came: empty, or with a slash at its beginning.
    ///
    /// The body is read where a call needs one, after identity, origin and guard have been checked,
    /// up to [`MAX_BODY_BYTES`](crate::MAX_BODY_BYTES) and for at most the `body_timeout` of the
    /// options.
    pub async fn serve<E>(
        &self,
        head: Head<'_>,
        path: &str,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Response<Body> {
        let response = self.route(head, path, body).await;
        let response = sealed(response.unwrap_or_else(Rejection::into_response));
        if *head.method == Method::HEAD { without_stream(response) } else { response }
    }

    async fn route<E>(
        &self,
        head: Head<'_>,
        path: &str,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Answer {
        if let Some(page) = page_of(path, head) {
            return redirect(&page);
        }
        let segments = query::segments(path)?;
        let segments: Vec<_> = segments.iter().map(AsRef::as_ref).collect();
        let request = Request { asks: self, http: self.http(), head };
        if (head.method, segments.as_slice()) == (&Method::POST, &["ticket"]) {
            // It obeys the rule of sign-ins, which apps may make, too.
            return ticket::sign_in(request, body).await;
        }
        self.same_origin(head)?;
        let method = if *head.method == Method::HEAD { &Method::GET } else { head.method };
        match (method, segments.as_slice()) {
            (&Method::GET, [""]) => request.devices_page(),
            (&Method::GET, ["admin"]) => request.admin_page().await,
            (&Method::GET, ["assets", name]) => asset(name, head.headers),
            (&Method::GET, ["openapi.json"]) => description(self.http()),
            (&Method::GET, ["health"]) => health::show(request),
            (&Method::GET, ["me"]) => me::list(request).await,
            (&Method::GET, ["me", "events"]) => events::mine(request).await,
            (&Method::GET, ["me", "history"]) => history::mine(request).await,
            (&Method::POST, ["me", "revoke-others"]) => me::revoke_others(request).await,
            (&Method::POST, ["me", "sign-out"]) => me::sign_out(request).await,
            (&Method::DELETE, ["me", id]) if me::is_id(id) => me::revoke(request, id).await,
            (&Method::PATCH, ["me", id]) if me::is_id(id) => me::rename(request, id, body).await,
            (&Method::GET, ["admin", "sessions"]) => admin::list(request).await,
            (&Method::DELETE, ["admin", "sessions"]) => admin::revoke_selected(request).await,
            (&Method::GET, ["admin", "sessions", id]) => admin::get(request, id).await,
            (&Method::DELETE, ["admin", "sessions", id]) => admin::revoke(request, id).await,
            (&Method::DELETE, ["admin", "users", user, "sessions"]) => {
                admin::revoke_user_of_path(request, user).await
            }
            (&Method::GET, ["admin", "users", "export"]) => privacy::export(request).await,
            (&Method::DELETE, ["admin", "users", "data"]) => privacy::erase(request).await,
            (&Method::GET, ["admin", "users", user, "export"]) => {
                privacy::export_of_path(request, user).await
            }
            (&Method::DELETE, ["admin", "users", user, "data"]) => {
                privacy::erase_of_path(request, user).await
            }
            (&Method::GET, ["admin", "history"]) => history::all(request).await,
            (&Method::GET, ["admin", "block"]) => block::show(request).await,
            (&Method::PUT, ["admin", "block"]) => block::set(request, body).await,
            (&Method::DELETE, ["admin", "block"]) => block::lift(request).await,
            (&Method::GET, ["admin", "policy"]) => admin::policy(request).await,
            (&Method::PUT, ["admin", "policy"]) => admin::set_policy(request, body).await,
            (&Method::DELETE, ["admin", "policy"]) => admin::unset_policy(request).await,
            (&Method::GET, ["admin", "events"]) => events::all(request).await,
            (method, segments) => other_method(method, segments),
        }
    }
}

/// A request on its way through the API.
#[derive(Clone, Copy)]
struct Request<'r> {
    asks: &'r RequestSession,
    http: &'r HttpSessions,
    head: Head<'r>,
}

/// An admin and how far their power reaches.
struct Admin {
    access: AdminAccess,
    by: Actor,
    session: Option<ActiveSession>,
}

impl<'r> Request<'r> {
    /// The session of a signed-in caller.
    fn session(self) -> Result<&'r ActiveSession, Problem> {
        self.asks.identity().known()?.ok_or(Problem::unauthorized())
    }

    /// The guard's word on the caller.
    async fn admin(self) -> Result<Admin, Problem> {
        let session = self.asks.identity().known()?;
        if session.is_some_and(|session| session.impersonator().is_some()) {
            security::denied_admin(session, self.asks.address(self.head));
            return Err(Problem::impersonated());
        }
        let caller = Caller::new(session, self.head.headers);
        match self.http.guard().access(caller).await {
            AdminAccess::Denied => {
                security::denied_admin(session, self.asks.address(self.head));
                Err(session.map_or(Problem::unauthorized(), |_| Problem::forbidden()))
            }
            access => {
                let by = session.map_or(Actor::Application, ActiveSession::actor);
                Ok(Admin { access, by, session: session.cloned() })
            }
        }
    }

    /// The parameters, if each is one of these.
    fn query(self, known: &[&str]) -> Result<Query, Problem> {
        Query::parse(self.head.uri.query(), known)
    }

    /// The body, within its size and its time.
    async fn body<E>(self, body: impl Stream<Item = Result<Bytes, E>>) -> Result<Bytes, Problem> {
        body::read(self.head, body, self.http.options().body_timeout).await
    }

    /// The guard's word on a caller who changes something: as an admin with a fresh session.
    async fn changing_admin(self) -> Result<Admin, Rejection> {
        let admin = self.admin().await?;
        self.asks.fresh_for_changes(self.head)?;
        Ok(admin)
    }

    /// The page for a signed-in user.
    fn devices_page(self) -> Answer {
        match self.session() {
            Ok(session) => Ok(self.page(pages::DEVICES, Some(session.id()), &[])),
            Err(problem) => self.no_page(problem),
        }
    }

    /// The admin page, for whom the guard lets in.
    async fn admin_page(self) -> Answer {
        let admin = match self.admin().await {
            Ok(admin) => admin,
            Err(problem) => return self.no_page(problem),
        };
        let reach = match &admin.access {
            AdminAccess::Tenant(None) => [("reach", "outside"), ("tenant", "")],
            AdminAccess::Tenant(Some(tenant)) => [("reach", "tenant"), ("tenant", tenant.as_str())],
            AdminAccess::Deployment | AdminAccess::Denied => {
                [("reach", "deployment"), ("tenant", "")]
            }
        };
        Ok(self.page(pages::ADMIN, admin.session_id(), &reach))
    }

    /// A page that knows whose it is and where to sign in, besides more facts.
    fn page(self, page: &str, session: Option<SessionId>, more: &[(&str, &str)]) -> Response<Body> {
        let session = session.map(|id| id.to_string()).unwrap_or_default();
        let sign_in = self.http.options().sign_in_path.as_deref().unwrap_or_default();
        let facts = [("session", session.as_str()), ("sign-in", sign_in)];
        pages::page(page, &[&facts, more].concat())
    }

    /// A page in place of the one that was asked for, or the way to sign in.
    fn no_page(self, problem: Problem) -> Answer {
        match self.http.options().sign_in_path {
            Some(_) if problem == Problem::unauthorized() => {
                Err(self.http.refuse_page(self.head, problem))
            }
            _ => Ok(pages::refusal(&problem)),
        }
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    Ok(json_response(status, json_text(value)?))
}

fn json_text(value: &impl Serialize) -> Result<Bytes, Problem> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "a response cannot be written");
        Problem::internal()
    })
}

fn json_response(status: StatusCode, text: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn description(http: &HttpSessions) -> Answer {
    let text = http.description(|prefix| json_text(&openapi(prefix)))?;
    Ok(json_response(StatusCode::OK, text))
}

fn no_content() -> Answer {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// The page that a path leads to with one slash more or less at its end, for a request that reads.
fn page_of(path: &str, head: Head<'_>) -> Option<String> {
    let asked = head.uri.path();
    let page = match path {
        "" => format!("{asked}/"),
        "/admin/" => asked.trim_end_matches('/').to_owned(),
        _ => return None,
    };
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    matches!(*head.method, Method::GET | Method::HEAD).then(|| page + &query)
}

/// To a path of this origin: a client may ask for `//evil.example/sessions`.
fn redirect(path: &str) -> Answer {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let location = local_path(path).and_then(|path| HeaderValue::from_str(path).ok());
    let location = location.ok_or(Problem::not_found())?;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

fn asset(name: &str, headers: &HeaderMap) -> Answer {
    pages::asset(name, headers).ok_or(Problem::not_found().into())
}

/// The answer to a HEAD request: a stream would stay open without a reader. An empty one has no length
/// either.
fn without_stream(response: Response<Body>) -> Response<Body> {
    response.map(|body| match body.into_content() {
        Content::Bytes(bytes) => Body::full(bytes),
        Content::Stream(_) => Body::stream(stream::empty()),
    })
}

/// The answer to a HEAD request for a server that sends any body that it is given, as hyper does over
/// HTTP/2: the length of the body is left as a header. Any other answer stays as it is.
pub fn without_body(method: &Method, mut response: Response<Body>) -> Response<Body> {
    if *method != Method::HEAD {
        return response;
    }
    let length = http_body::Body::size_hint(response.body()).exact();
    if let Some(length) = length.filter(|length| *length > 0) {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(length.into());
    }
    response.map(|_| Body::empty())
}

/// The methods of a path that exists with another method: 405, or 204 to a request for them. Else
/// 404.
fn other_method(method: &Method, segments: &[&str]) -> Answer {
    let allowed = match segments {
        ["" | "admin" | "openapi.json" | "health" | "me"]
        | ["assets", _]
        | ["me" | "admin", "events" | "history"]
        | ["admin", "users", "export"]
        | ["admin", "users", _, "export"] => "GET, HEAD, OPTIONS",
        ["ticket"] => "POST, OPTIONS",
        ["me", action] if me::ACTIONS.contains(action) => "POST, OPTIONS",
        ["me", id] if !id.is_empty() => "PATCH, DELETE, OPTIONS",
        ["admin", "users", "data"] | ["admin", "users", _, "sessions" | "data"] => {
            "DELETE, OPTIONS"
        }
        ["admin", "sessions"] | ["admin", "sessions", _] => "GET, HEAD, DELETE, OPTIONS",
        ["admin", "policy" | "block"] => "GET, HEAD, PUT, DELETE, OPTIONS",
        _ => return Err(Problem::not_found().into()),
    };
    let mut response = match *method {
        Method::OPTIONS => no_content()?,
        _ => Problem::method_not_allowed().to_response(),
    };
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    Ok(response)
}
