//! WebSockets that end with their session.

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::StreamExt;

use crate::extract::Live;

impl Live {
    /// Runs a WebSocket's handler, and closes the WebSocket when the handler returns, when the session
    /// ends or when the node stops. The handler is dropped then, where it waits. The client is told why
    /// by one of the codes of [`Close`](session_http::Close).
    ///
    /// ```
    /// use axum::extract::ws::WebSocketUpgrade;
    /// use axum::response::Response;
    /// use session_axum::Live;
    ///
    /// async fn echo(live: Live, upgrade: WebSocketUpgrade) -> Response {
    ///     upgrade.on_upgrade(|socket| {
    ///         live.serve(socket, async |socket, live| {
    ///             while let Some(Ok(message)) = socket.recv().await {
    ///                 // The user is there: without this, the session idles out.
    ///                 let _ = live.touch().await;
    ///                 let _ = socket.send(message).await;
    ///             }
    ///         })
    ///     })
    /// }
    /// # let _: axum::Router = axum::Router::new().route("/echo", axum::routing::any(echo));
    /// ```
    pub async fn serve(
        self,
        mut socket: WebSocket,
        handler: impl AsyncFnOnce(&mut WebSocket, &Self),
    ) {
        let close = self.during(handler(&mut socket, &self)).await;
        let frame = CloseFrame { code: close.code, reason: close.reason.into() };
        self.0.hang_up(socket.split(), Message::Close(Some(frame))).await;
    }
}
