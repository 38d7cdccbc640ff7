//! Runs a model, as the engine is and with each of the faults that it has to find.

use std::cell::Cell;
use std::panic::catch_unwind;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};

use crate::faults::FAULTS;
use crate::sync;

/// A model panics where what it shows does not hold. The output of a failure has the order of the
/// threads, for `shuttle::replay`.
pub(crate) fn check(model: fn(), faults: &[&'static str]) {
    run(model, FailurePersistence::Print);
    for fault in faults {
        PLANTED.set(fault);
        let outcome = catch_unwind(|| run(model, FailurePersistence::None));
        PLANTED.set("");
        assert!(outcome.is_err(), "not found: {fault}");
    }
}

/// Whether the engine has this fault now.
pub(crate) fn is_planted(fault: &str) -> bool {
    PLANTED.get() == fault
}

fn run(model: fn(), persistence: FailurePersistence) {
    run_with(RandomScheduler::new_from_seed(SEED, RUNS), model, persistence.clone());
    run_with(PctScheduler::new_from_seed(SEED, PREEMPTIONS, RUNS), model, persistence);
}

fn run_with(scheduler: impl Scheduler + 'static, model: fn(), persistence: FailurePersistence) {
    let mut config = Config::new();
    config.failure_persistence = persistence;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(move || {
        sync::begin();
        model();
    });
}

#[test]
fn every_fault_is_looked_for() {
    let models = [
        include_str!("cache_models.rs"),
        include_str!("queue_models.rs"),
        include_str!("shared_models.rs"),
    ];
    for fault in FAULTS {
        let name = format!("{:?}", fault.name);
        assert!(models.iter().any(|text| text.contains(&name)), "no model looks for {name}");
    }
}

thread_local! {
    /// shuttle runs all threads of a model on the thread that called it.
    static PLANTED: Cell<&'static str> = const { Cell::new("") };
}

const SEED: u64 = 18;
/// Runs of a model under each scheduler.
const RUNS: usize = 1_000;
const PREEMPTIONS: usize = 3;
