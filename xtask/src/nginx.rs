//! The proxy that the behaviour tests put in front of the demo.

use crate::packages;
use crate::run::{Failure, has};

/// Makes sure that nginx is there.
pub(crate) fn install() -> Result<(), Failure> {
    if has("nginx") || std::path::Path::new("/usr/sbin/nginx").is_file() {
        return Ok(());
    }
    packages::install(&["nginx-light"]).map_err(|failure| {
        Failure::new(format!("{failure}; or leave its tests out with --no-browser"))
    })
}
