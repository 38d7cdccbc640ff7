//! The JSON API and its pages, as a function from a request to a response.

mod admin;
mod events;
mod me;
mod openapi;
mod query;
mod view;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use session_core::Actor;
use session_engine::CurrentSession;

pub use self::openapi::openapi;
use self::query::Query;
pub use crate::body::{Body, MAX_BODY_BYTES};
use crate::guard::{AdminAccess, Caller};
use crate::origin::{SameOrigin, same_origin};
use crate::pages;
use crate::problem::Problem;
use crate::sessions::{HttpSessions, Identity};

type Answer = Result<Response<Body>, Problem>;

impl HttpSessions {
    /// Whether a path belongs to the API and its pages.
    pub fn owns(&self, path: &str) -> bool {
        self.below_prefix(path).is_some()
    }

    /// Answers a request below the prefix. `body` is at most [`MAX_BODY_BYTES`] long.
    pub async fn serve(&self, parts: &Parts, identity: &Identity, body: Bytes) -> Response<Body> {
        match self.route(parts, identity, &body).await {
            Ok(response) => response,
            Err(problem) => problem_response(&problem),
        }
    }

    async fn route(&self, parts: &Parts, identity: &Identity, body: &Bytes) -> Answer {
        let path = self.below_prefix(parts.uri.path()).ok_or(Problem::not_found())?;
        let segments = query::segments(path)?;
        let segments: Vec<_> = segments.iter().map(AsRef::as_ref).collect();
        if path.is_empty() {
            return redirect(&format!("{}/", self.options().prefix));
        }
        let request = Request { http: self, parts, identity, body };
        request.refuse_cross_origin()?;
        let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
        match (method, segments.as_slice()) {
            (&Method::GET, [""]) => request.page(pages::DEVICES).await,
            (&Method::GET, ["admin"]) => request.admin_page().await,
            (&Method::GET, ["assets", name]) => asset(name),
            (&Method::GET, ["openapi.json"]) => {
                json(StatusCode::OK, &openapi(&self.options().prefix))
            }
            (&Method::GET, ["me"]) => me::list(request).await,
            (&Method::GET, ["me", "events"]) => events::mine(request).await,
            (&Method::POST, ["me", "revoke-others"]) => me::revoke_others(request).await,
            (&Method::DELETE, ["me", id]) => me::revoke(request, id).await,
            (&Method::GET, ["admin", "sessions"]) => admin::list(request).await,
            (&Method::GET, ["admin", "sessions", id]) => admin::get(request, id).await,
            (&Method::DELETE, ["admin", "sessions", id]) => admin::revoke(request, id).await,
            (&Method::DELETE, ["admin", "users", user, "sessions"]) => {
                admin::revoke_user(request, user).await
            }
            (&Method::GET, ["admin", "policy"]) => admin::policy(request).await,
            (&Method::PUT, ["admin", "policy"]) => admin::set_policy(request).await,
            (&Method::DELETE, ["admin", "policy"]) => admin::unset_policy(request).await,
            (&Method::GET, ["admin", "events"]) => events::all(request).await,
            (_, segments) => refuse_method(segments),
        }
    }

    fn below_prefix<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.options().prefix.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

/// A request on its way through the API.
#[derive(Clone, Copy)]
struct Request<'r> {
    http: &'r HttpSessions,
    parts: &'r Parts,
    identity: &'r Identity,
    body: &'r Bytes,
}

/// An admin and how far their power reaches.
struct Admin {
    access: AdminAccess,
    by: Actor,
    session: Option<CurrentSession>,
}

impl<'r> Request<'r> {
    /// The session of a signed-in caller.
    fn session(self) -> Result<&'r CurrentSession, Problem> {
        match self.identity {
            Identity::Session(session) => Ok(session),
            Identity::Anonymous => Err(Problem::unauthorized()),
            Identity::Unavailable => Err(Problem::unavailable()),
        }
    }

    /// The guard's word on the caller.
    async fn admin(self) -> Result<Admin, Problem> {
        if matches!(self.identity, Identity::Unavailable) {
            return Err(Problem::unavailable());
        }
        let session = self.identity.session();
        let caller = Caller::new(session, &self.parts.headers);
        match self.http.guard().access(caller).await {
            AdminAccess::Denied if session.is_none() => Err(Problem::unauthorized()),
            AdminAccess::Denied => Err(Problem::forbidden()),
            access => {
                let user = session.map(|session| Actor::User(session.owner.user.clone()));
                let by = user.unwrap_or(Actor::Application);
                Ok(Admin { access, by, session: session.cloned() })
            }
        }
    }

    /// The parameters, if each is one of these.
    fn query(self, known: &[&str]) -> Result<Query, Problem> {
        Query::parse(self.parts.uri.query(), known)
    }

    fn refuse_cross_origin(self) -> Result<(), Problem> {
        if matches!(self.parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let authority = self.parts.uri.authority().map(|authority| authority.as_str());
        match same_origin(&self.parts.headers, authority) {
            SameOrigin::Proven => Ok(()),
            SameOrigin::Unproven | SameOrigin::Refuted => Err(Problem::cross_origin()),
        }
    }

    /// A page for whoever is signed in.
    async fn page(self, page: &'static str) -> Answer {
        match (self.session(), &self.http.options().sign_in_path) {
            (Ok(_), _) => Ok(pages::page(page)),
            (Err(problem), Some(path)) if problem == Problem::unauthorized() => redirect(path),
            (Err(problem), _) => Ok(pages::refusal(&problem)),
        }
    }

    /// The admin page, for whom the guard lets in.
    async fn admin_page(self) -> Answer {
        match self.admin().await {
            Ok(_) => Ok(pages::page(pages::ADMIN)),
            Err(problem) if problem == Problem::unauthorized() => self.page(pages::ADMIN).await,
            Err(problem) => Ok(pages::refusal(&problem)),
        }
    }
}

/// The response of an error, whoever found it.
pub fn problem_response(problem: &Problem) -> Response<Body> {
    let mut response = match serde_json::to_vec(problem) {
        Ok(body) => Response::new(Body::full(body)),
        Err(_) => Response::new(Body::empty()),
    };
    *response.status_mut() = problem.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    private(headers);
    if problem.status() == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).map_err(|error| Problem::malformed(error.to_string()))?;
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    private(response.headers_mut());
    Ok(response)
}

fn no_content() -> Answer {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    private(response.headers_mut());
    Ok(response)
}

fn redirect(path: &str) -> Answer {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let location = HeaderValue::from_str(path).map_err(|_| Problem::not_found())?;
    response.headers_mut().insert(LOCATION, location);
    private(response.headers_mut());
    Ok(response)
}

fn asset(name: &str) -> Answer {
    pages::asset(name).ok_or(Problem::not_found())
}

/// Nobody in the middle keeps it, and no browser guesses its type.
fn private(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
}

/// 405 with `Allow` for a path that exists with another method, else 404.
fn refuse_method(segments: &[&str]) -> Answer {
    let allowed = match segments {
        ["" | "admin" | "openapi.json" | "me"]
        | ["assets", _]
        | ["me" | "admin", "events"]
        | ["admin", "sessions"] => "GET",
        ["me", "revoke-others"] => "POST, DELETE",
        ["me", _] | ["admin", "users", _, "sessions"] => "DELETE",
        ["admin", "sessions", _] => "GET, DELETE",
        ["admin", "policy"] => "GET, PUT, DELETE",
        _ => return Err(Problem::not_found()),
    };
    let mut response = problem_response(&Problem::method_not_allowed());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    Ok(response)
}
