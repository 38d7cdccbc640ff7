//! The README's programs.

use std::path::Path;

use crate::{Client, Program};

/// Checks that the README shows this program and these dependencies, byte for byte.
///
/// # Panics
/// When it does not.
pub fn shows(main: &str, manifest: &str) {
    shows_code(main);
    shows_table("dependencies", manifest, "\n[");
}

/// Checks that the README shows this test of an application and the dependencies that it needs, byte
/// for byte.
///
/// # Panics
/// When it does not.
pub fn shows_test(test: &str, manifest: &str) {
    shows_code(test);
    // What follows is for the tests of the README.
    shows_table("dev-dependencies", manifest, "session-test-support");
}

fn shows_code(code: &str) {
    assert!(README.contains(&format!("```rust\n{code}```\n")), "the README lacks\n{code}");
}

/// Checks for a table of the manifest, up to this text, with the path of session-kit as a version.
fn shows_table(name: &str, manifest: &str, end: &str) {
    let (_, table) = manifest.split_once(&format!("\n[{name}]\n")).unwrap();
    let (table, _) = table.split_once(end).unwrap();
    let table = table.replace("path = \"../../..\"", "version = \"0.1\"");
    let block = format!("```toml\n[{name}]\n{table}```\n");
    assert!(README.contains(&block), "the README lacks\n{block}");
}

const README: &str = include_str!("../../../README.md");

/// Checks that the program does what the README says: signs in, refuses, governs and leaves.
///
/// # Panics
/// When it does not.
pub fn works(program: impl AsRef<Path>) {
    let mut program = Program::start(program);
    let mut alice = program.client();
    assert_eq!(alice.get("/").status, 401);
    assert_eq!(alice.get_page("/").header("location"), Some("/login?next=/"));
    assert!(alice.get_page("/login").body.contains("<form"));

    for form in ["user=alice&password=wrong", "user=bob&password=correct+horse"] {
        assert_eq!(alice.post("/login", form).status, 401, "{form}");
        assert!(!alice.has_cookie());
    }
    sign_in(&mut alice);
    assert_eq!(alice.get_page("/sessions/").status, 200);

    let mut elsewhere = program.client();
    sign_in(&mut elsewhere);
    assert_eq!(alice.get("/").status, 401, "the second sign-in ends the first session");

    let stream = elsewhere.stream("/sessions/me/events");
    program.leaves_when_interrupted();
    drop(stream);
}

fn sign_in(client: &mut Client) {
    let answer = client.post("/login", "user=alice&password=correct+horse");
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
    assert!(client.get("/").body.contains("hello alice"));
}
