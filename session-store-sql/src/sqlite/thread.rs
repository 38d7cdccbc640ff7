//! A thread of the store's own, which runs one job after another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A thread, which ends when this is dropped and no job is left.
///
/// It is not one of the runtime's threads for blocking work: there a job would wait behind the application's own, such
/// as the checks of a thousand passwords.
#[derive(Debug)]
pub(super) struct Thread(Sender<Job>);

type Job = Box<dyn FnOnce() + Send>;

impl Thread {
    pub(super) fn start() -> std::io::Result<Self> {
        let (sender, jobs) = channel();
        std::thread::Builder::new()
            .name("session-kit-sqlite".to_owned())
            .spawn(|| jobs.into_iter().for_each(work))?;
        Ok(Self(sender))
    }

    /// Runs a future there, to its end also where the caller goes away. None where it has panicked.
    pub(super) async fn run<T, F>(&self, future: impl FnOnce() -> F + Send + 'static) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T>,
    {
        let (runtime, (answer, answered)) = (Handle::current(), oneshot::channel());
        // Where the caller has gone, nobody wants the answer.
        let job = move || drop(answer.send(runtime.block_on(future())));
        self.0.send(Box::new(job)).ok()?;
        answered.await.ok()
    }
}

fn work(job: Job) {
    // The hook has told of a panic; the next job is another's.
    let _panicked = catch_unwind(AssertUnwindSafe(job));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_stops_no_other() {
        let thread = Thread::start().unwrap();
        let broken: Option<()> = thread.run(async || panic!("for the test")).await;
        assert_eq!(broken, None);
        assert_eq!(thread.run(async || 7).await, Some(7));
    }

    #[tokio::test]
    async fn a_job_whose_caller_goes_away_is_done() {
        let thread = Thread::start().unwrap();
        let (done, is_done) = oneshot::channel();
        let (go, gone) = oneshot::channel::<()>();
        let (begin, has_begun) = oneshot::channel();
        let mut caller = Box::pin(thread.run(async || {
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
