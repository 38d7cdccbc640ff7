//! The servers that tests need: a URL in the environment, or a private instance.
//!
//! A private instance listens on a free port of the loopback interface, keeps its data below
//! `target/services`, and can be killed, paused and started again for tests of faults.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Subcommand, ValueEnum};

use crate::packages;
use crate::run::{Failure, has, is_root, output, show, target};

/// What can be done with the servers.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Starts what is not running and is not named by the environment.
    Up,
    /// Stops the private instances and deletes their data.
    Down,
    /// Prints the variables that name the servers, for `eval`.
    Env,
    /// Kills a private instance at once, as `kill -9` does.
    Kill {
        /// Which server.
        server: Server,
    },
    /// Stops a private instance in its tracks (SIGSTOP).
    Pause {
        /// Which server.
        server: Server,
    },
    /// Lets a paused instance go on (SIGCONT).
    Resume {
        /// Which server.
        server: Server,
    },
    /// Starts a private instance again on the same port, with its data.
    Restart {
        /// Which server.
        server: Server,
    },
}

/// A kind of server.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// PostgreSQL.
    Postgres,
}

/// A variable and its value.
pub(crate) type Variable = (&'static str, String);

pub(crate) fn run(action: &Action) -> Result<(), Failure> {
    match *action {
        Action::Up => print(up()?),
        Action::Down => down()?,
        Action::Env => print(up()?),
        Action::Kill { server } => signal(server, "KILL")?,
        Action::Pause { server } => signal(server, "STOP")?,
        Action::Resume { server } => signal(server, "CONT")?,
        Action::Restart { server: Server::Postgres } => Postgres::find()?.start()?,
    }
    Ok(())
}

/// Makes sure that every server is there, and answers the variables that name them.
pub(crate) fn up() -> Result<Vec<Variable>, Failure> {
    let url = match std::env::var(POSTGRES_URL) {
        Ok(url) => url,
        Err(_) => {
            let postgres = Postgres::find()?;
            if !postgres.is_running() {
                postgres.start()?;
            }
            format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port()?)
        }
    };
    Ok(vec![(POSTGRES_URL, url)])
}

pub(crate) fn down() -> Result<(), Failure> {
    let postgres = Postgres::find()?;
    if postgres.is_running() {
        signal(Server::Postgres, "KILL")?;
    }
    remove(&postgres.folder)
}

fn print(variables: Vec<Variable>) {
    for (name, value) in variables {
        println!("export {name}='{value}'");
    }
}

fn signal(server: Server, name: &str) -> Result<(), Failure> {
    let Server::Postgres = server;
    let missing = "there is no private instance: run `cargo xtask services up`";
    let pid = Postgres::find()?.pid().ok_or(Failure::new(missing))?;
    // The server first, so that it starts none anew, then the processes that it has started.
    let pids: Vec<_> = std::iter::once(pid.clone()).chain(children(&pid)).collect();
    show(shell(&format!("kill -{name} {}", pids.join(" "))))
}

/// The processes that a process has started, from Linux's `/proc`.
fn children(parent: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.map(|process| process.file_name().to_string_lossy().into_owned());
    pids.filter(|pid| state(pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// The state of a process, and its parent.
fn state(pid: &str) -> Option<(String, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // They follow the name, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
}

/// A private PostgreSQL.
struct Postgres {
    binaries: PathBuf,
    folder: PathBuf,
}

impl Postgres {
    /// Finds the server's programs, installing them where that is possible.
    fn find() -> Result<Self, Failure> {
        let binaries = match Self::binaries() {
            Some(binaries) => binaries,
            None => {
                packages::install(&["postgresql"])?;
                Self::binaries().ok_or(Failure::new("initdb is missing after the installation"))?
            }
        };
        Ok(Self { binaries, folder: folder("postgres") })
    }

    /// The newest of Debian's versions, or what is on the path.
    fn binaries() -> Option<PathBuf> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let folders = versions.map(|version| version.path().join("bin"));
        let newest = folders.filter(|folder| folder.join("initdb").is_file()).max();
        newest.or_else(|| has("initdb").then(PathBuf::new))
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn port(&self) -> Result<String, Failure> {
        std::fs::read_to_string(self.folder.join("port"))
            .map_err(|error| Failure::new(format!("the port of PostgreSQL: {error}")))
    }

    /// The process that its lock file names.
    fn pid(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next().map(str::to_owned)
    }

    fn is_running(&self) -> bool {
        // A killed process that nobody has taken leave of is not running.
        self.pid().and_then(|pid| state(&pid)).is_some_and(|(state, _)| state != "Z")
    }

    /// Starts it, on the port of last time where there was one.
    fn start(&self) -> Result<(), Failure> {
        if !self.data().join("PG_VERSION").exists() {
            remove(&self.folder)?;
            make(&self.folder)?;
            let port = free_port()?.to_string();
            write(&self.folder.join("port"), &port)?;
            let arguments = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"];
            output(&mut self.program("initdb", &arguments))?;
        }
        // After a sudden death the lock file is still there.
        if !self.is_running() {
            let _ = std::fs::remove_file(self.data().join("postmaster.pid"));
        }
        let options = format!(
            "-p {} -k '' -c listen_addresses=127.0.0.1 -c max_connections=300 \
             -c shared_preload_libraries=pg_stat_statements",
            self.port()?
        );
        let log = self.folder.join("log");
        let arguments = ["start", "--wait", "--silent", "--options", &options, "--log"];
        let mut start = self.program("pg_ctl", &arguments);
        start.arg(&log).stdout(Stdio::null());
        show(start).map_err(|failure| {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            Failure::new(format!("{failure}\n{log}"))
        })
    }

    /// A program of the server's; PostgreSQL refuses to run as root.
    fn program(&self, name: &str, arguments: &[&str]) -> Command {
        let program = self.binaries.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg("--pgdata").arg(self.data()).args(arguments).current_dir("/");
        command
    }
}

/// Below `target`, if the server's user can get there; else among the temporary files.
fn folder(server: &str) -> PathBuf {
    let wanted = target().join("services");
    let reachable = !is_root() || {
        let _ = std::fs::create_dir_all(&wanted);
        let mut look = Command::new("runuser");
        look.args(["-u", "postgres", "--", "test", "-x"]).arg(&wanted);
        look.status().is_ok_and(|status| status.success())
    };
    let base = if reachable { wanted } else { std::env::temp_dir().join("session-kit-services") };
    base.join(server)
}

fn make(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    if is_root() {
        let mut own = Command::new("chown");
        own.arg("postgres").arg(folder);
        show(own)?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|error| Failure::new(format!("{}: {error}", file.display())))
}

fn remove(folder: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::new(format!("{}: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| Failure::new(error.to_string()))
}

fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]);
    shell
}

const POSTGRES_URL: &str = "SESSION_KIT_POSTGRES_URL";
