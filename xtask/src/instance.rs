//! A private instance of a server: one process, or the six of a cluster.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::mongo;
use crate::run::{Failure, has, is_root, output, show, target};
use crate::server::Server;

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
                server.install()?;
                let missing = format!("{} has not brought a server", server.packages().join(", "));
                server.programs().ok_or(Failure::new(missing))?
            }
        };
        Ok(Self { server, programs, folder: folder(server) })
    }

    /// What there is of it: for stopping it, which needs no programs.
    pub(crate) fn left(server: Server) -> Self {
        Self { server, programs: PathBuf::new(), folder: folder(server) }
    }

    /// What stands in the server's variable.
    pub(crate) fn url(&self) -> Result<String, Failure> {
        let host = |n| Ok(format!("127.0.0.1:{}", self.port(n)?));
        let hosts = (0..self.server.processes()).map(host).collect::<Result<Vec<_>, Failure>>()?;
        let hosts = hosts.join(",");
        Ok(match self.server {
            Server::Postgres => format!("postgres://postgres@{hosts}/postgres"),
            Server::Mysql => format!("mysql://root@{hosts}/mysql"),
            Server::Redis => format!("redis://{hosts}"),
            Server::RedisCluster => format!("redis-cluster://{hosts}"),
            Server::Mongodb | Server::MongodbBeside => {
                format!("mongodb://{hosts}/?directConnection=true")
            }
        })
    }

    /// Whether all of its processes run.
    pub(crate) fn is_running(&self) -> bool {
        (0..self.server.processes()).all(|n| self.runs(n))
    }

    fn runs(&self, n: usize) -> bool {
        self.pid(n).is_some_and(|pid| is_alive(&pid))
    }

    /// Starts what does not run of it, on the ports of last time where there were any.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let is_new = !self.part(self.server.processes() - 1).join("port").exists();
        if is_new {
            self.remove()?;
            for n in 0..self.server.processes() {
                make(&self.part(n), self.server.user())?;
            }
            self.initialize()?;
            for n in 0..self.server.processes() {
                write(&self.part(n).join("port"), &free_port()?.to_string())?;
            }
        }
        let begun = (0..self.server.processes()).filter(|n| !self.runs(*n)).try_for_each(|n| {
            // After a sudden death the lock files are still there.
            for lock in [self.server.pid_file(), "socket.lock"] {
                let _ = std::fs::remove_file(self.part(n).join(lock));
            }
            match self.server {
                Server::Postgres => self.start_postgres(),
                Server::Mysql => self.start_mysql(),
                Server::Redis | Server::RedisCluster => self.start_redis(n),
                Server::Mongodb | Server::MongodbBeside => self.start_mongo(),
            }
            .map_err(|failure| {
                let log = std::fs::read_to_string(self.part(n).join("log")).unwrap_or_default();
                Failure::new(format!("{failure}\n{log}"))
            })
        });
        begun?;
        if self.server == Server::RedisCluster { self.join_cluster(is_new) } else { Ok(()) }
    }

    /// Signals a server first, so that it starts none anew, then the processes that it has
    /// started.
    pub(crate) fn signal(&self, name: &str) -> Result<(), Failure> {
        let running = (0..self.server.processes()).filter(|n| self.runs(*n));
        let pids: Vec<_> = running.filter_map(|n| self.pid(n)).collect();
        if pids.is_empty() {
            let missing = "there is no private instance: run `cargo xtask services up`";
            return Err(Failure::new(missing));
        }
        let mut all = pids.clone();
        all.extend(pids.iter().flat_map(|pid| children(pid)));
        let mut kill = Command::new("sh");
        kill.args(["-c", &format!("kill -{name} {}", all.join(" "))]);
        show(kill)?;
        if name == "KILL" {
            let alive = || (0..self.server.processes()).any(|n| self.runs(n));
            wait(&format!("{:?} does not die", self.server), || !alive())?;
        }
        Ok(())
    }

    /// Stops what runs of it and deletes its data.
    pub(crate) fn down(&self) -> Result<(), Failure> {
        if (0..self.server.processes()).any(|n| self.runs(n)) {
            self.signal("KILL")?;
        }
        self.remove()
    }

    fn remove(&self) -> Result<(), Failure> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::new(format!("{}: {error}", self.folder.display())))
            }
            _ => Ok(()),
        }
    }

    /// The folder of one of its processes.
    fn part(&self, n: usize) -> PathBuf {
        if self.server.processes() > 1 {
            self.folder.join(n.to_string())
        } else {
            self.folder.clone()
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
                let mut install = if self.is_mysql() {
                    let mut install = Command::new(self.programs.join("mysqld"));
                    install.args(["--no-defaults", "--initialize-insecure"]);
                    install
                } else {
                    let mut install = Command::new("mariadb-install-db");
                    install.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
                    install.arg("--skip-test-db");
                    install
                };
                install.arg(with_path("--datadir=", &self.data()));
                if is_root() {
                    install.arg("--user=mysql");
                }
                install
            }
            _ => return Ok(()),
        };
        output(&mut initialize).map(drop)
    }

    fn start_postgres(&self) -> Result<(), Failure> {
        // What is acknowledged has been handed to the operating system, which nothing here kills.
        let options = format!(
            "-p {} -k '' -c listen_addresses=127.0.0.1 -c max_connections=300 -c fsync=off \
             -c shared_preload_libraries=pg_stat_statements -c pg_stat_statements.max=50000",
            self.port(0)?
        );
        let mut start = self.as_user("pg_ctl");
        start.arg("--pgdata").arg(self.data());
        start.args(["start", "--wait", "--silent", "--timeout", &PATIENCE.as_secs().to_string()]);
        start.args(["--options", &options, "--log"]).arg(self.folder.join("log"));
        start.stdout(Stdio::null());
        show(start)
    }

    /// Whether what is there for MySQL's protocol is MySQL itself.
    fn is_mysql(&self) -> bool {
        !self.programs.join("mariadbd").is_file() && !has("mariadbd")
    }

    fn start_mysql(&self) -> Result<(), Failure> {
        let program = if self.is_mysql() { "mysqld" } else { "mariadbd" };
        let mut start = Command::new(self.programs.join(program));
        start.args(["--no-defaults", "--bind-address=127.0.0.1", "--max-connections=300"]);
        start.arg("--innodb-flush-method=nosync");
        start.arg(format!("--port={}", self.port(0)?));
        start.arg(with_path("--datadir=", &self.data()));
        start.arg(with_path("--socket=", &self.folder.join("socket")));
        start.arg(with_path("--pid-file=", &self.folder.join("pid")));
        if self.is_mysql() {
            start.arg("--mysqlx=OFF");
        }
        if is_root() {
            start.arg("--user=mysql");
        }
        self.spawn(0, start).map(drop)
    }

    fn start_redis(&self, n: usize) -> Result<(), Failure> {
        let mut start = Command::new(self.programs.join("redis-server"));
        start.args(["--port", &self.port(n)?, "--bind", "127.0.0.1", "--dir"]).arg(self.part(n));
        start.args(["--save", "", "--appendonly", "yes", "--pidfile"]);
        start.arg(self.part(n).join("pid"));
        if self.server == Server::RedisCluster {
            start.args(["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"]);
            let bus = self.part(n).join("bus");
            if !bus.exists() {
                write(&bus, &free_port()?.to_string())?;
            }
            let bus = std::fs::read_to_string(&bus);
            let bus = bus.map_err(|error| Failure::new(format!("the bus: {error}")))?;
            start.args(["--cluster-port", &bus]);
        }
        self.spawn(n, start).map(drop)
    }

    /// Makes a cluster of its servers, and waits until they agree that it is one.
    fn join_cluster(&self, is_new: bool) -> Result<(), Failure> {
        let ports = (0..self.server.processes()).map(|n| self.port(n));
        let ports = ports.collect::<Result<Vec<_>, _>>()?;
        if is_new {
            let mut create = Command::new("redis-cli");
            create.args(["--cluster", "create", "--cluster-replicas", "1", "--cluster-yes"]);
            create.args(ports.iter().map(|port| format!("127.0.0.1:{port}")));
            output(&mut create)?;
        }
        wait("the cluster does not come together", || ports.iter().all(|port| agrees(port)))
    }

    /// Lets a paused server go on. Those of a cluster then take one another for dead for a while.
    pub(crate) fn resume(&self) -> Result<(), Failure> {
        self.signal("CONT")?;
        if self.server != Server::RedisCluster {
            return Ok(());
        }
        let ports = (0..self.server.processes()).map(|n| self.port(n));
        let ports = ports.collect::<Result<Vec<_>, _>>()?;
        let mut since = Instant::now();
        wait("the cluster does not come together", || {
            if !ports.iter().all(|port| agrees(port)) {
                since = Instant::now();
            }
            since.elapsed() > SETTLED
        })
    }

    fn start_mongo(&self) -> Result<(), Failure> {
        let start = mongo::start(&self.programs, &self.port(0)?, &self.data())?;
        let pid = self.spawn(0, start)?;
        write(&self.folder.join("pid"), &pid.to_string())
    }

    /// Starts a server that stays in the foreground, and waits until it answers.
    fn spawn(&self, n: usize, mut start: Command) -> Result<u32, Failure> {
        let name = format!("{:?}", self.server);
        let log = File::create(self.part(n).join("log"));
        let log = log.and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) =
            log.map_err(|error| Failure::new(format!("the log of {name}: {error}")))?;
        start.stdin(Stdio::null()).stdout(out).stderr(err);
        let mut child = start.spawn().map_err(|error| Failure::new(format!("{name}: {error}")))?;
        let address = format!("127.0.0.1:{}", self.port(n)?);
        wait(&format!("{name} does not answer"), || {
            TcpStream::connect(&address).is_ok() || matches!(child.try_wait(), Ok(Some(_)))
        })?;
        match child.try_wait() {
            Ok(None) => Ok(child.id()),
            _ => Err(Failure::new(format!("{name} has ended"))),
        }
    }

    /// A program of the server's, run as its user: PostgreSQL refuses to run as root.
    fn as_user(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", self.server.user().unwrap_or("root"), "--"]).arg(program);
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

    fn port(&self, n: usize) -> Result<String, Failure> {
        std::fs::read_to_string(self.part(n).join("port"))
            .map_err(|error| Failure::new(format!("the port of {:?}: {error}", self.server)))
    }

    /// The process that its lock file names.
    fn pid(&self, n: usize) -> Option<String> {
        let text = std::fs::read_to_string(self.part(n).join(self.server.pid_file())).ok()?;
        text.lines().next().map(|pid| pid.trim().to_owned())
    }
}

