//! How a request is refused.

use std::convert::Infallible;

use http::header::LOCATION;
use http::{HeaderValue, Response, StatusCode};
use session_core::InvalidField;
use session_engine::Error;

use crate::api::private;
use crate::body::Body;
use crate::head::Head;
use crate::next::sign_in_location;
use crate::problem::Problem;
use crate::sessions::HttpSessions;

/// A refusal: a [`Problem`], or for a browser that asks for a page the way to sign in and back.
/// Never with a cookie.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Rejection {
    problem: Box<Problem>,
    location: Option<HeaderValue>,
}

impl Rejection {
    /// What was wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        if self.location.is_some() { StatusCode::SEE_OTHER } else { self.problem.status() }
    }

    /// The response: a problem document, or 303 to the sign-in page.
    pub fn into_response(self) -> Response<Body> {
        let Some(location) = self.location else { return self.problem.to_response() };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SEE_OTHER;
        response.headers_mut().insert(LOCATION, location);
        private(response.headers_mut());
        response
    }
}

impl HttpSessions {
    /// Refuses a request. Where signing in helps, a browser that asks for HTML is sent to the
    /// `sign_in_path` of the options; where the user has to prove again who they are, to the
    /// `reauthenticate_path`, if there is one.
    pub fn refuse(&self, head: Head<'_>, mut problem: Problem) -> Rejection {
        if problem == Problem::reauthentication_required() {
            problem.reauthenticate = self.options().reauthenticate_path.as_deref().map(Into::into);
        }
        if problem.status() == StatusCode::UNAUTHORIZED && head.wants_html() {
            self.refuse_page(head, problem)
        } else {
            problem.into()
        }
    }

    /// Refuses a request for a page, without looking at `Accept`.
    pub(crate) fn refuse_page(&self, head: Head<'_>, problem: Problem) -> Rejection {
        let sign_in_path = self.options().sign_in_path.as_deref();
        let path = problem.reauthenticate.as_deref().or(sign_in_path);
        let location = path.and_then(|path| sign_in_location(path, head));
        Rejection { problem: Box::new(problem), location }
    }
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), location: None }
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        Problem::from(error).into()
    }
}

impl From<InvalidField> for Rejection {
    fn from(error: InvalidField) -> Self {
        Problem::from(error).into()
    }
}

impl From<Infallible> for Rejection {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
