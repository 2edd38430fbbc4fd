//! What a container of a fleet gets, whichever engine runs it: its environment, its capabilities, and what its labels must not say.

use std::fmt;
use std::time::Duration;

use proto::control::Hostname;

/// How long a container may take to end after its stop signal before it is killed.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// An image that Compose has built carries Compose's labels. A container that inherited them would look like one of Compose's.
const NOT_COMPOSES: [&str; 2] = ["com.docker.compose.project", "com.docker.compose.service"];

/// How the containers of a fleet are made, whichever engine runs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// The address of the engine, as in `DOCKER_HOST`; `None` for the local one.
    pub host: Option<String>,
    /// The image that they run.
    pub image: String,
    /// The network in which they have their addresses.
    pub network: String,
    /// The name of the fleet; it is the value of their label `lb.fleet`.
    pub fleet: String,
    /// The port on which they listen.
    pub port: u16,
    /// The memory that each may use, in bytes.
    pub memory: Option<i64>,
    /// The number of processes and threads that each may have; -1 for any.
    pub pids: i64,
    /// What their processes may do beyond what an unprivileged user may.
    pub capabilities: Capabilities,
    /// What their environment has beside the hostname and the port.
    pub environment: Vec<Variable>,
}

/// A variable of the environment. Its value may be a secret, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=...", self.name)
    }
}

/// The capabilities of a container (capabilities(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capabilities {
    /// Those that the engine gives to every container, without `NET_RAW`.
    Usual,
    /// These, named without `CAP_`, and no others.
    Only(Vec<String>),
}

impl Capabilities {
    /// Those that are taken from what the engine gives to every container, and those that are given then.
    pub(super) fn taken_and_given(&self) -> (Vec<String>, Vec<String>) {
        match self {
            Capabilities::Usual => (vec!["NET_RAW".to_owned()], Vec::new()),
            Capabilities::Only(names) => (vec!["ALL".to_owned()], names.clone()),
        }
    }
}

/// How a replica learns its hostname, the port on which it has to listen, and where it takes connections over.
pub(crate) const RESERVED: [&str; 3] = [SERVER_ID, PORT, handoff::VARIABLE];
const SERVER_ID: &str = "SERVER_ID";
const PORT: &str = "PORT";

/// The environment of a replica.
pub(super) fn environment(common: &Common, hostname: &Hostname) -> impl Iterator<Item = String> {
    let own = [format!("{SERVER_ID}={hostname}"), format!("{PORT}={}", common.port)];
    let given = common.environment.iter().map(|Variable { name, value }| format!("{name}={value}"));
    own.into_iter().chain(given)
}

/// Labels that hide those of Compose.
pub(super) fn not_composes() -> impl Iterator<Item = (String, String)> {
    NOT_COMPOSES.into_iter().map(|name| (name.to_owned(), String::new()))
}

/// What tests of several modules need.
#[cfg(test)]
pub(super) mod testing {
    use super::{Capabilities, Common};

    /// Containers of the fleet `fleet` with what every flag is without being given.
    pub(in crate::provider::engine) fn common() -> Common {
        Common {
            host: None,
            image: "image".to_owned(),
            network: "net".to_owned(),
            fleet: "fleet".to_owned(),
            port: 5000,
            memory: None,
            pids: 2048,
            capabilities: Capabilities::Usual,
            environment: Vec::new(),
        }
    }
}