/// Whether the server of a cluster on this port finds all others in order.
fn agrees(port: &str) -> bool {
    let ask = |question: &[&str]| {
        let mut ask = Command::new("redis-cli");
        output(ask.args(["-p", port]).args(question)).unwrap_or_default()
    };
    let (state, nodes) = (ask(&["cluster", "info"]), ask(&["cluster", "nodes"]));
    state.contains("cluster_state:ok")
        && !nodes.contains("fail")
        && nodes.matches("slave").count() == Server::RedisCluster.processes() / 2
        && !ask(&["info", "replication"]).contains("master_link_status:down")
}

/// The processes that a process has started, from Linux's `/proc`.
fn children(parent: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.map(|process| process.file_name().to_string_lossy().into_owned());
    pids.filter(|pid| state(pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// A killed process that nobody has taken leave of is dead, but not before its last thread is: until
/// then it holds its files.
fn is_alive(pid: &str) -> bool {
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    state(pid).is_some_and(|(state, _)| state != "Z" || threads() > 1)
}

/// The state of a process, and its parent.
fn state(pid: &str) -> Option<(String, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // They follow the name, which may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
}

/// Below `target`, if the server's user can get there; else among the temporary files.
fn folder(server: Server) -> PathBuf {
    let wanted = target().join("services");
    let reachable = server.user().filter(|_| is_root()).is_none_or(|user| {
        let _ = std::fs::create_dir_all(&wanted);
        let mut look = Command::new("runuser");
        look.args(["-u", user, "--", "test", "-x"]).arg(&wanted);
        look.status().is_ok_and(|status| status.success())
    });
    let base = if reachable { wanted } else { std::env::temp_dir().join("session-kit-services") };
    base.join(server.folder())
}

/// Waits until something holds.
pub(crate) fn wait(otherwise: &str, mut holds: impl FnMut() -> bool) -> Result<(), Failure> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > PATIENCE {
            return Err(Failure::new(otherwise));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn make(folder: &Path, user: Option<&str>) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    if let Some(user) = user.filter(|_| is_root()) {
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

/// A port that nobody listens on, and that this process has not given to a server that is still to start.
pub(crate) fn free_port() -> Result<u16, Failure> {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = listener.map_err(|error| Failure::new(error.to_string()))?.port();
        if !given.contains(&port) {
            given.push(port);
            return Ok(port);
        }
    }
}

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a cluster that was paused has to be in order: its servers ping one another every second.
const SETTLED: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);
