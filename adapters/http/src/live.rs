//! Connections that outlive their request, such as WebSockets, and end with their session.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream, StreamExt, stream};
use session_core::EndCause;
use session_engine::{Access, ActiveSession, Verdict, WaitEnd};

use crate::head::Head;
use crate::problem::Problem;
use crate::rejection::Rejection;
use crate::request::RequestSession;
use crate::sessions::HttpSessions;
use crate::streams::Slot;

/// A connection that outlives its request: a WebSocket, server-sent events, a streaming body. It
/// counts as open until it is dropped.
///
/// Neither opening a WebSocket or an event stream nor a message of the client counts as use of the
/// session: a page that is left open does not keep its user signed in. Where a message is the user's
/// doing, call [`Live::touch`].
#[derive(Debug)]
pub struct Live {
    http: HttpSessions,
    session: ActiveSession,
    ip: Option<IpAddr>,
    _slot: Slot,
}

/// Why a long-lived connection is closed: the code and the reason of a WebSocket's close frame
/// (RFC 6455, 7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Close {
    /// One of [`Close::DONE`], [`Close::GOING_AWAY`], [`Close::SESSION_ENDED`], [`Close::UNKNOWN`].
    pub code: u16,
    /// How the session ended, in one word, such as `revoked`; or what else the code means.
    pub reason: &'static str,
}

impl Close {
    /// The application has finished.
    pub const DONE: u16 = 1000;
    /// The node stops. The client may open another connection at once.
    pub const GOING_AWAY: u16 = 1001;
    /// The session has ended.
    pub const SESSION_ENDED: u16 = 4001;
    /// This node has been cut off from the store for longer than `max_staleness` and cannot tell. The
    /// session may go on: the client may try again after a while.
    pub const UNKNOWN: u16 = 4002;

    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }
}

impl From<WaitEnd> for Close {
    fn from(end: WaitEnd) -> Self {
        match end {
            WaitEnd::Ended(cause) => Self::new(Self::SESSION_ENDED, EndCause::as_str(cause)),
            WaitEnd::Gone => Self::new(Self::SESSION_ENDED, "ended"),
            WaitEnd::Stopping => Self::new(Self::GOING_AWAY, "going away"),
            _ => Self::new(Self::UNKNOWN, "unknown"),
        }
    }
}

impl RequestSession {
    /// Opens a connection that outlives the request.
    ///
    /// A WebSocket's handshake is no request that CORS protects: a page of another origin can open one
    /// with the user's cookie, and read it. So a handshake needs the proof of its origin that other
    /// requests need to change something, as in [`RequestSession::same_origin`].
    ///
    /// # Errors
    /// 401 without a session, 403 `urn:session-kit:cross-origin` for a WebSocket of another origin, 429
    /// when as many streams are open as the options allow, 503 while nothing can be said about the token.
    pub fn live(&self, head: Head<'_>) -> Result<Live, Rejection> {
        let session = self.session(head)?;
        let is_socket = head.is_handshake();
        if is_socket {
            self.proven_origin(head)?;
        }
        let http = self.http().clone();
        let (id, options) = (Some(session.id()), http.options());
        let (per_session, in_all) = (options.max_streams_per_session, options.max_streams);
        let mut slot = http.streams().open(id, per_session, in_all)?;
        if is_socket {
            slot.count_as_socket();
        }
        Ok(Live { session, ip: self.address(head), _slot: slot, http })
    }
}

impl Live {
    /// The session, as it was when the connection was opened.
    pub const fn session(&self) -> &ActiveSession {
        &self.session
    }

    /// The session as it is now, with its claims. Does not count as use. It stays as fresh as the token
    /// was that opened the connection: after a re-authentication the client connects again.
    ///
    /// # Errors
    /// 401 when it has ended, 503 while nothing can be said about it.
    pub async fn current(&self) -> Result<ActiveSession, Rejection> {
        self.validate(Access::passive(self.ip)).await
    }

    /// Counts as use of the session, as a request would: for a message that is the user's doing. Any
    /// number of calls is cheap; they are written back together.
    ///
    /// # Errors
    /// As [`Live::current`].
    pub async fn touch(&self) -> Result<ActiveSession, Rejection> {
        self.validate(Access::from_ip(self.ip)).await
    }

    async fn validate(&self, access: Access) -> Result<ActiveSession, Rejection> {
        match self.http.manager().validate_again(&self.session, access).await? {
            Verdict::Active(session) => Ok(session),
            Verdict::Refused(_) => Err(Problem::unauthorized().into()),
        }
    }

    /// Waits until the connection has to be closed: the session has ended on any node, this node can no
    /// longer tell, or it stops. May be called again, and dropped at any time.
    pub async fn ended(&self) -> Close {
        self.http.manager().session_ended(self.session.id()).await.into()
    }

    /// Polls `work` until it is done or the connection has to be closed; it is dropped then, where it
    /// waits.
    pub async fn during(&self, work: impl Future<Output = ()>) -> Close {
        tokio::select! {
            biased;
            close = self.ended() => close,
            () = work => Close::new(Close::DONE, ""),
        }
    }

    /// Sends a WebSocket's last message and waits for the client's answer, a second at most: a
    /// connection that is dropped with unread bytes in it loses what was sent last.
    pub async fn hang_up<M>(
        self,
        (mut sender, mut receiver): (
            impl Sink<M> + Unpin,
            impl Stream<Item = Result<M, impl Sized>> + Unpin,
        ),
        close: M,
    ) {
        let closing = async {
            if sender.send(close).await.is_ok() {
                while let Some(Ok(_)) = receiver.next().await {}
            }
        };
        // A client that does not read is cut.
        let _ = tokio::time::timeout(FAREWELL, closing).await;
    }

    /// The items of a stream until the connection has to be closed, and then what `last` makes of the
    /// reason, if anything. For server-sent events and streaming bodies.
    ///
    /// A body of unknown length that ends early looks like a whole one. Where that matters, make an error
    /// the last item: the server then cuts the connection.
    pub fn while_signed_in<S: Stream>(
        self,
        items: S,
        last: impl FnOnce(Close) -> Option<S::Item>,
    ) -> impl Stream<Item = S::Item> {
        let ended = Box::pin(async move { self.ended().await });
        let open = (Box::pin(items), ended, Some(last));
        stream::unfold(open, |(mut items, mut ended, last)| async {
            let last = last?;
            tokio::select! {
                biased;
                close = &mut ended => Some((last(close)?, (items, ended, None))),
                item = items.next() => Some((item?, (items, ended, Some(last)))),
            }
        })
    }
}

/// How long a client may take to answer a close frame, and a stopping node waits for all of them.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_a_code_and_a_reason_that_fit_a_close_frame() {
        let close = |end| {
            let close = Close::from(end);
            assert!((1..=123).contains(&close.reason.len()), "{close:?}");
            (close.code, close.reason)
        };
        for cause in EndCause::ALL {
            assert_eq!(close(WaitEnd::Ended(cause)), (4001, cause.as_str()));
        }
        assert_eq!(close(WaitEnd::Gone), (4001, "ended"));
        assert_eq!(close(WaitEnd::Unknown), (4002, "unknown"));
        assert_eq!(close(WaitEnd::Stopping), (1001, "going away"));
    }
}
