//! Errors as `application/problem+json` (RFC 9457).

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;
use session_core::InvalidField;
use session_engine::{Blocked, Error, TooManySessions};
use utoipa::ToSchema;

use crate::body::Body;
use crate::refused::Refused;
use crate::seal::sealed;
use crate::ticket::HandedOver;

/// What went wrong with a request.
///
/// An application makes problems of its own with [`Problem::new`]:
///
/// ```
/// use http::StatusCode;
/// use session_http::Problem;
///
/// let problem = Problem::new(StatusCode::CONFLICT, "urn:shop:sold-out", "sold out")
///     .with_detail("the last one was sold a minute ago");
/// assert_eq!(problem.to_string(), "sold out: the last one was sold a minute ago");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema, thiserror::Error)]
#[schema(description = "What went wrong with a request (RFC 9457).")]
#[error("{title}{}", self.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
#[non_exhaustive]
pub struct Problem {
    /// A name for the kind of problem.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:session-kit:invalid")]
    pub kind: Cow<'static, str>,
    /// The kind of problem in words.
    #[schema(value_type = String)]
    pub title: Cow<'static, str>,
    /// The HTTP status.
    #[schema(example = 400)]
    pub status: u16,
    /// This occurrence in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub detail: Option<Box<str>>,
    /// The field that does not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub field: Option<Box<str>>,
    /// The limit that it broke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Where the user can prove again who they are, as a path of this origin that takes `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reauthenticate: Option<Box<str>>,
    /// What a refused sign-in is told besides.
    #[serde(flatten)]
    #[schema(ignore)]
    refused: Option<Box<Refused>>,
}

impl Problem {
    /// A problem: its status, a URI that names the kind, and the kind in words.
    pub fn new(
        status: StatusCode,
        kind: impl Into<Cow<'static, str>>,
        title: impl Into<Cow<'static, str>>,
    ) -> Self {
        let (kind, title) = (kind.into(), title.into());
        let status = status.as_u16();
        Self {
            kind,
            title,
            status,
            detail: None,
            field: None,
            limit: None,
            reauthenticate: None,
            refused: None,
        }
    }

