//! The README's program for axum.

use session_test_support::readme;

#[test]
fn the_readme_shows_this_program() {
    readme::shows(include_str!("../src/main.rs"), include_str!("../Cargo.toml"));
}

#[test]
fn the_readme_shows_this_test() {
    readme::shows_test(include_str!("greeting.rs"), include_str!("../Cargo.toml"));
}

#[test]
fn the_program_does_what_the_readme_says() {
    readme::works(env!("CARGO_BIN_EXE_readme-axum"));
}
