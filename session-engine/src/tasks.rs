//! Tasks and timers on the runtime that the engine was started on, and how they stop.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use session_core::StoreError;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::error::Error;
use crate::shared::Shared;

impl Shared {
    /// Starts a task on the engine's runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Runs a call in a task of its own. A caller may be dropped, or never polled again; what the call
    /// holds is let go all the same.
    pub(crate) async fn detached<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        self.spawn(async move {
            if let Err(Err(error)) = sender.send(call.await) {
                // That the store is away has been said; this comes for each request that gave up.
                tracing::debug!(%error, "a call failed whose caller has gone");
            }
        });
        let gone = |_| Err(StoreError::unavailable("the call was given up").into());
        receiver.await.unwrap_or_else(gone)
    }

    /// Waits by the engine's timer: a caller's runtime need not have one.
    pub(crate) async fn sleep(&self, duration: Duration) {
        self.on_runtime(|| tokio::time::sleep(duration)).await;
    }

    /// Polls a future as the engine's runtime does. A connection that a store opens belongs to the
    /// runtime that it was opened on; a caller's may end before the engine does, as the workers of
    /// actix-web do.
    pub(crate) async fn on_runtime<F: Future>(&self, make: impl FnOnce() -> F) -> F::Output {
        let future = {
            let _entered = self.runtime.enter();
            make()
        };
        let future = std::pin::pin!(Some(future));
        let mut entered = Entered { runtime: &self.runtime, future };
        std::future::poll_fn(move |context| entered.poll(context)).await
    }

    pub(crate) fn stopping(&self) -> Stopping {
        Stopping(self.stop.subscribe())
    }

    pub(crate) fn stopping_waits(&self) -> Stopping {
        Stopping(self.stop_waits.subscribe())
    }
}

/// A future that is polled and dropped on a runtime: what it opened may need the runtime to close.
struct Entered<'r, F> {
    runtime: &'r Handle,
    future: Pin<&'r mut Option<F>>,
}

impl<F: Future> Entered<'_, F> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = self.runtime.enter();
        match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(context),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Entered<'_, F> {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        self.future.set(None);
    }
}

/// Resolves when the engine or its streams stop.
pub(crate) struct Stopping(watch::Receiver<bool>);

impl Stopping {
    pub(crate) async fn stopped(&mut self) {
        // A sender that is gone means the same.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}
