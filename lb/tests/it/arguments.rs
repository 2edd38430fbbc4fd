//! What `lb` is started with: a fixed fleet, child processes that a test serves, a limit of files.

use std::net::SocketAddr;
use std::process::Command;

use crate::harness::eventually;

/// Child processes that first say which port they got, so that the test can serve it.
pub(crate) struct Stage(tempfile::TempDir);

impl Stage {
    pub(crate) fn new() -> Stage {
        Stage(tempfile::TempDir::new().unwrap())
    }

    /// A command that says its port, and then becomes `then`.
    pub(crate) fn command(&self, then: &str) -> String {
        format!("echo $PORT > {}/$SERVER_ID; {then}", self.0.path().display())
    }

    /// The address at which the replica with this hostname should listen.
    #[track_caller]
    pub(crate) fn address_of(&self, hostname: &str) -> String {
        eventually("the port of the replica", || {
            let port = std::fs::read_to_string(self.0.path().join(hostname)).ok()?;
            Some(format!("127.0.0.1:{}", port.strip_suffix('\n')?))
        })
    }
}

/// The command with a limit of `most` open files.
pub(crate) fn with_files(most: usize, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -n {most}; exec \"$@\""), "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    limited
}

/// The flags for a fixed fleet of these replicas, called a, b, c ...
pub(crate) fn fixed(replicas: &[SocketAddr]) -> Vec<String> {
    let backends =
        ('a'..).zip(replicas).flat_map(|(name, address)| ["--backend".into(), format!("{name}={address}")]);
    ["--provider".to_owned(), "fixed".to_owned()].into_iter().chain(backends).collect()
}

/// Flags as `Lb::start` takes them.
pub(crate) fn flags(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}
