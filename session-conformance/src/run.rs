//! Runs cases and reports.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::recorder::{Calls, Recorded};
use crate::{Backend, CASES, Case, Namespace};

/// How a run ended.
#[derive(Debug, Default)]
pub struct Report {
    /// Cases that passed.
    pub passes: Vec<Pass>,
    /// Cases that failed.
    pub failures: Vec<Failure>,
    /// Cases that have nothing to check on this store, and why.
    pub skipped: Vec<(&'static str, &'static str)>,
}

/// A case that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The name of the case.
    pub name: &'static str,
    /// How long it took.
    pub time: Duration,
}

/// A case that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The name of the case, or the name that is not one.
    pub name: String,
    /// How long it took.
    pub time: Duration,
    /// What was expected and what was found, where in the kit, and the calls of the store that led
    /// to it.
    pub reason: String,
}

impl Report {
    /// Whether every case passed, and there was one. A case that has nothing to check on this store
    /// has not failed.
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && !(self.passes.is_empty() && self.skipped.is_empty())
    }

    /// How long all cases took together.
    pub fn time(&self) -> Duration {
        let passes = self.passes.iter().map(|pass| pass.time);
        passes.chain(self.failures.iter().map(|failure| failure.time)).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Failure { name, reason, .. } in &self.failures {
            writeln!(f, "{name}: {reason}")?;
        }
        for (name, reason) in &self.skipped {
            writeln!(f, "{name}: skipped, {reason}")?;
        }
        let (passed, failed) = (self.passes.len(), self.failures.len());
        let (skipped, seconds) = (self.skipped.len(), self.time().as_secs_f64());
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped in {seconds:.2} s")
    }
}

/// Runs every case, each in a namespace of its own, and prints a line with its time for each.
///
/// Where the environment variable `SESSION_KIT_CASE` is set, runs the cases that it names only, as
/// [`run_case`] does. Where `SESSION_KIT_STOP` is set, stops at the first case that fails. Where
/// `SESSION_KIT_PATIENCE` is a number of seconds, a case that takes longer has failed.
pub async fn run(backend: Arc<dyn Backend>) -> Report {
    let seconds = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok());
    run_within(backend, seconds.map_or(PATIENCE, Duration::from_secs)).await
}

/// As [`run`], where a case that takes longer than this has failed.
pub async fn run_within(backend: Arc<dyn Backend>, patience: Duration) -> Report {
    match std::env::var(CASE) {
        Ok(name) if !name.is_empty() => run_case_within(backend, &name, patience).await,
        _ => run_all(backend, CASES, patience).await,
    }
}

/// Runs the case of this name, such as `update::an_update_is_read_on_every_node`, or every case
/// whose name contains it. Where no name does, the failure lists all names.
pub async fn run_case(backend: Arc<dyn Backend>, name: &str) -> Report {
    run_case_within(backend, name, PATIENCE).await
}

/// As [`run_case`], where a case that takes longer than this has failed.
pub async fn run_case_within(backend: Arc<dyn Backend>, name: &str, patience: Duration) -> Report {
    let exact: Vec<_> = CASES.iter().filter(|case| case.name == name).copied().collect();
    let like = || CASES.iter().filter(|case| case.name.contains(name)).copied().collect();
    let chosen: Vec<_> = if exact.is_empty() { like() } else { exact };
    if chosen.is_empty() {
        let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        let reason = format!("there is no such case; the cases are\n  {}", names.join("\n  "));
        let failure = Failure { name: name.to_owned(), time: Duration::ZERO, reason };
        return Report { failures: vec![failure], ..Report::default() };
    }
    run_all(backend, &chosen, patience).await
}

