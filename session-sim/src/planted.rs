//! Defects that have to be found: the simulation can fail.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use session_core::planted::{self, Defect};

use crate::oracle::Violation;
use crate::plan::{Fleet, Plan};
use crate::world;

/// Plants the defect of this name in what this thread runs from now on.
pub(crate) fn plant(name: &str) -> Result<(), String> {
    let named = Defect::ALL.iter().copied().find(|defect| defect.name() == name);
    let defect = named.ok_or_else(|| {
        let names: Vec<_> = Defect::ALL.iter().map(|defect| defect.name()).collect();
        format!("no defect is called {name}; there are {}", names.join(", "))
    })?;
    planted::plant(Some(defect));
    Ok(())
}

/// Plants one after the other. Each has to be found within so many runs.
pub(crate) fn find_all(seeds: u64, fleet: Fleet, threads: usize) -> ExitCode {
    let (begun, mut missed) = (Instant::now(), 0);
    let sought = || Defect::ALL.iter().filter(|defect| !BEYOND.contains(defect));
    for defect in sought() {
        match find(*defect, seeds, fleet, threads) {
            Some((seed, violation)) => {
                println!(
                    "{:<24} seed {seed:>5}: {}: {}",
                    defect.name(),
                    violation.kind,
                    violation.text
                );
            }
            None => {
                missed += 1;
                println!("{:<24} not found in {seeds} runs: {}", defect.name(), defect.means());
            }
        }
    }
    let (all, seconds) = (sought().count(), begun.elapsed().as_secs_f64());
    println!("{} of {all} planted defects found in {seconds:.0} s", all - missed);
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The first seed whose run shows it.
fn find(defect: Defect, seeds: u64, fleet: Fleet, threads: usize) -> Option<(u64, Violation)> {
    let (next, found) = (AtomicU64::new(0), AtomicBool::new(false));
    let first = Mutex::new(None::<(u64, Violation)>);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                planted::plant(Some(defect));
                while !found.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let run = world::run(&Plan::draw(seed, fleet), false);
                    let Some(violation) = run.violation else { continue };
                    // It has to be the defect that is found.
                    planted::plant(None);
                    let is_clean = world::run(&Plan::draw(seed, fleet), false).violation.is_none();
                    planted::plant(Some(defect));
                    if !is_clean {
                        continue;
                    }
                    found.store(true, Ordering::Relaxed);
                    if let Ok(mut first) = first.lock()
                        && first.as_ref().is_none_or(|(known, _)| seed < *known)
                    {
                        *first = Some((seed, violation));
                    }
                }
            });
        }
    });
    first.into_inner().ok().flatten()
}

/// What the simulation does not find: a page of the log is longer than what happens in a run, and a
/// session ends as unused only when no use can be on its way any more. Tests of the engine and of the kit
/// do find each of them.
const BEYOND: [Defect; 3] = [Defect::HalfRead, Defect::UseUnchecked, Defect::SweepEager];
