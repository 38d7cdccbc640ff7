//! The way out of a limit that has refused a sign-in.

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use serde::Serialize;
use session_core::SessionId;
use utoipa::ToSchema;

use super::fields::Fields;
use super::{Answer, Request, json};
use crate::problem::Problem;
use crate::refused::{BlockedProblem, TooManySessionsProblem};

/// A ticket, and the session that its user has chosen.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body in the API's description")]
pub(super) struct TicketView {
    /// `ticket` of the problem `urn:session-kit:too-many-sessions`.
    ticket: String,
    /// The id of one of its `sessions`.
    #[schema(format = "uuid")]
    end: String,
}

/// The session that has begun.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SignedInView {
    /// Who is signed in.
    user: String,
    /// In which tenant.
    tenant: Option<String>,
    /// The session.
    #[schema(value_type = String, format = "uuid")]
    session_id: SessionId,
    /// Its token, for a client whose sign-in would have had it in the body. Others get a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// Ends a session that the user has chosen and signs in, after a limit has refused the sign-in.
///
/// The ticket works once and for five minutes. The answer carries the cookie or the token that the
/// refused sign-in would have carried.
#[utoipa::path(
    post, path = "/ticket", tag = "me", operation_id = "sign_in_with_ticket",
    request_body = TicketView,
    responses(
        (status = 200, body = SignedInView, description = "Signed in"),
        (status = 400, body = Problem, description = "The body does not fit, or there is a parameter, and none is known", content_type = "application/problem+json"),
        (status = 403, body = BlockedProblem, description = "From a page of another origin; or blocked, with `reason` and `until`", content_type = "application/problem+json"),
        (status = 408, body = Problem, description = "The body did not arrive in time", content_type = "application/problem+json"),
        (status = 409, body = TooManySessionsProblem, description = "The limit refuses it even so; with a new `ticket` and the `sessions` to choose from", content_type = "application/problem+json"),
        (status = 410, body = Problem, description = "The ticket was used, is too old, was not issued here, or every session that the limit had counted has ended", content_type = "application/problem+json"),
        (status = 413, body = Problem, description = "The body is too large", content_type = "application/problem+json"),
        (status = 503, body = Problem, description = "The store is away", content_type = "application/problem+json"),
    ),
)]
pub(super) async fn sign_in<E>(
    request: Request<'_>,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Answer {
    let auth = request.asks.auth(request.head);
    auth.refuse_cross_origin()?;
    request.query(&[])?;
    let fields = Fields::parse(&request.body(body).await?, &["ticket", "end"])?;
    let (ticket, end) = (fields.required_text("ticket")?, fields.required::<SessionId>("end")?);
    let (signed_in, cookie) = auth.sign_in_with_ticket(ticket, end).await?;
    let session = &signed_in.session;
    let view = SignedInView {
        user: session.user().to_string(),
        tenant: session.tenant().map(ToString::to_string),
        session_id: session.id(),
        token: cookie.is_in_the_body().then(|| signed_in.token.expose()),
    };
    let mut response = json(StatusCode::OK, &view)?;
    cookie.apply(response.headers_mut());
    Ok(response)
}
