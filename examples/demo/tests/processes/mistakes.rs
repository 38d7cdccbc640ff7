//! What the demo says of a command line that cannot work.

use std::path::Path;
use std::process::Command;

/// Each is one sentence that names the option or the file.
#[test]
fn a_mistake_is_a_sentence_that_names_the_option_or_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("demo.db");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let config = folder.path().join("session-kit.toml");
    std::fs::write(&config, "[http]\nprefixx = 1").unwrap();
    for (option, value, named) in [
        ("--store", "nonsense://x", "--store"),
        ("--store", "sqlite::memory:", "the path of a file"),
        ("--store", "sqlite:", "the path of a file"),
        ("--db", "/nowhere/demo.db", "/nowhere/demo.db"),
        ("--addr", taken.as_str(), taken.as_str()),
        ("--config", "/nowhere.toml", "/nowhere.toml"),
        ("--config", config.to_str().unwrap(), "prefixx"),
        ("--trusted-proxy", "10.0.0.0/33", "10.0.0.0/33"),
        ("--allowed-origin", "shop.example.com", "https://app.example.com"),
        ("--adapter", "rocket", "rocket"),
    ] {
        let said = refused(&db, option, value);
        assert!(said.starts_with("error: ") && said.contains(named), "{option} {value}: {said}");
        assert!(!said.contains("panicked") && !said.contains("InvalidField {"), "{said}");
    }
}

/// A mistyped path makes no empty store that is well.
#[test]
fn the_doctor_makes_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("demo.db");
    for more in [&[][..], &["--lift-block"]] {
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_session-doctor"));
        doctor.arg("--store").arg(format!("sqlite:{}", db.display())).args(more);
        let output = doctor.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains("there is no such file"), "{said}");
        assert!(!db.exists());
    }
}

fn refused(db: &Path, option: &str, value: &str) -> String {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_session-demo"));
    demo.env("RUST_LOG", "off").args([option, value]);
    if option != "--addr" {
        demo.args(["--addr", "127.0.0.1:0"]);
    }
    if !["--db", "--store"].contains(&option) {
        demo.arg("--db").arg(db);
    }
    let output = demo.output().unwrap();
    assert!(!output.status.success(), "{option} {value} is taken");
    String::from_utf8(output.stderr).unwrap()
}
