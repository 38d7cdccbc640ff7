//! The servers that tests need: a URL in the environment, or a private instance, on this machine or
//! in a container.
//!
//! A private instance listens on a free port of the loopback interface, keeps its data below
//! `target/services`, and can be killed, paused and started again for tests of faults.

use std::process::Command;

use clap::Subcommand;

use crate::container::Container;
use crate::instance::Instance;
use crate::run::Failure;
use crate::server::Server;

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

/// A variable and its value.
pub(crate) type Variable = (&'static str, String);

pub(crate) fn run(action: &Action) -> Result<(), Failure> {
    match *action {
        Action::Up | Action::Env => print(&up(&Server::ALL)?.variables),
        Action::Down => down(&Server::ALL)?,
        Action::Kill { server } => Place::find(server)?.signal("KILL")?,
        Action::Pause { server } => Place::find(server)?.signal("STOP")?,
        Action::Resume { server } => Place::find(server)?.resume()?,
        Action::Restart { server } => Place::find(server)?.start()?,
    }
    Ok(())
}

/// Where a private server is run.
enum Place {
    Machine(Instance),
    Container(Container),
}

impl Place {
    /// On this machine, with programs that are there or can be installed; else in a container.
    fn find(server: Server) -> Result<Self, Failure> {
        match Instance::find(server) {
            Ok(instance) => Ok(Self::Machine(instance)),
            Err(failure) => Container::of(server).map(Self::Container).ok_or(failure),
        }
    }

    fn url(&self) -> Result<String, Failure> {
        match self {
            Self::Machine(instance) => instance.url(),
            Self::Container(container) => container.url(),
        }
    }

    fn is_running(&self) -> bool {
        match self {
            Self::Machine(instance) => instance.is_running(),
            Self::Container(container) => container.is_running(),
        }
    }

    fn start(&self) -> Result<(), Failure> {
        match self {
            Self::Machine(instance) => instance.start(),
            Self::Container(container) => container.start(),
        }
    }

    fn resume(&self) -> Result<(), Failure> {
        match self {
            Self::Machine(instance) => instance.resume(),
            Self::Container(container) => container.signal("CONT"),
        }
    }

    fn signal(&self, name: &str) -> Result<(), Failure> {
        match self {
            Self::Machine(instance) => instance.signal(name),
            Self::Container(container) => container.signal(name),
        }
    }
}

/// Servers that are there.
#[derive(Default)]
pub(crate) struct Servers {
    /// What names them.
    pub(crate) variables: Vec<Variable>,
    /// Those of them that are private instances.
    pub(crate) private: Vec<Server>,
    /// Those of them that this call has started.
    started: Vec<Server>,
}

impl Servers {
    /// For tests that need none.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// What names a server, if it is there.
    pub(crate) fn url(&self, server: Server) -> Option<&str> {
        let named = self.variables.iter().find(|(name, _)| *name == server.variable());
        named.map(|(_, url)| url.as_str())
    }

    /// Tells a program where the servers are, and what kills them.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.envs(self.variables.iter().map(|(name, url)| (name, url)));
        if let Ok(program) = std::env::current_exe() {
            command.env("SESSION_KIT_XTASK", program);
        }
    }
}

/// Makes sure that servers are there.
pub(crate) fn up(servers: &[Server]) -> Result<Servers, Failure> {
    let mut there = Servers::none();
    for server in servers {
        let url = match std::env::var(server.variable()) {
            Ok(url) => url,
            Err(_) => {
                let instance = Place::find(*server)?;
                there.private.push(*server);
                if !instance.is_running() {
                    there.started.push(*server);
                    instance.start()?;
                }
                instance.url()?
            }
        };
        there.variables.push((server.variable(), url));
    }
    Ok(there)
}

/// Runs something with servers, and stops those that it started for it, however it ends.
pub(crate) fn with<T>(
    servers: &[Server],
    run: impl FnOnce(&Servers) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let servers = up(servers)?;
    let result = run(&servers);
    down(&servers.started)?;
    result
}

/// Stops private instances and deletes their data.
fn down(servers: &[Server]) -> Result<(), Failure> {
    servers.iter().try_for_each(|server| {
        Instance::left(*server).down()?;
        Container::of(*server).map_or(Ok(()), |container| container.down())
    })
}

fn print(variables: &[Variable]) {
    for (name, value) in variables {
        println!("export {name}='{value}'");
    }
}
