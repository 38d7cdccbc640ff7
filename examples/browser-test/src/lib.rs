//! Empty: the tests are the content. `cargo xtask test` installs the browser and runs them.
