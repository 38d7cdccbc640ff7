//! The demo's pages in headless Chromium, through WebDriver.

mod driver;
mod endings;
mod lists;
mod messages;
mod policy;
mod sessions;
mod sign_in;
mod tabs;

use std::time::Duration;

const DEVICES: &str = "/sessions/";
const ADMIN: &str = "/sessions/admin";

const ENTER: char = '\u{e007}';
const ESCAPE: char = '\u{e00c}';
/// Long enough for a busy machine; what is waited for usually comes at once.
const PATIENCE: Duration = Duration::from_secs(20);
