//! Starts an `lb` on free ports.

use std::io;
use std::net::SocketAddr;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use super::{Place, Program, sibling};

/// How long it may take until all replicas are in rotation.
const PATIENCE: Duration = Duration::from_secs(60);

/// How `lb` starts its replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Provider {
    /// As child processes of lb
    Process,
    /// As containers; the image must exist
    Docker,
    /// a3 only: as services of a Docker Swarm of several nodes on this machine, which bench builds (as root)
    Swarm,
}

/// The token of an `lb` that listens beyond loopback.
pub(crate) const TOKEN: &str = "a-token-of-bench";

/// A running `lb` with its replicas, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Lb {
    /// The address of its data port.
    pub(crate) data: SocketAddr,
    /// The address of its control port.
    pub(crate) control: SocketAddr,
    program: Program,
}

impl Lb {
    /// Starts `lb serve` with these flags on free ports, and waits until all its replicas are in rotation.
    ///
    /// # Errors
    /// It is not built, or does not become ready; the message has its last lines.
    pub(crate) async fn start(flags: &[String], core: Option<usize>) -> anyhow::Result<Self> {
        Lb::launch(flags, core).await?.ready().await
    }

    /// Starts it like [`Lb::start`], and does not wait for its replicas.
    ///
    /// # Errors
    /// It is not built, or cannot listen; the message has its last lines.
    pub(crate) async fn launch(flags: &[String], core: Option<usize>) -> anyhow::Result<Self> {
        Lb::launched(&Lb::command(flags)?, core).await
    }

    /// Starts it like [`Lb::start`], with an allocator that gives memory back to the kernel at once (mallopt(3)), so that what the
    /// kernel shows is what the program holds. Otherwise each new peak of what it holds for a moment looks like growth.
    ///
    /// # Errors
    /// As for [`Lb::start`].
    pub(crate) async fn start_lean(flags: &[String]) -> anyhow::Result<Self> {
        let mut command = Lb::command(flags)?;
        command.env("MALLOC_ARENA_MAX", "1").env("MALLOC_TOP_PAD_", "0");
        command.env("MALLOC_TRIM_THRESHOLD_", "16384").env("MALLOC_MMAP_THRESHOLD_", "16384");
        Lb::launched(&command, None).await?.ready().await
    }

    fn command(flags: &[String]) -> anyhow::Result<Command> {
        let mut command = Command::new(sibling("lb")?);
        command.args(["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
        command.args(["--drain-timeout", "1s"]).args(flags);
        Ok(command)
    }

    /// Starts it in the network namespace of a container, where it needs [`TOKEN`]; `engine` is as in `DOCKER_HOST`. Waits until all
    /// its replicas are in rotation.
    ///
    /// # Errors
    /// As for [`Lb::start`].
    pub(crate) async fn start_at(place: &Place, engine: &str, flags: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::new("nsenter");
        command.env("DOCKER_HOST", engine).arg(format!("--net=/proc/{}/ns/net", place.pid));
        command.arg(sibling("lb")?).args(["serve", "--control-token", TOKEN, "--drain-timeout", "1s"]);
        let address = place.listen().to_string();
        command.args(["--listen", &address, "--control", &address]).args(flags);
        Lb::launched(&command, None).await?.ready().await
    }

    /// Waits until all its replicas are in rotation.
    async fn ready(self) -> anyhow::Result<Self> {
        self.program.says(" ready data=", PATIENCE).await?;
        Ok(self)
    }

    async fn launched(command: &Command, core: Option<usize>) -> anyhow::Result<Self> {
        let program = Program::start(command, core)?;
        let line = program.says("listening data=", PATIENCE).await?;
        Ok(Lb { data: address_in(&line, "data=")?, control: address_in(&line, "control=")?, program })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// The address of its metrics, where it was started with `--metrics`.
    ///
    /// # Errors
    /// It does not print one.
    pub(crate) async fn metrics(&self) -> anyhow::Result<SocketAddr> {
        address_in(&self.program.says("metrics port", PATIENCE).await?, "address=")
    }

    /// The last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        self.program.last_words()
    }

    /// Ends it with SIGTERM, and waits for it; returns how it ended.
    ///
    /// # Errors
    /// It cannot be ended.
    pub(crate) fn finish(self) -> io::Result<ExitStatus> {
        self.program.finish()
    }
}

/// The address behind `name` in a line of its log.
fn address_in(line: &str, name: &str) -> anyhow::Result<SocketAddr> {
    let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
    word.and_then(|word| word.parse().ok()).with_context(|| format!("lb prints no address: {line}"))
}
