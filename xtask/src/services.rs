//! The servers that tests need: a URL in the environment, or a private instance.
//!
//! A private instance listens on a free port of the loopback interface, keeps its data below
//! `target/services`, and can be killed, paused and started again for tests of faults.

use clap::Subcommand;

use crate::instance::{Instance, Server};
use crate::run::Failure;

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
        Action::Up | Action::Env => print(up(&Server::ALL)?),
        Action::Down => down()?,
        Action::Kill { server } => Instance::find(server)?.signal("KILL")?,
        Action::Pause { server } => Instance::find(server)?.signal("STOP")?,
        Action::Resume { server } => Instance::find(server)?.signal("CONT")?,
        Action::Restart { server } => Instance::find(server)?.start()?,
    }
    Ok(())
}

/// Makes sure that servers are there, and answers the variables that name them.
pub(crate) fn up(servers: &[Server]) -> Result<Vec<Variable>, Failure> {
    let mut variables = Vec::new();
    for server in servers {
        let url = match std::env::var(server.variable()) {
            Ok(url) => url,
            Err(_) => {
                let instance = Instance::find(*server)?;
                if !instance.is_running() {
                    instance.start()?;
                }
                instance.url()?
            }
        };
        variables.push((server.variable(), url));
    }
    Ok(variables)
}

/// Stops the private instances.
pub(crate) fn down() -> Result<(), Failure> {
    for server in Server::ALL {
        let instance = Instance::find(server)?;
        if instance.is_running() {
            instance.signal("KILL")?;
        }
        instance.remove()?;
    }
    Ok(())
}

fn print(variables: Vec<Variable>) {
    for (name, value) in variables {
        println!("export {name}='{value}'");
    }
}
