//! A probe that runs a command of the user. Its exit status decides.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use super::{Asked, Deadline};
use crate::net::Endpoint;
use crate::provider::process::errand::Errand;
use crate::provider::process::reaper::Children;

/// How many commands run at a time. A probe that finds no place until its deadline says nothing about its replica.
const AT_A_TIME: usize = 16;
/// Open files of all commands: of each its input, its output, and what tells of its end.
pub(super) const FILES: usize = 3 * AT_A_TIME;

/// Runs the commands of all replicas.
#[derive(Clone, Debug)]
pub(crate) struct Runner {
    children: Children,
    places: Arc<Semaphore>,
}

impl Runner {
    /// The commands are noted among `children`.
    pub(crate) fn new(children: Children) -> Self {
        Runner { children, places: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    /// Runs the command. It and all that it has started are killed at the deadline.
    pub(super) async fn ask(&self, command: &str, asked: Asked<'_>, deadline: Deadline) -> io::Result<()> {
        let place = timeout_at(deadline.at, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(Errno::AGAIN.into()) };
        let Asked { address, hostname, slot, .. } = asked;
        let (host, port) = match address {
            Endpoint::Tcp(address) => (address.ip().to_string(), address.port()),
            // What has no port is told as 0.
            Endpoint::Unix(path) => (format!("unix:{}", path.display()), 0),
        };
        let variables = [
            ("LB_HOST", host),
            ("LB_PORT", port.to_string()),
            ("LB_HOSTNAME", hostname.to_owned()),
            ("LB_SLOT", slot.unwrap_or_default().to_owned()),
        ];
        // The time in which it waited for a place is not its own.
        let deadline = Deadline::after(deadline.limit);
        let errand = Errand::begin(command, port, &variables, &self.children)?;
        let (status, line) = deadline.bound(errand.end()).await?;
        if status.success() { Ok(()) } else { Err(io::Error::other(reason(status, &line))) }
    }
}

fn reason(status: ExitStatus, line: &str) -> String {
    let end = match (status.code(), status.signal()) {
        (Some(code), _) => format!("the command exits with {code}"),
        (None, signal) => format!("the command is killed by signal {}", signal.unwrap_or_default()),
    };
    if line.is_empty() { end } else { format!("{end}: {line}") }
}
