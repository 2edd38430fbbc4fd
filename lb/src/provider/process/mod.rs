//! Replicas as child processes.
//!
//! Each child begins as `lb` itself ([`child`]), which asks the kernel to kill it when `lb` dies. It leads a process group of its own: Ctrl-C in
//! a terminal reaches `lb` alone, and a stop reaches everything that the child has started. Its output is logged under its
//! hostname ([`output`]).

pub(crate) mod child;
pub(crate) mod inspect;
mod output;
mod ports;
pub(crate) mod reaper;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use fleet::{ReplicaId, Stopping};
use proto::control::Hostname;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::inspect::Inspector;
use self::output::Outputs;
use self::ports::Ports;
use self::reaper::{Children, Mark};
use super::doors::{Door, Doors};
use super::{Carrier, Reach, Report, Reports, Wishes};
use crate::log::TOLD;
use crate::net::is_local;

/// How long a child may take to end after SIGTERM. Then it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How often `lb` checks whether a process group is empty. (The kernel does not report the end of a grandchild.)
const GROUP_LOOK: Duration = Duration::from_millis(20);

/// Open files beside those of each replica: the runtime of the thread that reads their output.
pub(crate) const FILES: usize = 4;

/// The provider of child processes.
#[derive(Debug)]
pub(crate) struct Process {
    /// The command for `sh -c`; `None` is the built-in demo server.
    command: Option<String>,
    ports: Ports,
    /// Where the children take connections over; `None` with `--transport proxy`.
    doors: Option<Doors>,
    keepers: TaskTracker,
    children: Children,
    outputs: Outputs,
}

impl Process {
    /// The provider of children that run `command`. It notes them among `children`.
    ///
    /// # Errors
    /// There can be no thread for their output.
    pub(crate) fn new(command: Option<String>, doors: Option<Doors>, children: Children) -> io::Result<Self> {
        let outputs = Outputs::start()?;
        Ok(Process { command, ports: Ports::new(), doors, keepers: TaskTracker::new(), children, outputs })
    }

    pub(super) fn start(&mut self, id: ReplicaId, hostname: Hostname, reports: Reports, wishes: Wishes) {
        let door = self.doors.as_ref().map(Doors::fresh);
        let spawned = self.spawn(&hostname, door.as_ref());
        self.keepers.spawn(async move {
            let end = match spawned {
                Err(error) if is_local(&error) => {
                    let reason = format!("cannot be started: {error}");
                    warn!(target: TOLD, %hostname, "process {reason}");
                    let _ = reports.send(Report::Hindered(id, reason)).await;
                    return;
                }
                Err(error) => {
                    let reason = format!("cannot be started: {error}");
                    warn!(target: TOLD, %hostname, "process {reason}");
                    reason
                }
                Ok((family, inspector)) => {
                    let reach = Reach {
                        addresses: SocketAddr::from((Ipv4Addr::LOCALHOST, inspector.port)).into(),
                        door: door.as_ref().map(|door| door.path().to_owned()),
                        carrier: family.child.id().map(Carrier::Process),
                        inspector: inspector.into(),
                    };
                    // It fails only if the program ends.
                    let _ = reports.send(Report::Started(id, reach)).await;
                    keep(family, wishes, &hostname).await
                }
            };
            door.into_iter().for_each(Door::remove);
            let _ = reports.send(Report::Lost(id, end)).await;
        });
    }

    /// Spawns a child, which is told at which port of 127.0.0.1 to listen.
    fn spawn(&mut self, hostname: &Hostname, door: Option<&Door>) -> io::Result<(Family, Inspector)> {
        let port = self.ports.next_free()?;
        let mut command = Command::new(child::PROGRAM);
        command.arg0("lb-replica").args(child::arguments(self.command.as_deref(), port, hostname));
        command
            .env("PORT", port.to_string())
            .env("SERVER_ID", hostname.as_str())
            .env_remove("LB_CONTROL_TOKEN")
            .env_remove("LB_HASH_SEED");
        match door {
            Some(door) => command.env(handoff::VARIABLE, door.path()),
            // It is set if this lb is itself a replica.
            None => command.env_remove(handoff::VARIABLE),
        };
        // The guard of a command's group waits for the end of this pipe. The demo server needs none.
        command.stdin(if self.command.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut family = Family::of(command.process_group(0).spawn()?, &self.children)?;
        self.outputs.follow(&mut family.child, hostname)?;
        let inspector = Inspector { group: family.group, port };
        Ok((family, inspector))
    }

    /// Waits until all children have ended.
    pub(super) async fn stopped(&self) {
        self.keepers.close();
        self.keepers.wait().await;
        self.outputs.ended().await;
    }
}

/// A child and everything that it has started. Dropping it kills them.
struct Family {
    child: Child,
    /// The process group that the child leads.
    group: Pid,
    /// Closed with `lb`, which tells the guard of the group.
    _lifeline: Option<ChildStdin>,
    _mark: Mark,
}

impl Family {
    fn of(mut child: Child, children: &Children) -> io::Result<Self> {
        let lifeline = child.stdin.take();
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = group.ok_or_else(|| io::Error::other("it has no process id"))?;
        Ok(Family { child, group, _lifeline: lifeline, _mark: children.mark(group) })
    }

    fn signal(&self, signal: Signal) {
        // It fails if the group is empty.
        let _ = kill_process_group(self.group, signal);
    }

    async fn end(&mut self, how: Stopping, hostname: &Hostname) -> io::Result<ExitStatus> {
        if how == Stopping::Gently {
            self.signal(Signal::TERM);
            if let Ok(status) = timeout(GRACE, self.ended()).await {
                return status;
            }
            warn!(%hostname, "the process or one that it started still runs {GRACE:?} after SIGTERM: they are killed");
        }
        self.signal(Signal::KILL);
        self.child.wait().await
    }

    /// Waits for the end of the child and of everything that it has started: the child may be only a shell.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        while inspect::runs(self.group).await {
            sleep(GROUP_LOOK).await;
        }
        status
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Waits until a child has ended, and ends it when it is told to. Logs and returns how it ended.
async fn keep(mut family: Family, mut wishes: Wishes, hostname: &Hostname) -> String {
    let how = |status: io::Result<ExitStatus>| {
        status.map_or_else(|error| error.to_string(), |status| format!("ended with {status}"))
    };
    loop {
        tokio::select! {
            status = family.child.wait() => {
                let end = how(status);
                warn!(target: TOLD, %hostname, "process {end}");
                return end;
            }
            stopping = &mut wishes.stop => {
                let end = how(family.end(stopping.unwrap_or(Stopping::AtOnce), hostname).await);
                info!(%hostname, "process {end}");
                return end;
            }
            Some(done) = wishes.kill.recv() => {
                family.signal(Signal::KILL);
                // The client may have gone.
                let _ = done.send(Ok(()));
            }
        }
    }
}
