//! A demo with a defect: what judges a fleet has to find it.

use std::process::ExitCode;

use session_core::planted::{Defect, plant};
use tokio::runtime::Builder;

/// Runs the demo with the defect that the environment names; with none where it names none.
pub(crate) fn run(demo: impl Future<Output = ExitCode>) -> ExitCode {
    let name = std::env::var("SESSION_KIT_PLANTED").ok();
    let defect = Defect::ALL.iter().copied().find(|defect| name.as_deref() == Some(defect.name()));
    if name.is_some() && defect.is_none() {
        eprintln!("error: SESSION_KIT_PLANTED names no defect");
        return ExitCode::FAILURE;
    }
    // Which defect is planted is a setting of the thread.
    plant(defect);
    match Builder::new_multi_thread().enable_all().on_thread_start(move || plant(defect)).build() {
        Ok(runtime) => runtime.block_on(demo),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
