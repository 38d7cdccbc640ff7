//! Many tasks that do the same thing over and over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Failure;
use crate::times::{Times, median};

/// Tasks that repeat one action until they are stopped. Dropping it stops them at once.
pub struct Load {
    workers: JoinSet<Result<Times, Failure>>,
    stop: Arc<AtomicBool>,
    begun: Instant,
}

/// What the tasks of a [`Load`] did.
pub struct Done {
    /// How long each action took.
    pub times: Times,
    /// From the start until the last action ended.
    pub elapsed: Duration,
}

impl Load {
    /// Starts `workers` tasks. Each calls `act` with its number, and waits for `pause` between two
    /// calls.
    pub fn start<A, F>(workers: usize, pause: Duration, act: A) -> Self
    where
        A: Fn(usize) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let mut set = JoinSet::new();
        for worker in 0..workers {
            let (act, stop) = (act.clone(), Arc::clone(&stop));
            set.spawn(async move {
                let mut times = Times::default();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    act(worker).await?;
                    times.add(begun.elapsed());
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                }
                Ok(times)
            });
        }
        Self { workers: set, stop, begun: Instant::now() }
    }

    /// Lets every task finish its action, so that a stall that has not ended yet counts too.
    ///
    /// # Errors
    /// The first error of an action.
    pub async fn stop(mut self) -> Result<Done, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = Times::default();
        while let Some(worker) = self.workers.join_next().await {
            times.extend(worker??);
        }
        Ok(Done { times, elapsed: self.begun.elapsed() })
    }
}

impl Done {
    /// Actions per second.
    pub fn rate(&self) -> f64 {
        self.times.count() as f64 / self.elapsed.as_secs_f64()
    }
}

/// The median rates of two kinds of load that take turns, so that a change of the machine's speed
/// concerns both. A first round of each is not counted.
///
/// # Errors
/// The first error of an action.
pub async fn interleaved(
    rounds: u32,
    length: Duration,
    mut one: impl FnMut() -> Load,
    mut other: impl FnMut() -> Load,
) -> Result<(f64, f64), Failure> {
    let mut rates = (Vec::new(), Vec::new());
    for _ in 0..=rounds {
        rates.0.push(round(one(), length).await?);
        rates.1.push(round(other(), length).await?);
    }
    let middle = |rates: Vec<f64>| median(rates[1..].to_vec()).unwrap_or_default();
    Ok((middle(rates.0), middle(rates.1)))
}

/// The rate of a load that runs for this long.
///
/// # Errors
/// The first error of an action.
pub async fn round(load: Load, length: Duration) -> Result<f64, Failure> {
    tokio::time::sleep(length).await;
    Ok(load.stop().await?.rate())
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn an_action_that_is_under_way_counts() {
        let gate = Arc::new(Semaphore::new(3));
        let (entrance, exit) = (Arc::clone(&gate), Arc::clone(&gate));
        let load = Load::start(1, Duration::ZERO, move |_| {
            let gate = Arc::clone(&entrance);
            async move {
                gate.acquire().await?.forget();
                Ok(())
            }
        });
        while gate.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let stopped = tokio::spawn(load.stop());
        tokio::task::yield_now().await;
        exit.add_permits(1);
        let done = stopped.await.unwrap().unwrap();
        assert_eq!(done.times.count(), 4);
        assert!(done.rate() > 0.0);
    }

    #[tokio::test]
    async fn an_error_is_told() {
        let load = Load::start(2, Duration::ZERO, |worker| async move {
            tokio::task::yield_now().await;
            if worker == 1 { Err("refused".into()) } else { Ok(()) }
        });
        // Lets every task begin.
        tokio::task::yield_now().await;
        let failure = load.stop().await.err().unwrap();
        assert_eq!(failure.to_string(), "refused");
    }

    #[tokio::test]
    async fn the_first_round_of_each_is_not_counted() {
        let rounds = std::cell::Cell::new(0);
        let idle = || Load::start(0, Duration::ZERO, |_| async { Ok(()) });
        let counted = || {
            rounds.set(rounds.get() + 1);
            idle()
        };
        let rates = interleaved(2, Duration::ZERO, counted, idle).await.unwrap();
        assert_eq!((rates, rounds.get()), ((0.0, 0.0), 3));
    }
}
