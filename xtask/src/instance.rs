//! A private instance of a server.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::packages;
use crate::run::{Failure, has, is_root, output, show, target};

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// PostgreSQL.
    Postgres,
    /// MariaDB, for MySQL's protocol.
    Mysql,
}

impl Server {
    pub(crate) const ALL: [Self; 2] = [Self::Postgres, Self::Mysql];

    /// The variable that names a server.
    pub(crate) const fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "SESSION_KIT_POSTGRES_URL",
            Self::Mysql => "SESSION_KIT_MYSQL_URL",
        }
    }

    /// The user that the server runs as where this runs as root, and the folder's name.
    const fn user(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Mysql => "mariadb-server",
        }
    }

    const fn pid_file(self) -> &'static str {
        match self {
            Self::Postgres => "data/postmaster.pid",
            Self::Mysql => "pid",
        }
    }

    /// Where its programs are: on the path, or in Debian's places.
    fn programs(self) -> Option<PathBuf> {
        match self {
            Self::Postgres => {
                let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
                let folders = versions.flatten().map(|version| version.path().join("bin"));
                let newest = folders.filter(|folder| folder.join("initdb").is_file()).max();
                newest.or_else(|| has("initdb").then(PathBuf::new))
            }
            Self::Mysql => {
                let debian = Path::new("/usr/sbin");
                let there = debian.join("mariadbd").is_file();
                there.then(|| debian.to_owned()).or_else(|| has("mariadbd").then(PathBuf::new))
            }
        }
    }
}

/// A private instance: its programs, and its data.
pub(crate) struct Instance {
    server: Server,
    programs: PathBuf,
    folder: PathBuf,
}

impl Instance {
    /// Finds the server's programs, installing them where that is possible.
    pub(crate) fn find(server: Server) -> Result<Self, Failure> {
        let programs = match server.programs() {
            Some(programs) => programs,
            None => {
                packages::install(&[server.package()])?;
                let missing = format!("{} has not brought a server", server.package());
                server.programs().ok_or(Failure::new(missing))?
            }
        };
        Ok(Self { server, programs, folder: folder(server.user()) })
    }

    pub(crate) fn url(&self) -> Result<String, Failure> {
        let port = self.port()?;
        Ok(match self.server {
            Server::Postgres => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Server::Mysql => format!("mysql://root@127.0.0.1:{port}/mysql"),
        })
    }

    pub(crate) fn is_running(&self) -> bool {
        // A killed process that nobody has taken leave of is not running.
        self.pid().and_then(|pid| state(&pid)).is_some_and(|(state, _)| state != "Z")
    }

    /// Starts it, on the port of last time where there was one.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        if !self.folder.join("port").exists() {
            self.remove()?;
            make(&self.folder, self.server.user())?;
            self.initialize()?;
            write(&self.folder.join("port"), &free_port()?.to_string())?;
        }
        // After a sudden death the lock file is still there.
        if !self.is_running() {
            let _ = std::fs::remove_file(self.folder.join(self.server.pid_file()));
        }
        match self.server {
            Server::Postgres => self.start_postgres(),
            Server::Mysql => self.start_mariadb(),
        }
        .map_err(|failure| {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            Failure::new(format!("{failure}\n{log}"))
        })
    }

    /// Signals the server first, so that it starts none anew, then the processes that it has
    /// started.
    pub(crate) fn signal(&self, name: &str) -> Result<(), Failure> {
        let missing = "there is no private instance: run `cargo xtask services up`";
        let pid = self.pid().ok_or(Failure::new(missing))?;
        let pids: Vec<_> = std::iter::once(pid.clone()).chain(children(&pid)).collect();
        let mut kill = Command::new("sh");
        kill.args(["-c", &format!("kill -{name} {}", pids.join(" "))]);
        show(kill)
    }

    /// Deletes its data.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::new(format!("{}: {error}", self.folder.display())))
            }
            _ => Ok(()),
        }
    }

    fn initialize(&self) -> Result<(), Failure> {
        let mut initialize = match self.server {
            Server::Postgres => {
                let mut initdb = self.as_user("initdb");
                initdb.args([
                    "--auth=trust",
                    "--username=postgres",
                    "--encoding=UTF8",
                    "--no-sync",
                ]);
                initdb.arg("--pgdata").arg(self.data());
                initdb
            }
            Server::Mysql => {
                let mut install = Command::new("mariadb-install-db");
                install.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
                install.arg("--skip-test-db").arg(with_path("--datadir=", &self.data()));
                if is_root() {
                    install.arg("--user=mysql");
                }
                install
            }
        };
        output(&mut initialize).map(drop)
    }

    fn start_postgres(&self) -> Result<(), Failure> {
        let options = format!(
            "-p {} -k '' -c listen_addresses=127.0.0.1 -c max_connections=300 \
             -c shared_preload_libraries=pg_stat_statements",
            self.port()?
        );
        let mut start = self.as_user("pg_ctl");
        start.arg("--pgdata").arg(self.data()).args(["start", "--wait", "--silent"]);
        start.args(["--options", &options, "--log"]).arg(self.folder.join("log"));
        start.stdout(Stdio::null());
        show(start)
    }

    fn start_mariadb(&self) -> Result<(), Failure> {
        let port = self.port()?;
        let log = File::create(self.folder.join("log"))
            .map_err(|error| Failure::new(format!("the log of MariaDB: {error}")))?;
        let mut start = Command::new(self.programs.join("mariadbd"));
        start.args(["--no-defaults", "--bind-address=127.0.0.1", "--max-connections=300"]);
        start.arg(format!("--port={port}")).arg(with_path("--datadir=", &self.data()));
        start.arg(with_path("--socket=", &self.folder.join("socket")));
        start.arg(with_path("--pid-file=", &self.folder.join("pid")));
        if is_root() {
            start.arg("--user=mysql");
        }
        start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        start.spawn().map_err(|error| Failure::new(format!("mariadbd: {error}")))?;
        let begun = Instant::now();
        let address = format!("127.0.0.1:{port}");
        while !(self.is_running() && TcpStream::connect(&address).is_ok()) {
            if begun.elapsed() > PATIENCE {
                return Err(Failure::new("mariadbd does not answer"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// A program of the server's, run as its user: PostgreSQL refuses to run as root.
    fn as_user(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", self.server.user(), "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/");
        command
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn port(&self) -> Result<String, Failure> {
        std::fs::read_to_string(self.folder.join("port"))
            .map_err(|error| Failure::new(format!("the port of {:?}: {error}", self.server)))
    }

    /// The process that its lock file names.
    fn pid(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.folder.join(self.server.pid_file())).ok()?;
        text.lines().next().map(|pid| pid.trim().to_owned())
    }
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

/// Below `target`, if the server's user can get there; else among the temporary files.
fn folder(user: &str) -> PathBuf {
    let wanted = target().join("services");
    let reachable = !is_root() || {
        let _ = std::fs::create_dir_all(&wanted);
        let mut look = Command::new("runuser");
        look.args(["-u", user, "--", "test", "-x"]).arg(&wanted);
        look.status().is_ok_and(|status| status.success())
    };
    let base = if reachable { wanted } else { std::env::temp_dir().join("session-kit-services") };
    base.join(user)
}

fn make(folder: &Path, user: &str) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    if is_root() {
        let mut own = Command::new("chown");
        own.arg(user).arg(folder);
        show(own)?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|error| Failure::new(format!("{}: {error}", file.display())))
}

fn with_path(option: &str, path: &Path) -> String {
    format!("{option}{}", path.display())
}

fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(|error| Failure::new(error.to_string()))
}

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
