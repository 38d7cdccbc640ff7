//! Asks the running demo what the API's description allows, and what it forbids, with schemathesis:
//! no answer may be a failure of the server, nor one that the description lacks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::python::Tool;
use crate::run::{Failure, cargo, root, show, target};

/// Builds the demo first.
pub(crate) fn run() -> Result<(), Failure> {
    show(cargo(["build", "--locked", "--package", "session-demo"]))?;
    check()
}

/// With the demo that is there.
pub(crate) fn check() -> Result<(), Failure> {
    if !TOOL.is_there() {
        TOOL.install()?;
    }
    let demo = Demo::start()?;
    let cookie = demo.sign_in("root")?;
    let mut ask = Command::new(TOOL.programs().join(TOOL.program));
    ask.arg("run").arg(root().join("adapters/http/openapi.json"));
    ask.args(["--url", &format!("http://{}/sessions", demo.address)]);
    ask.args(["--header", &format!("Cookie: {cookie}")]);
    ask.args(["--header", "Sec-Fetch-Site: same-origin"]).args(CHOICES);
    ask.current_dir(folder()?).stdin(Stdio::null());
    show(ask)
}

/// A demo with a file of its own, until it is dropped.
struct Demo {
    process: Child,
    address: String,
}

impl Demo {
    fn start() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("session-demo: {error}"));
        let file = folder()?.join("sessions.db");
        let _ = std::fs::remove_file(&file);
        let mut demo = Command::new(target().join("debug/session-demo"));
        demo.args(["--addr", "127.0.0.1:0", "--db"]).arg(file).env("RUST_LOG", "error");
        let mut process = demo.stdout(Stdio::piped()).spawn().map_err(failed)?;
        let mut line = String::new();
        let out = process.stdout.take();
        let mut demo = Self { process, address: String::new() };
        out.map(BufReader::new)
            .map(|mut out| out.read_line(&mut line))
            .transpose()
            .map_err(failed)?;
        let address = line.split_once("http://").and_then(|(_, rest)| rest.split_once(','));
        let (address, _) =
            address.ok_or_else(|| Failure::new(format!("session-demo says {line:?}")))?;
        address.clone_into(&mut demo.address);
        Ok(demo)
    }

    /// The cookie of a new session, as a browser sends it back.
    fn sign_in(&self, user: &str) -> Result<String, Failure> {
        let form = format!("user={user}&password={user}");
        let answer = self
            .post("/login", &form)
            .map_err(|error| Failure::new(format!("signing in on {}: {error}", self.address)))?;
        let cookies = answer.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("set-cookie").then_some(value)
        });
        let cookie = cookies.filter_map(|cookie| cookie.split(';').next()).next();
        let status = answer.lines().next().unwrap_or_default();
        cookie
            .map(|cookie| cookie.trim().to_owned())
            .ok_or_else(|| Failure::new(format!("signing in as {user}: {status}")))
    }

    fn post(&self, path: &str, form: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {}\r\nSec-Fetch-Site: same-origin\r\nConnection: close\r\n\
            Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            self.address,
            form.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn folder() -> Result<PathBuf, Failure> {
    let folder = target().join("schemathesis");
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    Ok(folder)
}

const TOOL: Tool =
    Tool { folder: "schemathesis-python", package: "schemathesis==4.32.5", program: "st" };
/// One seed, so that two runs ask the same. Left out are event streams, which have no end, and what
/// would end the session that asks; both have tests of their own.
const CHOICES: [&str; 14] = [
    "--exclude-path-regex=/(events|sign-out)$",
    "--seed=1",
    "--phases=coverage,fuzzing",
    "--max-examples=200",
    "--request-timeout=10",
    "--generation-database=none",
    "--no-color",
    "--checks=not_a_server_error",
    "--checks=status_code_conformance",
    "--checks=content_type_conformance,response_headers_conformance",
    "--checks=response_schema_conformance",
    "--checks=negative_data_rejection",
    "--checks=unsupported_method",
    "--checks=allow_header_conformance",
];
