//! Replicas as child processes.
//!
//! Each child is started through a small program of our own ([`child`]), which has the kernel kill it when `lb` dies,
//! and leads a process group of its own, so that Ctrl-C in a terminal reaches `lb` alone and a stop reaches all that
//! the child has started. What a child prints is logged under its hostname. Its exit is an event, not a poll.

pub(crate) mod child;
mod ports;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use proto::control::Hostname;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::info;

use self::ports::Ports;
use crate::control::fleet::{Event, ReplicaId, Stopping};
use crate::control::{Mailbox, Message};

/// How long a child may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// The longest piece of a child's output in one line of the log, in bytes.
const LOG_LINE: usize = 4096;

/// Starts child processes.
#[derive(Debug)]
pub(crate) struct Process {
    /// What to run, for `sh -c`; `None` is the built-in demo server.
    command: Option<String>,
    ports: Ports,
    children: TaskTracker,
}

impl Process {
    pub(crate) fn new(command: Option<String>) -> Self {
        Process { command, ports: Ports::new(), children: TaskTracker::new() }
    }

    pub(super) fn start(
        &mut self,
        id: ReplicaId,
        hostname: Hostname,
        mailbox: Mailbox,
        stop: oneshot::Receiver<Stopping>,
    ) {
        let spawned = self.spawn(&hostname);
        self.children.spawn(async move {
            let end = match spawned {
                Err(error) => format!("cannot be started: {error}"),
                Ok((child, address)) => {
                    // To send fails only if the program is ending.
                    let _ = mailbox.send(Message::Started(id, address)).await;
                    let status = keep(child, stop, &hostname).await;
                    status.map_or_else(|error| error.to_string(), |status| format!("ended with {status}"))
                }
            };
            let _ = mailbox.send(Message::Event(Event::Lost(id, end))).await;
        });
    }

    /// The child, and where it was told to listen.
    fn spawn(&mut self, hostname: &Hostname) -> std::io::Result<(Child, SocketAddr)> {
        let port = self.ports.next_free()?;
        let mut command = Command::new(child::PROGRAM);
        command.arg0("lb-replica").args(child::arguments(self.command.as_deref(), port));
        command
            .env("PORT", port.to_string())
            .env("SERVER_ID", hostname.as_str())
            .env_remove("LB_CONTROL_TOKEN");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        Ok((child, (Ipv4Addr::LOCALHOST, port).into()))
    }

    /// Waits until no child is left.
    pub(super) async fn stopped(&self) {
        self.children.close();
        self.children.wait().await;
    }
}

/// Stays with a child until it has ended, by itself or because it was told to.
async fn keep(
    mut child: Child,
    stop: oneshot::Receiver<Stopping>,
    hostname: &Hostname,
) -> std::io::Result<ExitStatus> {
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(stdout) = child.stdout.take() {
        tokio::spawn(log_output(stdout, hostname.clone(), "stdout"));
    }
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(log_output(stderr, hostname.clone(), "stderr"));
    }
    let status = tokio::select! {
        status = child.wait() => status,
        how = stop => end(&mut child, group, how.unwrap_or(Stopping::AtOnce)).await,
    };
    // What the child has started and left behind.
    signal(group, Signal::KILL);
    status
}

async fn end(child: &mut Child, group: Option<Pid>, how: Stopping) -> std::io::Result<ExitStatus> {
    if how == Stopping::Gently {
        signal(group, Signal::TERM);
        if let Ok(status) = timeout(GRACE, child.wait()).await {
            return status;
        }
    }
    signal(group, Signal::KILL);
    child.wait().await
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // There may be nobody left.
        let _ = kill_process_group(group, signal);
    }
}

/// Logs what a child prints, line by line; of a long line, piece by piece.
async fn log_output(output: impl AsyncRead + Unpin, hostname: Hostname, stream: &'static str) {
    let mut output = BufReader::with_capacity(LOG_LINE, output);
    while let Ok(waiting) = output.fill_buf().await {
        if waiting.is_empty() {
            return;
        }
        let line = waiting.split_inclusive(|&byte| byte == b'\n').next().unwrap_or(waiting);
        let length = line.len();
        info!(%hostname, stream, "{}", String::from_utf8_lossy(line).trim_end());
        output.consume(length);
    }
}
