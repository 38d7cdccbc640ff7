//! The README's programs.

use std::path::Path;

use crate::{Client, Program};

/// Checks that the README shows this program, and these dependencies, byte for byte.
///
/// # Panics
/// When it does not.
pub fn shows(main: &str, manifest: &str) {
    let readme = include_str!("../../../README.md");
    assert!(readme.contains(&format!("```rust\n{main}```\n")), "the README has another program");
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (dependencies, _) = dependencies.split_once("\n[").unwrap();
    let dependencies = dependencies.replace("path = \"../../..\"", "version = \"0.1\"");
    let block = format!("```toml\n[dependencies]\n{dependencies}```\n");
    assert!(readme.contains(&block), "the README has other dependencies than\n{block}");
}

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
