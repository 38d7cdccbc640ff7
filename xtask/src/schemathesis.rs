//! Asks the running demo what the API's description allows, and what it forbids, with schemathesis:
//! no answer may be a failure of the server, nor one that the description lacks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Args;

use crate::python::Tool;
use crate::run::{Failure, cargo, root, show, target};

/// Which demo is asked.
#[derive(Args)]
pub(crate) struct Options {
    /// Asks the demo that was built last.
    #[arg(long)]
    built: bool,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    if !options.built {
        show(cargo(["build", "--locked", "--package", "session-demo"]))?;
    }
    if !TOOL.is_there() {
        TOOL.install()?;
    }
    let folder = empty_folder()?;
    let demo = Demo::start(&folder)?;
    let cookie = demo.sign_in(USER)?;
    let mut ask = Command::new(TOOL.programs().join(TOOL.program));
    ask.arg("run").arg(root().join("adapters/http/openapi.json"));
    ask.args(["--url", &format!("http://{}/sessions", demo.address)]);
    ask.args(["--header", &format!("Cookie: {cookie}")]);
    ask.args(["--header", "Sec-Fetch-Site: same-origin"]).args(CHOICES);
    ask.env("SCHEMATHESIS_HOOKS", "schemathesis_hooks");
    ask.env("PYTHONPATH", root().join("xtask/src")).env("PYTHONDONTWRITEBYTECODE", "1");
    ask.env("SESSION_KIT_OWN_USER", USER).env("SESSION_KIT_OWN_SESSION", demo.session(&cookie)?);
    ask.current_dir(&folder).stdin(Stdio::null());
    show(ask)?;
    // Without its session nearly every answer was 401, which the description allows.
    demo.session(&cookie).map(|_| ())
}

/// A demo with a file of its own, until it is dropped.
struct Demo {
    process: Child,
    address: String,
}

impl Demo {
    fn start(folder: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("session-demo: {error}"));
        let mut demo = Command::new(target().join("debug/session-demo"));
        demo.args(["--addr", "127.0.0.1:0", "--db"]).arg(folder.join("sessions.db"));
        demo.env("RUST_LOG", "error").stdout(Stdio::piped());
        let mut demo = Self { process: demo.spawn().map_err(failed)?, address: String::new() };
        let mut line = String::new();
        if let Some(out) = demo.process.stdout.take() {
            BufReader::new(out).read_line(&mut line).map_err(failed)?;
        }
        let address = line.split_once("http://").and_then(|(_, rest)| rest.split_once(','));
        let (address, _) =
            address.ok_or_else(|| Failure::new(format!("session-demo says {line:?}")))?;
        address.clone_into(&mut demo.address);
        Ok(demo)
    }

    /// The cookie of a new session, as a browser sends it back.
    fn sign_in(&self, user: &str) -> Result<String, Failure> {
        let form = format!("user={user}&password={user}");
        let kind = "Content-Type: application/x-www-form-urlencoded";
        let answer = self.ask("POST /login", &["Sec-Fetch-Site: same-origin", kind], &form)?;
        let cookie = answer.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let cookie = value.split(';').next()?.trim();
            name.eq_ignore_ascii_case("set-cookie").then(|| cookie.to_owned())
        });
        cookie.ok_or_else(|| unexpected("signing in", &answer))
    }

    /// The id of the session that a cookie stands for.
    fn session(&self, cookie: &str) -> Result<String, Failure> {
        let answer = self.ask("GET /sessions/me", &[&format!("Cookie: {cookie}")], "")?;
        let id = answer.split_once("\"session_id\":\"").and_then(|(_, rest)| rest.split_once('"'));
        id.map(|(id, _)| id.to_owned())
            .ok_or_else(|| unexpected("asking whose session it is", &answer))
    }

    /// One request on a connection of its own; the whole answer.
    fn ask(&self, call: &str, headers: &[&str], body: &str) -> Result<String, Failure> {
        let head = headers.iter().map(|header| format!("{header}\r\n")).collect::<String>();
        let request = format!(
            "{call} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{head}Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let exchange = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(&self.address)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        exchange().map_err(|error| Failure::new(format!("{call} on {}: {error}", self.address)))
    }
}

fn unexpected(what: &str, answer: &str) -> Failure {
    let status = answer.lines().next().unwrap_or_default();
    Failure::new(format!("{what}: the demo answers {status:?}"))
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn empty_folder() -> Result<PathBuf, Failure> {
    let folder = target().join("schemathesis");
    // There may be none.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    Ok(folder)
}

const TOOL: Tool =
    Tool { folder: "schemathesis-python", package: "schemathesis==4.32.5", program: "st" };
/// Who asks: the demo's admin.
const USER: &str = "root";
/// One seed, so that two runs ask the same. Left out are event streams, which have no end, and what
/// would end the session that asks; both have tests of their own.
const CHOICES: [&str; 14] = [
    "--exclude-path-regex=/(events|sign-out)$",
    "--seed=1",
    "--phases=coverage,fuzzing",
    "--max-examples=400",
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
