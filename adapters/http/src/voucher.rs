//! Requests that the application identifies by its own means.

use std::error::Error;

use async_trait::async_trait;
use session_core::SessionId;

use crate::head::Head;

/// Says by the application's own means to which session a request belongs: by a signed document
/// that names the session id, say. Supplied with [`Hooks::with_voucher`](crate::Hooks::with_voucher),
/// as a closure or, where it has to wait for something, as a type of its own.
///
/// The session is then looked at as if its token had been shown: ended sessions are refused, the
/// request counts as an access, and API, pages, guards and extractors work. It is asked for requests
/// that carry no bearer token of ours, before their cookies count.
///
/// A session id is public: a voucher that takes one which the client sent as it is lets everybody be
/// anybody.
///
/// ```
/// use session_http::{Head, Hooks, Vouched};
///
/// // The gateway in front has checked who sends the request, and strangers cannot reach this server.
/// let hooks = Hooks::default().with_voucher(|head: Head<'_>| {
///     let id = head.headers.get("x-gateway-session")?.to_str().ok()?.parse().ok()?;
///     Some(Vouched::explicit(id))
/// });
/// ```
#[async_trait]
pub trait Voucher: Send + Sync + 'static {
    /// The session, if the request carries something that proves it.
    ///
    /// # Errors
    /// Any error means that nothing can be said right now: the request is answered with 503.
    async fn vouch(&self, head: Head<'_>) -> Result<Option<Vouched>, Box<dyn Error + Send + Sync>>;
}

#[async_trait]
impl<F> Voucher for F
where
    F: Fn(Head<'_>) -> Option<Vouched> + Send + Sync + 'static,
{
    async fn vouch(&self, head: Head<'_>) -> Result<Option<Vouched>, Box<dyn Error + Send + Sync>> {
        Ok(self(head))
    }
}

/// A session to which a request was found to belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vouched {
    pub(crate) id: SessionId,
    pub(crate) ambient: bool,
}

impl Vouched {
    /// By something that a client sends on purpose, such as an `Authorization` header.
    pub const fn explicit(id: SessionId) -> Self {
        Self { id, ambient: false }
    }

    /// By something that browsers send by themselves, such as a cookie: what changes something needs
    /// a proof of its origin.
    pub const fn ambient(id: SessionId) -> Self {
        Self { id, ambient: true }
    }
}
