//! Running other programs.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a task ended early.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs this, in the workspace.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs it with its output on ours.
pub(crate) fn show(mut command: Command) -> Result<(), Failure> {
    let status = command.status().map_err(|error| started(&command, &error))?;
    if status.success() { Ok(()) } else { Err(Failure(format!("{} failed", shown(&command)))) }
}

/// Runs it with all of its output on our standard error: what we print is for other programs.
pub(crate) fn show_aside(mut command: Command) -> Result<(), Failure> {
    command.stdout(std::io::stderr());
    show(command)
}

/// Runs it and hands every line of its output to `hear`, besides showing it.
pub(crate) fn hear(mut command: Command, mut hear: impl FnMut(&str)) -> Result<(), Failure> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|error| started(&command, &error))?;
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
        let line = line.map_err(|error| started(&command, &error))?;
        println!("{line}");
        hear(&line);
    }
    let status = child.wait().map_err(|error| started(&command, &error))?;
    if status.success() { Ok(()) } else { Err(Failure(format!("{} failed", shown(&command)))) }
}

/// Runs it and answers its output.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|error| started(command, &error))?;
    if !output.status.success() {
        return Err(Failure(format!("{} failed", shown(command))));
    }
    String::from_utf8(output.stdout).map_err(|error| Failure(error.to_string()))
}

/// Goes on as that program, so that signals reach it.
#[cfg(unix)]
pub(crate) fn become_it(mut command: Command) -> Result<(), Failure> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(started(&command, &error))
}

/// Waits for that program.
#[cfg(not(unix))]
pub(crate) fn become_it(command: Command) -> Result<(), Failure> {
    show(command)
}

/// Whether a program can be found.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether this runs as root.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn started(command: &Command, error: &std::io::Error) -> Failure {
    Failure(format!("{}: {error}", shown(command)))
}

fn shown(command: &Command) -> String {
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}
