//! The browser that the browser test needs.

use crate::packages;
use crate::run::{Failure, has};

/// Makes sure that Chromium and its driver are there.
pub(crate) fn install() -> Result<(), Failure> {
    if has("chromium") && has("chromedriver") {
        return Ok(());
    }
    packages::install(&["chromium", "chromium-driver"]).map_err(|failure| {
        Failure::new(format!("{failure}; or leave the browser test out with --no-browser"))
    })
}
