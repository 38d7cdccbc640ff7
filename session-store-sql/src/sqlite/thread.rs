//! A thread of the store's own, which runs one job after another.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// A thread with what its jobs work on, which ends when this is dropped and no job is left.
///
/// A job waits for those that were asked for before it, and for no runtime of the application: one that has much to
/// do, or stands still, keeps only its own tasks waiting.
#[derive(Debug)]
pub(super) struct Thread<S>(Sender<Job<S>>);

type Job<S> = Box<dyn FnOnce(&Runtime, &mut S) + Send>;

impl<S: Send + 'static> Thread<S> {
    pub(super) fn start(name: &str, mut state: S) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let (sender, jobs) = channel::<Job<S>>();
        let work = move || {
            for job in jobs {
                // The hook has told of a panic; the next job is another's.
                let _panicked = catch_unwind(AssertUnwindSafe(|| job(&runtime, &mut state)));
            }
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self(sender))
    }

    /// Runs a job there, to its end.
    pub(super) fn post(&self, job: impl AsyncFnOnce(&mut S) + Send + 'static) {
        let job = move |runtime: &Runtime, state: &mut S| runtime.block_on(job(state));
        // The thread is there for as long as this is.
        let _ = self.0.send(Box::new(job));
    }

    /// Runs a job there, also where the caller goes away. None where it has panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl AsyncFnOnce(&mut S) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.post(async move |state: &mut S| {
            // Where the caller has gone, the answer is not wanted.
            let _ = answer.send(job(state).await);
        });
        answered.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_stops_no_other() {
        let thread = Thread::start("test", ()).unwrap();
        let broken: Option<()> = thread.run(async |_: &mut ()| panic!("for the test")).await;
        assert_eq!(broken, None);
        assert_eq!(thread.run(async |_: &mut ()| 7).await, Some(7));
    }

    #[tokio::test]
    async fn a_job_whose_caller_goes_away_is_done() {
        let thread = Thread::start("test", ()).unwrap();
        let (done, is_done) = oneshot::channel();
        let (go, gone) = oneshot::channel::<()>();
        let (begin, has_begun) = oneshot::channel();
        let mut caller = Box::pin(thread.run(async |_: &mut ()| {
            begin.send(()).unwrap();
            let _gone = gone.await;
            // Time in which it would see that nobody waits for it.
            tokio::task::yield_now().await;
            done.send(()).unwrap();
        }));
        assert!(tokio::time::timeout(Duration::ZERO, &mut caller).await.is_err());
        has_begun.await.unwrap();
        drop(caller);
        drop(go);
        is_done.await.unwrap();
    }
}
