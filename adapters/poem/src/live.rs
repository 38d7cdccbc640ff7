//! WebSockets that end with their session.

use futures_util::StreamExt;
use poem::web::websocket::{Message, WebSocketStream};

use crate::extract::Live;

impl Live {
    /// Runs a WebSocket's handler, and closes the WebSocket when the handler returns, when the session
    /// ends or when the node stops. The handler is dropped then, where it waits. The client is told why
    /// by one of the codes of [`Close`](session_http::Close).
    ///
    /// ```
    /// use futures_util::{SinkExt, StreamExt};
    /// use poem::web::websocket::WebSocket;
    /// use poem::{IntoResponse, handler};
    /// use session_poem::Live;
    ///
    /// #[handler]
    /// async fn echo(live: Live, upgrade: WebSocket) -> impl IntoResponse {
    ///     upgrade.on_upgrade(|socket| {
    ///         live.serve(socket, async |socket, live| {
    ///             while let Some(Ok(message)) = socket.next().await {
    ///                 // The user is there: without this, the session idles out.
    ///                 let _ = live.touch().await;
    ///                 let _ = socket.send(message).await;
    ///             }
    ///         })
    ///     })
    /// }
    /// # let _ = poem::Route::new().at("/echo", poem::get(echo));
    /// ```
    pub async fn serve(
        self,
        mut socket: WebSocketStream,
        handler: impl AsyncFnOnce(&mut WebSocketStream, &Self),
    ) {
        let close = self.during(handler(&mut socket, &self)).await;
        let frame = (close.code.into(), close.reason.to_owned());
        self.0.hang_up(socket.split(), Message::Close(Some(frame))).await;
    }
}
