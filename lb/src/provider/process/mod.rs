//! Replicas as child processes.
//!
//! Each child begins as `lb` itself ([`child`]), which asks the kernel to kill it when `lb` dies. It leads a process group of its own: Ctrl-C in
//! a terminal reaches `lb` alone, and a stop reaches everything that the child has started. Its output is logged under its
//! hostname ([`output`]).

pub(crate) mod child;
pub(crate) mod errand;
pub(crate) mod guardian;
pub(crate) mod inspect;
pub(crate) mod kindred;
mod line;
mod output;
mod ports;
pub(crate) mod reaper;
mod ward;

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fleet::{ReplicaId, Stopping};
use proto::control::Hostname;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{ChildStdin, Command};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::inspect::Inspector;
use self::kindred::{Heir, Kin, Kindred, Portrait};
use self::line::Line;
use self::output::Outputs;
use self::ports::Ports;
use self::reaper::{Children, Mark};
use self::ward::{Body, Ward};
use super::doors::{Door, Doors};
use super::{Carrier, Reach, Report, Reports, Wishes};
use crate::log::TOLD;
use crate::net::is_local;
use crate::systemd;

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
    kindred: Arc<Kindred>,
}

impl Process {
    /// The provider of children that run `command`. It notes them among `children` and `kindred`; those that were handed over are there.
    ///
    /// # Errors
    /// There can be no thread for their output.
    pub(crate) fn new(
        command: Option<String>,
        doors: Option<Doors>,
        (children, kindred): (Children, Arc<Kindred>),
    ) -> io::Result<Self> {
        let outputs = Outputs::start(Arc::clone(&kindred.quiet))?;
        let (ports, keepers) = (Ports::new(), TaskTracker::new());
        Ok(Process { command, ports, doors, keepers, children, outputs, kindred })
    }