async fn run_all(backend: Arc<dyn Backend>, cases: &[Case], patience: Duration) -> Report {
    NOTE_PLACES.call_once(note_places);
    let mut report = Report::default();
    for case in cases {
        let begun = Instant::now();
        let result = run_one(backend.as_ref(), case, patience).await;
        let (name, time) = (case.name, begun.elapsed());
        let word = match &result {
            Ok(None) => "ok".to_owned(),
            Ok(Some(reason)) => format!("skipped: {reason}"),
            Err(_) => "FAILED".to_owned(),
        };
        println!("conformance {name} ... {word} ({:.3} s)", time.as_secs_f64());
        match result {
            Ok(None) => report.passes.push(Pass { name, time }),
            Ok(Some(reason)) => report.skipped.push((name, reason)),
            Err(reason) => report.failures.push(Failure { name: name.to_owned(), time, reason }),
        }
        if !report.failures.is_empty() && std::env::var_os(STOP).is_some() {
            break;
        }
    }
    report
}

/// Answers why there was nothing to check, if so.
async fn run_one(
    backend: &dyn Backend,
    case: &Case,
    patience: Duration,
) -> Result<Option<&'static str>, String> {
    let namespace: Arc<dyn Namespace> = backend.fresh().await.into();
    let (recorded, calls) = Recorded::around(namespace);
    let run = (case.run)(Arc::clone(&recorded) as Arc<dyn Namespace>);
    let run = async move {
        run.await;
        let complaints = recorded.complaints().await;
        assert_eq!(complaints, [""; 0], "the namespace finds nothing wrong with its content");
    };
    // A task of its own, so that a failed assertion ends the case and not the run.
    let mut run = tokio::spawn(run);
    match tokio::time::timeout(patience, &mut run).await {
        Ok(Ok(())) => Ok(None),
        Ok(Err(error)) => match payload(error) {
            Ok(Skipped(reason)) => Ok(Some(reason)),
            Err(message) => Err(format!("{}{}", place_of(message), calls.told())),
        },
        Err(_) => {
            let reason = timed_out(patience, &calls);
            run.abort();
            Err(reason)
        }
    }
}

fn timed_out(patience: Duration, calls: &Calls) -> String {
    let slowest = calls.slowest();
    let slowest = slowest.unwrap_or_else(|| "no call of the store is under way".to_owned());
    format!("timed out after {} s: {slowest}{}", patience.as_secs_f64(), calls.told())
}

/// Ends a case that has nothing to check on this store.
pub(crate) fn skip(reason: &'static str) -> ! {
    std::panic::resume_unwind(Box::new(Skipped(reason)))
}

struct Skipped(&'static str);

/// Why a case ended early: it was skipped, or the message of its panic.
fn payload(error: tokio::task::JoinError) -> Result<Skipped, String> {
    let Ok(payload) = error.try_into_panic() else { return Err("it was cancelled".to_owned()) };
    payload.downcast().map(|skipped| *skipped).map_err(|payload| message(payload.as_ref()))
}

/// The message of a panic, and where in the kit it was.
fn place_of(message: String) -> String {
    let places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    match places.iter().rev().find(|(of, _)| *of == message) {
        Some((_, place)) => format!("{message}\n  at {place}"),
        None => message,
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}

/// Notes where each panic was, besides what the hook did that was there before.
fn note_places() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        if let Some(place) = info.location() {
            let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
            if places.len() == MOST_PLACES {
                places.pop_front();
            }
            places.push_back((message(info.payload()), format!("{place}")));
        }
        before(info);
    }));
}

static NOTE_PLACES: Once = Once::new();
/// The messages of the last panics, and where they were: a task that waits for another one passes
/// on the message only.
static PLACES: Mutex<VecDeque<(String, String)>> = Mutex::new(VecDeque::new());
const MOST_PLACES: usize = 256;
/// The environment variable that names the cases to run.
const CASE: &str = "SESSION_KIT_CASE";
/// The environment variable that makes the first failure the last one.
const STOP: &str = "SESSION_KIT_STOP";
/// The environment variable that says how many seconds a case may take.
const SECONDS: &str = "SESSION_KIT_PATIENCE";
/// No case takes nearly as long on a store that works, also where the machine is busy.
const PATIENCE: Duration = Duration::from_secs(600);
