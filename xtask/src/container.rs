//! A server in a container, where its programs cannot be had and there is a Docker engine.

use std::process::{Command, Stdio};

use crate::instance::{free_port, wait};
use crate::run::{Failure, has, output, show_aside};
use crate::server::Server;

/// A container of its own, named after its server.
pub(crate) struct Container {
    image: &'static Image,
    name: String,
}

/// What a server is run from.
struct Image {
    name: &'static str,
    port: u16,
    environment: &'static [&'static str],
    arguments: &'static [&'static str],
    /// Succeeds as soon as the server answers.
    ready: &'static [&'static str],
    /// Run once, after that.
    prepare: &'static [&'static str],
    /// What is before and after the port in its URL.
    url: [&'static str; 2],
}

const POSTGRES: Image = Image {
    name: "postgres:15",
    port: 5432,
    environment: &["POSTGRES_HOST_AUTH_METHOD=trust"],
    arguments: &[
        "-c",
        "max_connections=300",
        "-c",
        "shared_preload_libraries=pg_stat_statements",
        "-c",
        "pg_stat_statements.max=50000",
    ],
    // Not over its socket, which answers while the image still sets itself up.
    ready: &["pg_isready", "--host", "127.0.0.1", "--username", "postgres"],
    prepare: &[],
    url: ["postgres://postgres@127.0.0.1:", "/postgres"],
};
const MARIADB: Image = Image {
    name: "mariadb:10.11",
    port: 3306,
    environment: &["MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1"],
    arguments: &["--max-connections=300"],
    ready: &["mariadb-admin", "--host=127.0.0.1", "--user=root", "ping"],
    prepare: &[],
    url: ["mysql://root@127.0.0.1:", "/mysql"],
};
const REDIS: Image = Image {
    name: "redis:7",
    port: 6379,
    environment: &[],
    arguments: &["redis-server", "--save", "", "--appendonly", "yes"],
    ready: &["redis-cli", "ping"],
    prepare: &[],
    url: ["redis://127.0.0.1:", ""],
};
const MONGODB: Image = Image {
    name: "mongo:8",
    port: 27017,
    environment: &[],
    arguments: &["--replSet", "rs0", "--bind_ip_all"],
    ready: &["mongosh", "--quiet", "--eval", "db.runCommand('ping').ok"],
    prepare: &[
        "mongosh",
        "--quiet",
        "--eval",
        "rs.initiate({_id: 'rs0', members: [{_id: 0, host: '127.0.0.1:27017'}]})",
    ],
    url: ["mongodb://127.0.0.1:", "/?directConnection=true"],
};

impl Container {
    /// The container of a server, if there is an engine to run it. The servers of a cluster tell
    /// their clients addresses, which are not those that a container is reached by.
    pub(crate) fn of(server: Server) -> Option<Self> {
        let image = match server {
            Server::Postgres => &POSTGRES,
            Server::Mysql => &MARIADB,
            Server::Redis => &REDIS,
            Server::Mongodb | Server::MongodbBeside => &MONGODB,
            Server::RedisCluster => return None,
        };
        let engine = has("docker") && quietly(docker(&["info"]));
        engine.then(|| Self { image, name: format!("session-kit-{}", server.folder()) })
    }

    pub(crate) fn url(&self) -> Result<String, Failure> {
        let port = format!("{}/tcp", self.image.port);
        let published = output(&mut docker(&["port", &self.name, &port]))?;
        let port = published.lines().next().and_then(|line| line.trim().rsplit(':').next());
        let port = port.ok_or(Failure::new(format!("{} has no port", self.name)))?;
        Ok(self.image.url.join(port))
    }

    pub(crate) fn is_running(&self) -> bool {
        let mut inspect = docker(&["inspect", "--format", "{{.State.Running}}", &self.name]);
        let answer = inspect.stderr(Stdio::null()).output();
        answer.is_ok_and(|answer| answer.stdout.starts_with(b"true"))
    }

    /// Starts it, with the port and the data of last time where there was one.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        let is_new = !quietly(docker(&["inspect", &self.name]));
        if is_new {
            show_aside(self.run_command(free_port()?))?;
        } else {
            show_aside(docker(&["start", &self.name]))?;
        }
        wait(&format!("{} does not answer", self.name), || {
            quietly(docker(&[&["exec", self.name.as_str()], self.image.ready].concat()))
        })?;
        if is_new && !self.image.prepare.is_empty() {
            show_aside(docker(&[&["exec", self.name.as_str()], self.image.prepare].concat()))?;
        }
        Ok(())
    }

    fn run_command(&self, port: u16) -> Command {
        let publish = format!("127.0.0.1:{port}:{}", self.image.port);
        let mut run = docker(&["run", "--detach", "--name", &self.name, "--publish", &publish]);
        self.image.environment.iter().for_each(|value| {
            run.args(["--env", value]);
        });
        run.arg(self.image.name).args(self.image.arguments);
        run
    }

    /// The engine's words for a signal.
    pub(crate) fn signal(&self, name: &str) -> Result<(), Failure> {
        let action = match name {
            "STOP" => "pause",
            "CONT" => "unpause",
            _ => "kill",
        };
        show_aside(docker(&[action, &self.name]))
    }

    /// Stops it and deletes its data.
    pub(crate) fn down(&self) -> Result<(), Failure> {
        if quietly(docker(&["inspect", &self.name])) {
            show_aside(docker(&["rm", "--force", "--volumes", &self.name]))?;
        }
        Ok(())
    }
}

fn docker(arguments: &[&str]) -> Command {
    let mut docker = Command::new("docker");
    docker.args(arguments);
    docker
}

fn quietly(mut command: Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_reached_on_the_loopback_interface_only() {
        let container = Container { image: &POSTGRES, name: "session-kit-postgres".to_owned() };
        let run = container.run_command(4711);
        let arguments: Vec<_> = run.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        let expected = "run --detach --name session-kit-postgres --publish 127.0.0.1:4711:5432 \
            --env POSTGRES_HOST_AUTH_METHOD=trust postgres:15 -c max_connections=300 \
            -c shared_preload_libraries=pg_stat_statements -c pg_stat_statements.max=50000";
        assert_eq!(arguments.join(" "), expected);
    }
}
