//! Makes a failing run shorter: steps that the violation does not need are left out.

use crate::oracle::Guarantee;
use crate::plan::{Fleet, Plan};
use crate::world::{self, Keep};

/// Shows the shortest run that was found to break the same guarantee.
pub(crate) fn show(seed: u64, fleet: Fleet, kind: Guarantee) {
    let mut plan = Plan::draw(seed, fleet);
    let all = plan.steps.len();
    shrink(&mut plan, kind);
    println!("\n{} of {all} steps are needed:", plan.steps.len());
    let run = world::run(&plan, Keep::Trace);
    print!("{plan}\n{}", run.trace.show(120));
    if let Some(violation) = run.violation {
        println!("{} s: {}: {}", violation.at as f64 / 1_000.0, violation.kind, violation.text);
    }
}

fn shrink(plan: &mut Plan, kind: Guarantee) {
    let mut size = plan.steps.len().div_ceil(2);
    let mut tries = 0;
    while size > 0 {
        let mut from = 0;
        while from < plan.steps.len() {
            tries += 1;
            if tries > MOST_TRIES {
                return;
            }
            let until = (from + size).min(plan.steps.len());
            let before = plan.steps.clone();
            plan.steps.drain(from..until);
            let same =
                world::run(plan, Keep::Nothing).violation.is_some_and(|found| found.kind == kind);
            if !same {
                plan.steps = before;
                from = until;
            }
        }
        size /= 2;
    }
}

const MOST_TRIES: u32 = 600;