    pub(super) fn start(&mut self, id: ReplicaId, hostname: Hostname, reports: Reports, wishes: Wishes) {
        let (begun, door) = self.begin(&hostname);
        self.keepers.spawn(async move {
            let end = match begun {
                Err(error) if is_local(&error) => {
                    warn!(target: TOLD, %hostname, %error, "process cannot be started");
                    let reason = format!("cannot be started: {error}");
                    let _ = reports.send(Report::Hindered(id, reason)).await;
                    return;
                }
                Err(error) => {
                    warn!(target: TOLD, %hostname, %error, "process cannot be started");
                    format!("cannot be started: {error}")
                }
                Ok((family, inspector)) => {
                    let reach = Reach {
                        addresses: SocketAddr::from((Ipv4Addr::LOCALHOST, inspector.port)).into(),
                        door: door.as_ref().map(|door| door.path().to_owned()),
                        carrier: Some(Carrier::Process(
                            family.kin.group.as_raw_nonzero().get().cast_unsigned(),
                        )),
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

    /// Takes a child over that was handed over, or spawns one.
    fn begin(&mut self, hostname: &Hostname) -> (io::Result<(Family, Inspector)>, Option<Door>) {
        if let Some((heir, line)) = self.kindred.adopt(hostname) {
            let name = heir.portrait.door.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
            let door = self.doors.as_ref().zip(name).and_then(|(doors, name)| doors.known(name));
            return (self.adopt(heir, line), door);
        }
        let door = self.doors.as_ref().map(Doors::fresh);
        (self.spawn(hostname, door.as_ref()), door)
    }

    fn adopt(&self, heir: Heir, line: Arc<Line>) -> io::Result<(Family, Inspector)> {
        let Portrait { hostname, pid, port, door, streams, .. } = heir.portrait;
        let group = Pid::from_raw(pid).ok_or_else(|| io::Error::other("it has no process id"))?;
        let mut kin = Kin::new(hostname, group, port, door);
        for (pipe, name) in heir.outputs.into_iter().zip(&streams) {
            kin.outputs.push(self.outputs.log(pipe, &kin.hostname, name)?);
        }
        kin.line = Some(Arc::clone(&line));
        let body = Body::Ward(Ward::new(heir.process, pid, line)?);
        let family = Family::of(body, Arc::new(kin), (Arc::clone(&self.kindred), None));
        Ok((family, Inspector { group, port }))
    }

    /// Spawns a child, which is told at which port of 127.0.0.1 to listen.
    fn spawn(&mut self, hostname: &Hostname, door: Option<&Door>) -> io::Result<(Family, Inspector)> {
        let port = self.ports.next_free()?;
        let mut command = Command::new(child::PROGRAM);
        command.arg0("lb-replica").args(child::arguments(self.command.as_deref(), port, hostname));
        command.env("PORT", port.to_string()).env("SERVER_ID", hostname.as_str());
        withhold(&mut command);
        match door {
            Some(door) => command.env(handoff::VARIABLE, door.path()),
            // It is set if this lb is itself a replica.
            None => command.env_remove(handoff::VARIABLE),
        };
        // The guard of a command's group waits for the end of this pipe. The demo server needs none.
        command.stdin(if self.command.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let group = group.ok_or_else(|| io::Error::other("it has no process id"))?;
        let mark = self.children.mark(group);
        let mut kin = Kin::new(hostname.clone(), group, port, door.map(|door| door.path().to_owned()));
        kin.pipe = child.stdin.take().map(ChildStdin::into_owned_fd).transpose()?;
        let outputs = self.outputs.follow(&mut child, hostname);
        let is_followed = outputs.as_ref().map(drop).map_err(|error| io::Error::from(error.kind()));
        kin.outputs = outputs.unwrap_or_default();
        let family = Family::of(Body::Own(child), Arc::new(kin), (Arc::clone(&self.kindred), Some(mark)));
        is_followed?;
        Ok((family, Inspector { group, port }))
    }

    /// Waits until all children have ended.
    pub(super) async fn stopped(&self) {
        self.keepers.close();
        self.keepers.wait().await;
        self.outputs.ended().await;
    }
}

/// Keeps secrets from a child, and lets it not speak to systemd for `lb`.
fn withhold(command: &mut Command) {
    for variable in ["LB_CONTROL_TOKEN", "LB_HASH_SEED"].iter().chain(&systemd::VARIABLES) {
        command.env_remove(variable);
    }
}

/// A child and everything that it has started. Dropping it kills them, unless another process holds them.
struct Family {
    body: Body,
    kin: Arc<Kin>,
    kindred: Arc<Kindred>,
    status: Option<i32>,
    _mark: Option<Mark>,
}

impl Family {
    fn of(body: Body, kin: Arc<Kin>, (kindred, mark): (Arc<Kindred>, Option<Mark>)) -> Self {
        kindred.join(&kin);
        Family { body, kin, kindred, status: None, _mark: mark }
    }

    fn signal(&self, signal: Signal) {
        // It fails if the group is empty.
        let _ = kill_process_group(self.kin.group, signal);
    }

    /// Waits for the end of the child itself.
    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.body.wait().await;
        self.status = status.as_ref().ok().map(|status| status.into_raw());
        status
    }

    async fn end(&mut self, how: Stopping, hostname: &Hostname) -> io::Result<ExitStatus> {
        if how == Stopping::Gently {
            self.signal(Signal::TERM);
            if let Ok(status) = timeout(GRACE, self.ended()).await {
                return status;
            }
            let grace = GRACE.as_secs_f64();
            warn!(%hostname, grace, "the process or one that it started still runs after SIGTERM: they are killed");
        }
        self.signal(Signal::KILL);
        self.wait().await
    }

    /// Waits for the end of the child and of everything that it has started: the child may be only a shell.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.wait().await;
        while inspect::runs(self.kin.group).await {
            sleep(GROUP_LOOK).await;
        }
        status
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        // This process is about to become its guardian, or to end.
        if self.kin.is_handed() && self.status.is_none() {
            return;
        }
        // If it has ended, what it has started goes with it.
        self.signal(Signal::KILL);
        self.kindred.leave(&self.kin, self.status);
    }
}

/// Waits until a child has ended, and ends it when it is told to. Logs and returns how it ended.
async fn keep(mut family: Family, mut wishes: Wishes, hostname: &Hostname) -> String {
    let how = |status: io::Result<ExitStatus>| {
        status.map_or_else(|error| error.to_string(), |status| format!("ended with {status}"))
    };
    loop {
        tokio::select! {
            status = family.wait() => {
                let end = how(status);
                warn!(target: TOLD, %hostname, reason = end, "process {end}");
                return end;
            }
            stopping = &mut wishes.stop => {
                if stopping.is_err() && family.kin.is_handed() {
                    // Another process holds it, and this one is about to end.
                    return how(family.wait().await);
                }
                let end = how(family.end(stopping.unwrap_or(Stopping::AtOnce), hostname).await);
                info!(%hostname, reason = end, "process {end}");
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
