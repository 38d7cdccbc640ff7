//! WebSockets that end with their session.

use actix_ws::{CloseReason, Message, MessageStream, Session};

use crate::extract::Live;

impl Live {
    /// Runs a WebSocket's handler, and closes the WebSocket when the handler returns, when the session
    /// ends or when the node stops. The handler is dropped then, where it waits. The client is told why
    /// by one of the codes of [`Close`](session_http::Close).
    ///
    /// ```
    /// use actix_web::{Error, HttpRequest, HttpResponse, rt, web};
    /// use session_actix::Live;
    ///
    /// async fn echo(
    ///     live: Live,
    ///     request: HttpRequest,
    ///     body: web::Payload,
    /// ) -> Result<HttpResponse, Error> {
    ///     let (response, socket, messages) = actix_ws::handle(&request, body)?;
    ///     rt::spawn(live.serve(socket, messages, async |socket, messages, live| {
    ///         while let Some(Ok(actix_ws::Message::Text(text))) = messages.recv().await {
    ///             // The user is there: without this, the session idles out.
    ///             let _ = live.touch().await;
    ///             let _ = socket.text(text).await;
    ///         }
    ///     }));
    ///     Ok(response)
    /// }
    /// # let _ = actix_web::App::new().route("/echo", web::get().to(echo));
    /// ```
    pub async fn serve(
        self,
        mut socket: Session,
        mut messages: MessageStream,
        handler: impl AsyncFnOnce(&mut Session, &mut MessageStream, &Self),
    ) {
        let close = self.during(handler(&mut socket, &mut messages, &self)).await;
        let reason = CloseReason::from((close.code.into(), close.reason));
        self.0.hang_up((socket, messages), Message::Close(Some(reason))).await;
    }
}