    /// The same with this occurrence in words.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same with the field that does not fit.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<Box<str>>) -> Self {
        self.field = Some(field.into());
        self
    }

    const fn known(kind: &'static str, title: &'static str, status: StatusCode) -> Self {
        Self {
            kind: Cow::Borrowed(kind),
            title: Cow::Borrowed(title),
            status: status.as_u16(),
            detail: None,
            field: None,
            limit: None,
            reauthenticate: None,
            refused: None,
        }
    }

    /// The sessions of a user whose sign-in a limit has refused, for a page on which one of them can be
    /// chosen. [`Problem::ticket`] goes with the choice.
    pub fn too_many_sessions(&self) -> Option<&TooManySessions> {
        match self.refused.as_deref() {
            Some(Refused::TooManySessions(refused, _)) => Some(refused),
            _ => None,
        }
    }

    /// The ticket of a sign-in that a limit has refused, for `POST /sessions/ticket` or
    /// [`Auth::sign_in_with_ticket`](crate::Auth::sign_in_with_ticket). A secret like a token.
    pub fn ticket(&self) -> Option<String> {
        self.refused.as_deref().and_then(Refused::ticket)
    }

    /// Why and until when a sign-in is blocked.
    pub fn blocked(&self) -> Option<&Blocked> {
        match self.refused.as_deref() {
            Some(Refused::Blocked(blocked)) => Some(blocked),
            _ => None,
        }
    }

    /// The same with the way in which the sign-in would have been answered.
    pub(crate) fn handed_over(mut self, by: HandedOver) -> Self {
        if let Some(Refused::TooManySessions(_, handed_over)) = self.refused.as_deref_mut() {
            *handed_over = by;
        }
        self
    }

    /// Nobody is signed in.
    pub const fn unauthorized() -> Self {
        Self::known("urn:session-kit:unauthorized", "sign in first", StatusCode::UNAUTHORIZED)
    }

    /// The user has to prove again who they are.
    pub const fn reauthentication_required() -> Self {
        let title = "prove again who you are";
        Self::known("urn:session-kit:reauthentication-required", title, StatusCode::UNAUTHORIZED)
    }

    /// Somebody is signed in who may not do this.
    pub const fn forbidden() -> Self {
        Self::known("urn:session-kit:forbidden", "not allowed", StatusCode::FORBIDDEN)
    }

    /// A state-changing request without a proof that a page of this origin made it.
    pub const fn cross_origin() -> Self {
        let title = "not proven to come from this origin";
        Self::known("urn:session-kit:cross-origin", title, StatusCode::FORBIDDEN)
    }

    /// A sign-in came back from another site that this browser has not begun, or not lately, or has
    /// finished before.
    pub const fn foreign_flow() -> Self {
        let title = "this sign-in was not begun here: begin again";
        Self::known("urn:session-kit:foreign-flow", title, StatusCode::FORBIDDEN)
    }

    /// The token had just been replaced: with the new one the call works.
    pub const fn rotated_meanwhile() -> Self {
        let (kind, title) = ("urn:session-kit:rotated-meanwhile", "try again with the new cookie");
        Self::known(kind, title, StatusCode::CONFLICT)
    }

    /// A call that is for another kind of credential than the request shows.
    pub fn wrong_credential(detail: &str) -> Self {
        let (kind, title) = ("urn:session-kit:wrong-credential", "not with this credential");
        Self::known(kind, title, StatusCode::BAD_REQUEST).with_detail(detail)
    }

    /// The session has an impersonator, and so may not administer.
    pub const fn impersonated() -> Self {
        let title = "not while acting as another user";
        Self::known("urn:session-kit:impersonated", title, StatusCode::FORBIDDEN)
    }

    /// There is no such thing, or not for this caller.
    pub const fn not_found() -> Self {
        Self::known("urn:session-kit:not-found", "not found", StatusCode::NOT_FOUND)
    }

    /// The path exists, but not with this method.
    pub const fn method_not_allowed() -> Self {
        let title = "method not allowed";
        Self::known("urn:session-kit:method-not-allowed", title, StatusCode::METHOD_NOT_ALLOWED)
    }

    /// What the call was to change is no longer what the caller had read.
    pub const fn precondition_failed() -> Self {
        let (kind, title) = ("urn:session-kit:precondition-failed", "changed since it was read");
        Self::known(kind, title, StatusCode::PRECONDITION_FAILED)
    }

    /// A newer version set what the call was to change, in parts that this one does not know and would
    /// lose.
    pub const fn newer_version() -> Self {
        let title = "a newer version set it: change it there, or delete it first";
        Self::known("urn:session-kit:newer-version", title, StatusCode::CONFLICT)
    }

    /// The body is longer than any the API takes.
    pub const fn too_large() -> Self {
        let (kind, title) = ("urn:session-kit:too-large", "body too large");
        let mut problem = Self::known(kind, title, StatusCode::PAYLOAD_TOO_LARGE);
        problem.limit = Some(crate::body::MAX_BODY_BYTES as u32);
        problem
    }

    /// The body did not arrive within the time limit.
    pub fn too_slow(limit: Duration) -> Self {
        let (kind, title) = ("urn:session-kit:too-slow", "body too slow");
        let problem = Self::known(kind, title, StatusCode::REQUEST_TIMEOUT);
        problem.with_detail(format!("it has to arrive within {} s", limit.as_secs_f64()))
    }

    /// As many streams are open as may be.
    pub const fn too_many_streams(limit: u32) -> Self {
        let (kind, title) = ("urn:session-kit:too-many-streams", "too many open streams");
        let mut problem = Self::known(kind, title, StatusCode::TOO_MANY_REQUESTS);
        problem.limit = Some(limit);
        problem
    }

    /// Nothing can be said about the session right now.
    pub const fn unavailable() -> Self {
        let title = "session state is unavailable";
        Self::known("urn:session-kit:unavailable", title, StatusCode::SERVICE_UNAVAILABLE)
    }

    /// A request that cannot be understood.
    pub fn malformed(detail: impl Into<Box<str>>) -> Self {
        let mut problem = Self::invalid();
        problem.detail = Some(detail.into());
        problem
    }

    /// The adapter was not set up as its documentation says.
    pub const fn misconfigured() -> Self {
        let title = "the session layer is missing";
        Self::known("urn:session-kit:misconfigured", title, StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// A limit refuses the sign-in. The user may choose a session to end.
    fn too_many(refused: Box<TooManySessions>) -> Self {
        let (kind, title) = ("urn:session-kit:too-many-sessions", "too many sessions");
        let mut problem = Self::known(kind, title, StatusCode::CONFLICT);
        problem.limit = Some(refused.limit.max);
        let detail = format!("the limit of {} sessions is reached", refused.limit.max);
        let refused = Refused::TooManySessions(refused.into(), HandedOver::default());
        problem.refused = Some(refused.into());
        problem.with_detail(detail)
    }

    fn block(blocked: Box<Blocked>) -> Self {
        let (kind, title) = ("urn:session-kit:blocked", "sign-in is blocked");
        let mut problem = Self::known(kind, title, StatusCode::FORBIDDEN);
        problem.detail = Some(blocked.to_string().into());
        problem.refused = Some(Refused::Blocked(Arc::from(blocked)).into());
        problem
    }

    /// A ticket that was used, is too old or was not made by this fleet.
    pub const fn invalid_ticket() -> Self {
        let title = "the ticket is not valid: sign in again";
        Self::known("urn:session-kit:invalid-ticket", title, StatusCode::GONE)
    }

    const fn invalid() -> Self {
        Self::known("urn:session-kit:invalid", "invalid request", StatusCode::BAD_REQUEST)
    }

    /// The claims provider gave something else than the application takes.
    pub const fn unexpected_claims() -> Self {
        let (kind, title) = ("urn:session-kit:unexpected-claims", "the claims are of another form");
        Self::known(kind, title, StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// A fault that the client cannot mend. The log says what it is.
    pub const fn internal() -> Self {
        let (kind, title) = ("urn:session-kit:internal", "internal error");
        Self::known(kind, title, StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The response: the problem as JSON.
    pub fn to_response(&self) -> Response<Body> {
        let body = serde_json::to_vec(self).map_or_else(|_| Body::empty(), Body::full);
        let mut response = Response::new(body);
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.way_out());
        sealed(response)
    }

    /// The header that says what may help: to come again soon, or a token (RFC 6750), or a new proof of
    /// who the user is (RFC 9470). Browsers ask nobody for a token, so they show no dialog.
    pub(crate) fn way_out(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match self.status() {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => (RETRY_AFTER, "1"),
            StatusCode::UNAUTHORIZED if self.kind == Self::reauthentication_required().kind => {
                (WWW_AUTHENTICATE, r#"Bearer error="insufficient_user_authentication""#)
            }
            StatusCode::UNAUTHORIZED => (WWW_AUTHENTICATE, r#"Bearer realm="sessions""#),
            _ => return None,
        };
        Some((name, HeaderValue::from_static(value)))
    }

    /// The status as a type.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<Infallible> for Problem {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<InvalidField> for Problem {
    fn from(error: InvalidField) -> Self {
        let mut problem = Self::malformed(error.to_string());
        problem.field = Some(error.field.into());
        problem.limit = error.limit().and_then(|limit| limit.try_into().ok());
        problem
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(error) => error.into(),
            Error::TooManySessions(refused) => Self::too_many(refused),
            Error::Blocked(blocked) => Self::block(blocked),
            Error::InvalidTicket => Self::invalid_ticket(),
            // Why is told once, by the engine.
            error if error.is_unavailable() => {
                tracing::debug!(%error, "answered 503");
                Self::unavailable()
            }
            error => {
                tracing::debug!(error = &error as &dyn std::error::Error, "answered 500");
                Self::internal()
            }
        }
    }
}
