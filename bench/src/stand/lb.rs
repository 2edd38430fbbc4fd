//! An `lb` of one's own, on free ports.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use super::{Program, sibling};

/// How long it may take until all replicas are in rotation.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the replicas of an `lb` come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Provider {
    /// Child processes of lb
    Process,
    /// Containers; the image has to be there
    Docker,
}

/// A running `lb` with its replicas, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Lb {
    /// Where it takes connections.
    pub(crate) data: SocketAddr,
    /// Where it takes commands.
    pub(crate) control: SocketAddr,
    program: Program,
}

impl Lb {
    /// Starts `lb serve` with these flags on free ports, and waits until all its replicas are in rotation.
    ///
    /// # Errors
    /// It is not built, or does not get there; says what it said last.
    pub(crate) async fn start(flags: &[String], core: Option<usize>) -> anyhow::Result<Self> {
        let lb = Lb::launch(flags, core).await?;
        lb.program.says(" ready data=", PATIENCE).await?;
        Ok(lb)
    }

    /// The same, without waiting for its replicas.
    ///
    /// # Errors
    /// It is not built, or cannot listen; says what it said last.
    pub(crate) async fn launch(flags: &[String], core: Option<usize>) -> anyhow::Result<Self> {
        let mut command = Command::new(sibling("lb")?);
        command.args(["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
        command.args(["--drain-timeout", "1s"]).args(flags);
        let program = Program::start(&command, core)?;
        let line = program.says("listening data=", PATIENCE).await?;
        let address = |name| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            word.and_then(|word| word.parse().ok()).with_context(|| format!("lb says no address: {line}"))
        };
        Ok(Lb { data: address("data=")?, control: address("control=")?, program })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }
}
