//! Errors as `application/problem+json` (RFC 9457).

use http::StatusCode;
use serde::Serialize;
use session_core::InvalidField;
use session_engine::Error;
use utoipa::ToSchema;

/// What went wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema, thiserror::Error)]
#[error("{title}")]
#[non_exhaustive]
pub struct Problem {
    /// A name for the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:session-kit:invalid")]
    pub kind: &'static str,
    /// The kind of problem in words.
    pub title: &'static str,
    /// The HTTP status.
    #[schema(example = 400)]
    pub status: u16,
    /// This occurrence in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The field that does not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The limit that it broke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl Problem {
    const fn new(kind: &'static str, title: &'static str, status: StatusCode) -> Self {
        let status = status.as_u16();
        Self { kind, title, status, detail: None, field: None, limit: None }
    }

    /// Nobody is signed in.
    pub const fn unauthorized() -> Self {
        Self::new("urn:session-kit:unauthorized", "sign in first", StatusCode::UNAUTHORIZED)
    }

    /// The user has to prove again who they are.
    pub const fn reauthentication_required() -> Self {
        let title = "prove again who you are";
        Self::new("urn:session-kit:reauthentication-required", title, StatusCode::UNAUTHORIZED)
    }

    /// Somebody is signed in who may not do this.
    pub const fn forbidden() -> Self {
        Self::new("urn:session-kit:forbidden", "not allowed", StatusCode::FORBIDDEN)
    }

    /// A state-changing request without a proof that a page of this origin made it.
    pub const fn cross_origin() -> Self {
        let title = "not proven to come from this origin";
        Self::new("urn:session-kit:cross-origin", title, StatusCode::FORBIDDEN)
    }

    /// There is no such thing, or not for this caller.
    pub const fn not_found() -> Self {
        Self::new("urn:session-kit:not-found", "not found", StatusCode::NOT_FOUND)
    }

    /// The path exists, but not with this method.
    pub const fn method_not_allowed() -> Self {
        let title = "method not allowed";
        Self::new("urn:session-kit:method-not-allowed", title, StatusCode::METHOD_NOT_ALLOWED)
    }

    /// The body is longer than any the API takes.
    pub const fn too_large() -> Self {
        let mut problem =
            Self::new("urn:session-kit:too-large", "body too large", StatusCode::PAYLOAD_TOO_LARGE);
        problem.limit = Some(crate::body::MAX_BODY_BYTES as u64);
        problem
    }

    /// Nothing can be said about the session right now.
    pub const fn unavailable() -> Self {
        let title = "session state is unavailable";
        Self::new("urn:session-kit:unavailable", title, StatusCode::SERVICE_UNAVAILABLE)
    }

    /// A request that cannot be understood.
    pub fn malformed(detail: impl Into<String>) -> Self {
        let mut problem = Self::invalid();
        problem.detail = Some(detail.into());
        problem
    }

    /// The adapter was not set up as its documentation says.
    pub const fn misconfigured() -> Self {
        let title = "the session layer is missing";
        Self::new("urn:session-kit:misconfigured", title, StatusCode::INTERNAL_SERVER_ERROR)
    }

    const fn invalid() -> Self {
        Self::new("urn:session-kit:invalid", "invalid request", StatusCode::BAD_REQUEST)
    }

    /// The status as a type.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<InvalidField> for Problem {
    fn from(error: InvalidField) -> Self {
        let mut problem = Self::malformed(error.to_string());
        problem.field = Some(error.field.to_owned());
        problem.limit = error.limit();
        problem
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(error) => error.into(),
            Error::TooManySessions(limit) => {
                let title = "too many sessions";
                let kind = "urn:session-kit:too-many-sessions";
                let mut problem = Self::new(kind, title, StatusCode::CONFLICT);
                problem.detail = Some(Error::TooManySessions(limit).to_string());
                problem.limit = Some(limit.max.into());
                problem
            }
            error if error.is_unavailable() => {
                tracing::warn!(%error, "answered 503");
                Self::unavailable()
            }
            error => {
                tracing::error!(error = &error as &dyn std::error::Error, "answered 500");
                let title = "internal error";
                Self::new("urn:session-kit:internal", title, StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}
